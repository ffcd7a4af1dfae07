//! Release of a sandbox by its holder.

use super::{Broker, BrokerError};
use crate::{
    clock::UnixSeconds,
    domain::{CallerId, NamePrefix, Principal, Sandbox, SandboxId, Status},
    store::Release,
};

/// A sandbox that its holder has released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasedSandbox {
    /// Its id.
    pub sandbox_id: SandboxId,
    /// Its status; `None` once it is deleted.
    pub status: Option<Status>,
    /// When its deletion was requested.
    pub deletion_requested_at: Option<UnixSeconds>,
    /// The sandbox that the holder received in its place, and may still hold.
    pub replaced_by: Option<SandboxId>,
}

impl From<Sandbox> for ReleasedSandbox {
    fn from(sandbox: Sandbox) -> Self {
        Self {
            sandbox_id: sandbox.account.sandbox_id,
            status: Some(sandbox.status),
            deletion_requested_at: sandbox.deletion_requested_at,
            replaced_by: sandbox.lease.replaced_by,
        }
    }
}

impl Broker {
    /// Releases a sandbox in the name of the principal `by`, within its bounds. Releasing it again succeeds; after its
    /// deletion only if it was replaced, because its holder may not know yet which sandbox to release.
    ///
    /// # Errors
    /// As for [`get`](Self::get), and [`BrokerError::Expired`].
    pub async fn release(
        &self,
        id: &SandboxId,
        caller: &CallerId,
        by: &Principal,
    ) -> Result<ReleasedSandbox, BrokerError> {
        let (outcome, released) = match self.try_to_release(id, caller, by).await {
            Ok(Release::Released(sandbox)) => ("success", Ok(sandbox.into())),
            Ok(Release::Repeated(sandbox)) => ("idempotent", Ok(sandbox.into())),
            Ok(Release::Expired(sandbox)) => {
                let expires_at = sandbox.expires_at;
                ("expired", Err(BrokerError::Expired { expires_at }))
            }
            Ok(Release::NotOwner) | Err(BrokerError::NotOwner) => {
                ("not_owner", Err(BrokerError::NotOwner))
            }
            Ok(Release::NotFound) | Err(BrokerError::NotFound) => {
                match self.find_replaced(id, caller, by).await {
                    Ok(Some(replaced)) => ("idempotent", Ok(replaced)),
                    Ok(None) => ("not_found", Err(BrokerError::NotFound)),
                    Err(error) => ("error", Err(error)),
                }
            }
            Err(BrokerError::NotAllowed) => ("lab_not_allowed", Err(BrokerError::NotAllowed)),
            Err(error) => ("error", Err(error)),
        };
        let counted = &self.metrics.deletion_marked;
        counted.with_label_values(&[outcome]).inc();
        released
    }

    async fn try_to_release(
        &self,
        id: &SandboxId,
        caller: &CallerId,
        by: &Principal,
    ) -> Result<Release, BrokerError> {
        // The bounds need no part in the condition of the write. It requires that the caller holds the sandbox, whose
        // lab was written by the allocation: it is the allocation that was read, because a sandbox has one at most.
        if !by.bounds.is_empty() {
            self.get(id, caller, &by.bounds).await?;
        }
        let now = self.clock.now();
        let release = self.store.release(id, caller, &by.name, self.terms, now);
        Ok(release.await?)
    }

    /// Returns a sandbox that was deleted after it had been replaced for the caller, from its tombstone.
    async fn find_replaced(
        &self,
        id: &SandboxId,
        caller: &CallerId,
        by: &Principal,
    ) -> Result<Option<ReleasedSandbox>, BrokerError> {
        let tombstone = self.store.find_tombstone(id).await?;
        Ok(tombstone.and_then(|tombstone| {
            let holder = tombstone.last_holder()?;
            let name = tombstone.name.as_deref().map(NamePrefix::stored);
            let is_theirs = &holder.caller == caller
                && by.bounds.allow_lab(holder.lab.as_ref())
                && by.bounds.allow_prefix(name.as_ref());
            let replaced_by = tombstone.lease().replaced_by.filter(|_| is_theirs)?;
            Some(ReleasedSandbox {
                sandbox_id: id.clone(),
                status: None,
                deletion_requested_at: tombstone.deletion_requested_at.map(UnixSeconds),
                replaced_by: Some(replaced_by),
            })
        }))
    }
}
