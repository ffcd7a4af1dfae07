//! Changes of one sandbox that are decided on its stored state, each in one transaction.
//!
//! The conditions of the transaction are the state that the change was decided on. If another writer has changed the
//! sandbox or its claim since it was read, the change is decided again on the item that the refusal contains. So the
//! sandbox that is returned is the one that the transaction left in the table.

use std::error::Error;

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::{
    PoolStore, StoreError,
    error::is_failed_check,
    item::{self, StoredClaim},
    transaction::{OPERATION, Transaction},
};
use crate::domain::{Sandbox, SandboxId};

/// Attempts, each of which failed because another writer had changed the sandbox or the claim since they were read.
const ATTEMPTS: u32 = 8;

pub(super) type Fault = Box<dyn Error + Send + Sync>;

/// The outcome of a change that was decided on the stored state. `R` is the reason why nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided<R> {
    /// The change was made. Contains the sandbox after the write.
    Done(Box<Sandbox>),
    /// The change does not apply to the sandbox.
    Refused(R),
    /// The item of the sandbox is unreadable.
    Unreadable,
    /// There is no such sandbox.
    NotFound,
}

/// A change of one sandbox.
pub(super) trait Decision {
    /// Why nothing is written.
    type Refusal;

    /// Returns the sandbox after the change. `claim` is the stored claim of its holder, once the condition on it has
    /// failed; until then it is believed to point to the allocation.
    fn apply(
        &self,
        stored: &Sandbox,
        claim: Option<&StoredClaim>,
    ) -> Result<Sandbox, Self::Refusal>;

    /// Returns the actions of the transaction: the update of the sandbox, then the write of the claim if there is one,
    /// then writes without a condition. Those with a condition return the item that fails it.
    fn actions(
        &self,
        store: &PoolStore,
        stored: &Sandbox,
        after: &Sandbox,
        claim: Option<&StoredClaim>,
    ) -> Result<Vec<TransactWriteItem>, Fault>;

    /// Returns the refusal if the condition failed on the very item that the change was decided on; `None` if that
    /// cannot happen.
    fn refused_as_read(&self) -> Option<Self::Refusal>;
}

impl PoolStore {
    /// Makes a change of a sandbox. This takes a read and a transaction, and a further one for each write that came
    /// between them.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the change was made is then unknown.
    pub(super) async fn decide<D: Decision>(
        &self,
        id: &SandboxId,
        decision: &D,
    ) -> Result<Decided<D::Refusal>, StoreError> {
        let key = item::sandbox_key(id);
        let mut found = self.get_item(&self.table.name, key).await?;
        let mut claim = None;
        for _ in 0..ATTEMPTS {
            let Some(item) = found else {
                return Ok(Decided::NotFound);
            };
            let Ok(stored) = self.read(&item) else {
                return Ok(Decided::Unreadable);
            };
            let after = match decision.apply(&stored, claim.as_ref()) {
                Ok(after) => after,
                Err(refusal) => return Ok(Decided::Refused(refusal)),
            };
            let actions = decision
                .actions(self, &stored, &after, claim.as_ref())
                .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
            let reasons = match self.transact(actions).await? {
                Transaction::Done => return Ok(Decided::Done(Box::new(after))),
                Transaction::Refused(reasons) => reasons,
            };
            let mut failed = reasons
                .iter()
                .map(|reason| is_failed_check(reason).then(|| reason.item().cloned()));
            let (of_sandbox, of_claim) = (failed.next().flatten(), failed.next().flatten());
            if let Some(stored_claim) = of_claim {
                claim = Some(StoredClaim::read(stored_claim));
            }
            found = match of_sandbox {
                None => Some(item),
                Some(now) if now.as_ref() == Some(&item) => {
                    let fault =
                        "the condition of a change failed on the item that it was decided on";
                    return decision
                        .refused_as_read()
                        .map(Decided::Refused)
                        .ok_or_else(|| StoreError::unexpected(OPERATION, fault));
                }
                Some(now) => now,
            };
        }
        let fault = "other writers changed the sandbox between every read and write";
        Err(StoreError::unavailable(OPERATION, fault))
    }
}
