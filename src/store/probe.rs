//! The write probe: whether the database can be written.

use super::{
    PoolStore, StoreError,
    item::{key, number},
};
use crate::clock::UnixSeconds;

const PROBE: &str = "PROBE";

impl PoolStore {
    /// Writes an item to the companion table that nothing reads.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be written, such as on a full disk.
    pub async fn probe_write(&self, now: UnixSeconds) -> Result<(), StoreError> {
        let mut item = key(PROBE.to_owned(), PROBE);
        item.insert("probed_at".to_owned(), number(now.0));
        let call = self.put_companion_item(item);
        let _slot = self.slot().await;
        Box::pin(call.send())
            .await
            .map_err(|error| StoreError::from_sdk("PutItem", error))?;
        Ok(())
    }
}
