//! Counts and lists of sandboxes for operators.

use super::{Broker, BrokerError};
use crate::{
    domain::{LabId, PoolSnapshot, Sandbox, Status},
    store::{Listed, Listing, Position, UnreadableItem},
};

impl Broker {
    /// Returns the number of sandboxes in each status, and of unreadable items.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn stats(&self) -> Result<PoolSnapshot, BrokerError> {
        let store = self.store.admit_read()?;
        let (counts, unreadable) = tokio::try_join!(store.counts(), store.unreadable())?;
        Ok(PoolSnapshot {
            counts,
            unreadable,
            at: self.clock.now(),
        })
    }

    /// Returns a page of at most `limit` items from `start` on: the sandboxes in `status` whose id, name, lab or caller
    /// contains `text`, which must be in lower case, and the unreadable items that contain it anywhere.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn list(
        &self,
        status: Option<Status>,
        limit: usize,
        start: Option<Position>,
        text: Option<String>,
    ) -> Result<Listing, BrokerError> {
        let search = text.map(|text| {
            move |listed: &Listed| match listed {
                Ok(sandbox) => contains(sandbox, &text),
                Err(item) => contains_anywhere(item, &text),
            }
        });
        let store = self.store.admit_read()?;
        Ok(store.list(status, limit, start, search).await?)
    }
}

fn contains_anywhere(item: &UnreadableItem, text: &str) -> bool {
    let attributes = serde_json::Value::from(item.attributes.clone());
    attributes.to_string().to_lowercase().contains(text)
}

fn contains(sandbox: &Sandbox, text: &str) -> bool {
    let holder = sandbox.holder.as_ref();
    let fields = [
        Some(sandbox.id().as_str()),
        Some(sandbox.account.name.as_str()),
        holder.map(|holder| holder.caller.as_str()),
        holder
            .and_then(|holder| holder.lab.as_ref())
            .map(LabId::as_str),
    ];
    fields
        .into_iter()
        .flatten()
        .any(|field| field.to_lowercase().contains(text))
}
