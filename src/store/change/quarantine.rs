//! The changes of quarantined sandboxes by jobs and commands: the end of a quarantine, the record of whether CSP lists a
//! sandbox, and the conversion for the FastAPI service.

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{TransactWriteItem, builders::UpdateBuilder},
};

use super::{NEVER_HELD, SET, action};
use crate::{
    clock::UnixSeconds,
    domain::{Quarantine, Sandbox, SandboxId, Status, Transition},
    store::{
        PoolStore,
        item::{CHECK_ATTRIBUTES, QUARANTINE_ATTRIBUTES, number, string},
        retire::RETIRE,
    },
};

impl PoolStore {
    /// Returns the end of the quarantine of `sandbox` that was to last `until` then, in the name of the job `by`: a
    /// sandbox that never had a holder returns to the pool, any other is deleted.
    pub(super) fn quarantine_end(
        &self,
        sandbox: &Sandbox,
        until: UnixSeconds,
        by: &str,
        now: UnixSeconds,
    ) -> Result<TransactWriteItem, BuildError> {
        let end = sandbox.quarantine_end();
        let update = self
            .transition(sandbox.id(), end, now)
            .expression_attribute_values(":until", number(until.0));
        let update = match end.to() {
            Status::PendingDeletion => update
                .update_expression(format!("{RETIRE}, released_by = :by"))
                .expression_attribute_values(":by", string(by))
                .condition_expression("#status = :from AND quarantined_until = :until"),
            // Only if CSP lists it, according to the item as it is at the time of the write.
            Status::Available | Status::Provisioning => restore(update).condition_expression(format!(
                "#status = :from AND quarantined_until = :until AND quarantined_from = :to AND {NEVER_HELD}"
            )),
            _ => restore(update).condition_expression(format!(
                "#status = :from AND quarantined_until = :until AND {NEVER_HELD}"
            )),
        };
        action(update)
    }

    /// Returns the conversion of a quarantined sandbox for the FastAPI service.
    pub(super) fn quarantine_conversion(
        &self,
        sandbox: &Sandbox,
        now: UnixSeconds,
    ) -> Result<TransactWriteItem, BuildError> {
        let Quarantine { by, reason, .. } = &sandbox.quarantine;
        let error = format!(
            "in quarantine by {}: {}",
            by.as_deref().unwrap_or("an unknown operator"),
            reason.as_deref().unwrap_or("no reason is known")
        );
        let update = self
            .transition(sandbox.id(), Transition::ConvertForFastapi, now)
            .update_expression(format!("{SET}, deletion_error = :error"))
            .condition_expression("#status = :from")
            .expression_attribute_values(":error", string(error));
        action(update)
    }

    /// Returns the record of whether CSP lists a quarantined sandbox that never had a holder, as the status to which it
    /// returns.
    pub(super) fn quarantined_listing(
        &self,
        id: &SandboxId,
        was: Status,
        is: Status,
        now: UnixSeconds,
    ) -> Result<TransactWriteItem, BuildError> {
        let update = self
            .update(id, Status::Quarantined, Status::Quarantined, now)
            .update_expression(format!("{SET}, quarantined_from = :is"))
            .condition_expression("#status = :from AND quarantined_from = :was")
            .expression_attribute_values(":was", string(was.as_str()))
            .expression_attribute_values(":is", string(is.as_str()));
        action(update)
    }
}

/// Adds the update of a return to the pool, where checks begin anew, and the values of [`NEVER_HELD`].
fn restore(update: UpdateBuilder) -> UpdateBuilder {
    update
        .update_expression(format!(
            "{SET} REMOVE {QUARANTINE_ATTRIBUTES}, {CHECK_ATTRIBUTES}"
        ))
        .expression_attribute_values(":null", string("NULL"))
        .expression_attribute_values(":never", number(0))
}
