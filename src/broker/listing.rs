//! Counts and lists of sandboxes for operators.

use super::{Broker, BrokerError};
use crate::{
    domain::{LabId, PoolCounts, Sandbox, Status},
    store::{Listing, Position},
};

impl Broker {
    /// Returns the number of sandboxes in each status.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn stats(&self) -> Result<PoolCounts, BrokerError> {
        Ok(self.store.counts().await?)
    }

    /// Returns a page of at most `limit` sandboxes from `start` on: those in `status` whose id, name, lab or caller
    /// contains `text`, which must be in lower case.
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
        let search = text.map(|text| move |sandbox: &Sandbox| contains(sandbox, &text));
        let _reader = self.store.admit_reader()?;
        Ok(self.store.list(status, limit, start, search).await?)
    }
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
