//! Extensions of allocations, by the holder and by operators: one transaction of the sandbox and its claim, which
//! outlives the allocation.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{
        Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
        builders::UpdateBuilder,
    },
};

use super::{
    PoolStore, StoreError, StoredClaim,
    change::{SET, action},
    decision::{Decided, Decision, Fault},
    item::{self, claim_ttl, number, string},
    retire::{IS_SAME_ALLOCATION, seen_end},
};
use crate::{
    clock::UnixSeconds,
    domain::{ExtensionOrder, ExtensionRefusal, Sandbox, SandboxId, Status},
};

/// The claim of the pair that holds an extended sandbox, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HolderClaim {
    /// It points to the allocation, and its end is moved as well.
    Points,
    /// There is none, and it is written.
    Missing,
    /// It points elsewhere, and stays as it is.
    Elsewhere,
    /// It is unreadable, and stays as it is: its pair finds the sandbox by the index of callers.
    Unreadable,
}

impl HolderClaim {
    /// Returns the relation of a claim to the allocation of `sandbox`. One that has not been read is believed to point
    /// to it.
    pub(super) fn of(claim: Option<&StoredClaim>, sandbox: &Sandbox) -> Self {
        match claim {
            None => Self::Points,
            Some(StoredClaim::None) => Self::Missing,
            Some(StoredClaim::Unreadable) => Self::Unreadable,
            Some(claim) if claim.points_to(sandbox) => Self::Points,
            Some(StoredClaim::Readable(_)) => Self::Elsewhere,
        }
    }
}

/// The extension of an allocation by its holder.
#[derive(Debug)]
struct HoldersExtension<'a> {
    order: &'a ExtensionOrder<'a>,
    now: UnixSeconds,
}

impl Decision for HoldersExtension<'_> {
    type Refusal = ExtensionRefusal;

    fn apply(
        &self,
        stored: &Sandbox,
        _claim: Option<&StoredClaim>,
    ) -> Result<Sandbox, ExtensionRefusal> {
        self.order.apply(stored, self.now)
    }

    fn actions(
        &self,
        store: &PoolStore,
        stored: &Sandbox,
        after: &Sandbox,
        claim: Option<&StoredClaim>,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let update = store
            .extended_sandbox(stored, after)
            .condition_expression(format!(
                "{IS_SAME_ALLOCATION} AND allocated_to_track = :caller"
            ))
            .expression_attribute_values(":caller", string(self.order.caller.as_str()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let mut actions = vec![action(update)?];
        actions.extend(store.extended_claim(after, claim, self.order.grace)?);
        Ok(actions)
    }

    fn refused_as_read(&self) -> Option<ExtensionRefusal> {
        None
    }
}

impl PoolStore {
    /// Extends the allocation of a sandbox for its holder at `now`.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the allocation was extended is then unknown; a retry is safe.
    pub async fn extend(
        &self,
        id: &SandboxId,
        order: &ExtensionOrder<'_>,
        now: UnixSeconds,
    ) -> Result<Decided<ExtensionRefusal>, StoreError> {
        self.decide(id, &HoldersExtension { order, now }).await
    }

    /// Returns the update of an extended sandbox. It requires the allocation and the end that were read, so of two
    /// extensions at once the second one is decided again.
    pub(super) fn extended_sandbox(&self, stored: &Sandbox, after: &Sandbox) -> UpdateBuilder {
        let end = after.expires_at.unwrap_or_default();
        let now = after.lease.extended_at.unwrap_or_default();
        self.update(stored.id(), Status::Allocated, Status::Allocated, now)
            .update_expression(format!(
                "{SET}, expires_at = :end, lab_duration_hours = :hours, extensions = :extensions, extended_at = :now"
            ))
            .expression_attribute_values(":end", number(end.0))
            .expression_attribute_values(":hours", number(after.lab_duration_hours))
            .expression_attribute_values(":extensions", number(after.lease.extensions))
            .condition_expression(IS_SAME_ALLOCATION)
            .expression_attribute_values(":allocated_at", number(stored.allocated_at.0))
            .expression_attribute_values(":seen_end", seen_end(stored))
    }

    /// Returns the write of the claim of an extended allocation, unless the claim stays as it is.
    pub(super) fn extended_claim(
        &self,
        extended: &Sandbox,
        claim: Option<&StoredClaim>,
        grace: Duration,
    ) -> Result<Option<TransactWriteItem>, BuildError> {
        let Some(holder) = &extended.holder else {
            return Ok(None);
        };
        let (id, allocated_at) = (extended.id(), extended.allocated_at);
        let end = extended.expires_at.unwrap_or_default() + grace;
        let write = TransactWriteItem::builder();
        let write = match HolderClaim::of(claim, extended) {
            HolderClaim::Points => {
                let update = Update::builder()
                    .table_name(&self.table.companion)
                    .set_key(Some(item::claim_key(&holder.caller, &holder.key)))
                    .update_expression("SET expires_at = :end, #ttl = :ttl")
                    .expression_attribute_names("#ttl", "ttl")
                    .expression_attribute_values(":end", number(end.0))
                    .expression_attribute_values(":ttl", number(claim_ttl(end).0))
                    .condition_expression("sandbox_id = :sandbox AND allocated_at = :allocated_at")
                    .expression_attribute_values(":sandbox", string(id.as_str()))
                    .expression_attribute_values(":allocated_at", number(allocated_at.0))
                    .return_values_on_condition_check_failure(
                        ReturnValuesOnConditionCheckFailure::AllOld,
                    );
                write.update(update.build()?)
            }
            HolderClaim::Missing => {
                let put = Put::builder()
                    .table_name(&self.table.companion)
                    .set_item(Some(item::claim_item(id, holder, allocated_at, end)))
                    .condition_expression("attribute_not_exists(PK)")
                    .return_values_on_condition_check_failure(
                        ReturnValuesOnConditionCheckFailure::AllOld,
                    );
                write.put(put.build()?)
            }
            HolderClaim::Elsewhere | HolderClaim::Unreadable => return Ok(None),
        };
        Ok(Some(write.build()))
    }
}
