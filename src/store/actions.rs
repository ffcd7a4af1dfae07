//! The actions of operators on single sandboxes: one transaction each, with its audit records.
//!
//! The condition of the write is the state that the action was decided on: the status that it leaves and, of a sandbox
//! that is held, the allocation and its end. So the states before and after in the record are those of the table, and an
//! action never hits another allocation than the one that was read.

use std::{error::Error, time::Duration};

use aws_sdk_dynamodb::types::{
    Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, builders::UpdateBuilder,
};

use super::{
    PoolStore, StoreError,
    change::{NEVER_HELD, SET, action},
    error::is_failed_check,
    item::{self, QUARANTINE_ATTRIBUTES, StoredClaim, number, string},
    retire::{IS_SAME_ALLOCATION, RETIRE, seen_end},
    transaction::{OPERATION, Transaction},
};
use crate::{
    clock::UnixSeconds,
    domain::{
        ActionOrder, ActionRefusal, AuditRecord, AuditTarget, Holder, Sandbox, SandboxAction,
        SandboxId, Status,
    },
};

/// Attempts, each of which failed because another writer had changed the sandbox or the claim since they were read.
const ATTEMPTS: u32 = 8;

type Fault = Box<dyn Error + Send + Sync>;

/// The outcome of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionOutcome {
    /// The action was done. Contains the sandbox after the write.
    Done(Box<Sandbox>),
    /// The action does not apply to the sandbox.
    Refused(ActionRefusal),
    /// The item of the sandbox is unreadable.
    Unreadable,
    /// There is no such sandbox.
    NotFound,
}

/// The claim of the pair that holds an extended sandbox, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HolderClaim {
    /// It points to the allocation, and is replaced by one that ends later.
    Points,
    /// There is none, and it is written.
    Missing,
    /// It points elsewhere, and stays as it is.
    Elsewhere,
    /// It is unreadable, and stays as it is: its pair finds the sandbox by the index of callers.
    Unreadable,
}

impl HolderClaim {
    /// Returns the relation of a stored claim to the allocation of `sandbox`.
    fn of(stored: StoredClaim, sandbox: &Sandbox) -> Self {
        match stored {
            StoredClaim::None => Self::Missing,
            StoredClaim::Unreadable => Self::Unreadable,
            StoredClaim::Readable(target)
                if target.sandbox_id == sandbox.id().as_str()
                    && target.allocated_at == sandbox.allocated_at.0 =>
            {
                Self::Points
            }
            StoredClaim::Readable(_) => Self::Elsewhere,
        }
    }
}

impl PoolStore {
    /// Executes an action on a sandbox at `at_ms`, in Unix milliseconds. An allocation is overdue after `grace`.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the action was done is then unknown; a repeated one is refused with the status that it
    /// wanted if it was.
    pub async fn act(
        &self,
        id: &SandboxId,
        order: &ActionOrder,
        grace: Duration,
        at_ms: i64,
    ) -> Result<ActionOutcome, StoreError> {
        let now = UnixSeconds(at_ms.div_euclid(1000));
        let key = item::sandbox_key(id);
        let mut found = self.get_item(&self.table.name, key).await?;
        let mut claim = HolderClaim::Points;
        for _ in 0..ATTEMPTS {
            let Some(item) = found else {
                return Ok(ActionOutcome::NotFound);
            };
            let Ok(sandbox) = self.read(&item) else {
                return Ok(ActionOutcome::Unreadable);
            };
            let after = match order.apply(&sandbox, now) {
                Ok(after) => after,
                Err(refusal) => return Ok(ActionOutcome::Refused(refusal)),
            };
            let actions = self.actions_of(order, &sandbox, &after, claim, grace, at_ms)?;
            let reasons = match self.transact(actions).await? {
                Transaction::Done => return Ok(ActionOutcome::Done(Box::new(after))),
                Transaction::Refused(reasons) => reasons,
            };
            // The actions are the update of the sandbox, then, in an extension, the write of the claim.
            let [of_sandbox, of_claim, ..] = reasons.as_slice() else {
                return Err(StoreError::unexpected(
                    OPERATION,
                    "a refusal without reasons",
                ));
            };
            if is_failed_check(of_claim) {
                claim = HolderClaim::of(StoredClaim::read(of_claim.item().cloned()), &sandbox);
                // Its caller has another sandbox, so the allocation is over even though no job has retired it.
                if claim == HolderClaim::Elsewhere && sandbox.is_overdue(now, grace) {
                    return Ok(ActionOutcome::Refused(ActionRefusal::Replaced));
                }
            }
            if is_failed_check(of_sandbox) {
                let is_as_read = of_sandbox.item() == Some(&item);
                if is_as_read {
                    return refused_as_read(order.action);
                }
                found = of_sandbox.item().cloned();
            } else {
                found = Some(item);
            }
        }
        let fault = "other writers changed the sandbox between every read and write";
        Err(StoreError::unavailable(OPERATION, fault))
    }

    /// Returns the actions of the transaction: the update of the sandbox, the write of the claim if there is one, and
    /// the records.
    fn actions_of(
        &self,
        order: &ActionOrder,
        sandbox: &Sandbox,
        after: &Sandbox,
        claim: HolderClaim,
        grace: Duration,
        at_ms: i64,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let unexpected = |fault: Fault| StoreError::unexpected(OPERATION, fault);
        let update = self.action_update(order, sandbox, after);
        let update = update
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let mut actions = vec![action(update).map_err(|fault| unexpected(fault.into()))?];
        if let (SandboxAction::Extend { .. }, Some(holder)) = (order.action, &after.holder) {
            let write = self.extended_claim(after, holder, claim, grace);
            actions.extend(write.map_err(unexpected)?);
        }
        let target = AuditTarget::Sandbox(sandbox.id().clone());
        let kind = order.action.audit_action();
        actions.extend(self.audit_actions(&AuditRecord {
            reason: Some(order.reason.clone()),
            before: Some(sandbox.audit_state()),
            after: Some(after.audit_state()),
            ..AuditRecord::done(at_ms, order.author.clone(), kind, target)
        })?);
        Ok(actions)
    }

    fn action_update(
        &self,
        order: &ActionOrder,
        sandbox: &Sandbox,
        after: &Sandbox,
    ) -> UpdateBuilder {
        let now = after.maintenance.updated_at.unwrap_or_default();
        let update = self.update(sandbox.id(), sandbox.status, after.status, now);
        let by = string(&*order.author.name);
        let update = match order.action {
            SandboxAction::Release => update
                .update_expression(format!("{RETIRE}, released_by = :by"))
                .expression_attribute_values(":by", by),
            SandboxAction::Extend { .. } => {
                let end = after.expires_at.unwrap_or_default();
                update
                    .update_expression(format!(
                        "{SET}, expires_at = :end, lab_duration_hours = :hours"
                    ))
                    .expression_attribute_values(":end", number(end.0))
                    .expression_attribute_values(":hours", number(after.lab_duration_hours))
            }
            SandboxAction::Quarantine { until } => {
                let set = format!(
                    "{SET}, quarantined_by = :by, quarantined_at = :now, quarantine_reason = :reason, \
                     quarantined_from = :from"
                );
                let update = match until {
                    Some(until) => update
                        .update_expression(format!("{set}, quarantined_until = :until"))
                        .expression_attribute_values(":until", number(until.0)),
                    None => update.update_expression(format!("{set} REMOVE quarantined_until")),
                };
                update
                    .expression_attribute_values(":by", by)
                    .expression_attribute_values(":reason", string(order.reason.as_str()))
            }
            SandboxAction::Restore => {
                update.update_expression(format!("{SET} REMOVE {QUARANTINE_ATTRIBUTES}"))
            }
            SandboxAction::Delete => update
                .update_expression(format!(
                    "{RETIRE}, released_by = :by, deletion_retry_count = :none REMOVE next_deletion_at"
                ))
                .expression_attribute_values(":by", by)
                .expression_attribute_values(":none", number(0)),
        };
        match (order.action, after.status) {
            (SandboxAction::Restore, _) => restorable(update, after.status),
            _ if sandbox.status == Status::Allocated => update
                .condition_expression(IS_SAME_ALLOCATION)
                .expression_attribute_values(":allocated_at", number(sandbox.allocated_at.0))
                .expression_attribute_values(":seen_end", seen_end(sandbox)),
            _ => update.condition_expression("#status = :from"),
        }
    }

    /// Returns the write of the claim of an extended allocation, which outlives it.
    fn extended_claim(
        &self,
        extended: &Sandbox,
        holder: &Holder,
        claim: HolderClaim,
        grace: Duration,
    ) -> Result<Option<TransactWriteItem>, Fault> {
        let end = extended.expires_at.unwrap_or_default() + grace;
        let item = item::claim_item(extended.id(), holder, extended.allocated_at, end);
        let put = Put::builder()
            .table_name(&self.table.companion)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match claim {
            HolderClaim::Elsewhere | HolderClaim::Unreadable => return Ok(None),
            HolderClaim::Missing => put.condition_expression("attribute_not_exists(PK)"),
            HolderClaim::Points => put
                .condition_expression("sandbox_id = :sandbox AND allocated_at = :allocated_at")
                .expression_attribute_values(":sandbox", string(extended.id().as_str()))
                .expression_attribute_values(":allocated_at", number(extended.allocated_at.0)),
        };
        Ok(Some(TransactWriteItem::builder().put(put.build()?).build()))
    }
}

/// Adds the condition of a return to the pool: only of a sandbox that never had a holder; to `available` only as long as
/// CSP lists its account, which sync records in `quarantined_from`.
fn restorable(update: UpdateBuilder, to: Status) -> UpdateBuilder {
    let update = update
        .expression_attribute_values(":null", string("NULL"))
        .expression_attribute_values(":never", number(0));
    if to == Status::Available {
        update.condition_expression(format!(
            "#status = :from AND quarantined_from = :to AND {NEVER_HELD}"
        ))
    } else {
        update.condition_expression(format!("#status = :from AND {NEVER_HELD}"))
    }
}

/// Returns the outcome if the condition failed on the very item that the action was decided on. Only the item of a
/// restored sandbox can do that: it has attributes of a holder that are no valid ones.
fn refused_as_read(action: SandboxAction) -> Result<ActionOutcome, StoreError> {
    match action {
        SandboxAction::Restore => Ok(ActionOutcome::Refused(ActionRefusal::HadHolder)),
        _ => Err(StoreError::unexpected(
            OPERATION,
            "the condition of an action failed on the item that it was decided on",
        )),
    }
}
