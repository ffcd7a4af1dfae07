//! The actions of operators on single sandboxes: one transaction each, with its audit records.
//!
//! The condition of the write is the state that the action was decided on: the status that it leaves and, of a sandbox
//! that is held, the allocation and its end. So the states before and after in the record are those of the table, and an
//! action never hits another allocation than the one that was read.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    ReturnValuesOnConditionCheckFailure, TransactWriteItem, builders::UpdateBuilder,
};

use super::{
    PoolStore, StoreError, StoredClaim,
    change::{NEVER_HELD, SET, SET_ASIDE, action},
    decision::{Decided, Decision, Fault},
    extend::HolderClaim,
    item::{CHECK_ATTRIBUTES, QUARANTINE_ATTRIBUTES, number, string},
    retire::{IS_SAME_ALLOCATION, RETIRE, seen_end},
};
use crate::{
    clock::UnixSeconds,
    domain::{
        ActionOrder, ActionRefusal, AuditRecord, AuditTarget, Sandbox, SandboxAction, SandboxId,
        Status,
    },
};

/// An action of an operator, at a time in Unix milliseconds. An allocation is overdue after `grace`.
#[derive(Debug)]
struct OperatorsAction<'a> {
    order: &'a ActionOrder,
    grace: Duration,
    at_ms: i64,
}

impl Decision for OperatorsAction<'_> {
    type Refusal = ActionRefusal;

    fn apply(
        &self,
        stored: &Sandbox,
        claim: Option<&StoredClaim>,
    ) -> Result<Sandbox, ActionRefusal> {
        let now = UnixSeconds(self.at_ms.div_euclid(1000));
        let after = self.order.apply(stored, now)?;
        // Its caller has another sandbox, so the allocation is over even though no job has retired it.
        let is_over = stored.is_overdue(now, self.grace);
        if is_over && HolderClaim::of(claim, stored) == HolderClaim::Elsewhere {
            return Err(ActionRefusal::Replaced);
        }
        Ok(after)
    }

    fn actions(
        &self,
        store: &PoolStore,
        stored: &Sandbox,
        after: &Sandbox,
        claim: Option<&StoredClaim>,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let Self {
            order,
            grace,
            at_ms,
        } = *self;
        let update = store.action_update(order, stored, after);
        let update = update
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let mut actions = vec![action(update)?];
        if let SandboxAction::Extend { .. } = order.action {
            actions.extend(store.extended_claim(after, claim, grace)?);
        }
        let target = AuditTarget::Sandbox(stored.id().clone());
        let kind = order.action.audit_action();
        actions.extend(store.audit_actions(&AuditRecord {
            reason: Some(order.reason.clone()),
            before: Some(stored.audit_state()),
            after: Some(after.audit_state()),
            ..AuditRecord::done(at_ms, order.author.clone(), kind, target)
        })?);
        Ok(actions)
    }

    /// Only the item of a restored sandbox can be refused as it was read: it has attributes of a holder that are no
    /// valid ones.
    fn refused_as_read(&self) -> Option<ActionRefusal> {
        (self.order.action == SandboxAction::Restore).then_some(ActionRefusal::HadHolder)
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
    ) -> Result<Decided<ActionRefusal>, StoreError> {
        let action = OperatorsAction {
            order,
            grace,
            at_ms,
        };
        self.decide(id, &action).await
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
            SandboxAction::Extend { .. } => return self.extended_sandbox(sandbox, after),
            SandboxAction::Quarantine { until } => {
                let update = match until {
                    Some(until) => update
                        .update_expression(format!("{SET_ASIDE}, quarantined_until = :until"))
                        .expression_attribute_values(":until", number(until.0)),
                    None => update.update_expression(format!("{SET_ASIDE} REMOVE quarantined_until")),
                };
                update
                    .expression_attribute_values(":by", by)
                    .expression_attribute_values(":reason", string(order.reason.as_str()))
            }
            SandboxAction::Restore => {
                update.update_expression(format!("{SET} REMOVE {QUARANTINE_ATTRIBUTES}, {CHECK_ATTRIBUTES}"))
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
}

/// Adds the condition of a return to the pool: only of a sandbox that never had a holder; to `available` or
/// `provisioning` only as long as CSP lists its account, which sync records in `quarantined_from`.
fn restorable(update: UpdateBuilder, to: Status) -> UpdateBuilder {
    let update = update
        .expression_attribute_values(":null", string("NULL"))
        .expression_attribute_values(":never", number(0));
    if matches!(to, Status::Available | Status::Provisioning) {
        update.condition_expression(format!(
            "#status = :from AND quarantined_from = :to AND {NEVER_HELD}"
        ))
    } else {
        update.condition_expression(format!("#status = :from AND {NEVER_HELD}"))
    }
}
