//! Removal of sandboxes from the table, and records of attempts to delete them from CSP.

use std::time::Duration;

use aws_sdk_dynamodb::types::{Delete, TransactWriteItem, builders::UpdateBuilder};

use super::{DeletionOutcome, Fault, SET, action, put};
use crate::{
    clock::UnixSeconds,
    domain::{NiosxaasOutcome, Sandbox, Status, Transition},
    store::{
        PoolStore,
        item::{self, number, string},
    },
};

/// How long tombstones and NIOSXaaS records are retained.
const RECORD_TTL: Duration = Duration::from_hours(30 * 24);

impl PoolStore {
    /// Returns the actions that record the outcome of an attempt to delete `sandbox` from CSP.
    pub(super) fn deletion_attempt(
        &self,
        sandbox: &Sandbox,
        outcome: &DeletionOutcome,
        niosxaas: Option<&NiosxaasOutcome>,
        now: UnixSeconds,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let mut actions = match outcome {
            DeletionOutcome::Deleted => self.removal(sandbox, now)?,
            DeletionOutcome::Deferred { until, error } => {
                let update = self.update(sandbox.id(), sandbox.status, sandbox.status, now);
                let update = count_attempt(update, sandbox, error)
                    .update_expression(attempt_expression(
                        niosxaas,
                        ", next_deletion_at = :until",
                        "",
                    ))
                    .expression_attribute_values(":until", number(until.0));
                vec![action(set_niosxaas_reason(update, niosxaas))?]
            }
            DeletionOutcome::GivenUp { error } => {
                let update = self.transition(sandbox.id(), Transition::GiveUp, now);
                let update = count_attempt(update, sandbox, error)
                    .update_expression(attempt_expression(niosxaas, "", "next_deletion_at"));
                vec![action(set_niosxaas_reason(update, niosxaas))?]
            }
        };
        if let Some(outcome) = niosxaas {
            let record = item::niosxaas_record(sandbox, outcome, now, now + RECORD_TTL);
            actions.push(put(&self.table.name, record)?);
        }
        Ok(actions)
    }

    /// Returns the actions that remove `sandbox` from the table.
    pub(super) fn removal(
        &self,
        sandbox: &Sandbox,
        now: UnixSeconds,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        // A stale sandbox may have become available and stale again since it was read, so its last write is compared
        // too. Sandboxes in the other statuses that are removed never become available again.
        let seen = sandbox
            .maintenance
            .updated_at
            .filter(|_| sandbox.status == Status::Stale);
        let mut delete = Delete::builder()
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(sandbox.id())))
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", string(sandbox.status.as_str()))
            .condition_expression("#status = :from");
        if let Some(seen) = seen {
            delete = delete
                .condition_expression("#status = :from AND updated_at = :seen")
                .expression_attribute_values(":seen", number(seen.0));
        }
        let mut actions = vec![TransactWriteItem::builder().delete(delete.build()?).build()];
        // A sandbox that is not stale may have been used, even if its item does not name a holder.
        let was_never_used = sandbox.status == Status::Stale && !sandbox.was_held();
        if !was_never_used {
            let tombstone = item::tombstone(sandbox, now, now + RECORD_TTL)?;
            actions.push(put(&self.table.companion, tombstone)?);
        }
        Ok(actions)
    }
}

/// Adds the values and the condition of a counted attempt. The condition requires the count that the run read, so that
/// an attempt is counted once.
fn count_attempt(update: UpdateBuilder, sandbox: &Sandbox, error: &str) -> UpdateBuilder {
    let seen = sandbox.maintenance.deletion_retry_count;
    update
        .condition_expression(
            "#status = :from AND (attribute_not_exists(deletion_retry_count) OR deletion_retry_count = :seen)",
        )
        .expression_attribute_values(":seen", number(seen))
        .expression_attribute_values(":attempts", number(seen.saturating_add(1)))
        .expression_attribute_values(":error", string(error))
}

/// Returns the update expression of a failed attempt: `set` is added to its assignments, and `remove` names an
/// attribute to remove, if it is not empty.
fn attempt_expression(niosxaas: Option<&NiosxaasOutcome>, set: &str, remove: &str) -> String {
    let (set_outcome, remove_outcome) = match niosxaas {
        None => ("", ""),
        Some(NiosxaasOutcome::Cleaned { .. }) => (
            ", niosxaas_cleaned_at = :now",
            "niosxaas_cleanup_skipped, niosxaas_cleanup_failed_reason",
        ),
        Some(NiosxaasOutcome::Skipped { .. }) => (
            ", niosxaas_cleanup_skipped = :niosxaas",
            "niosxaas_cleanup_failed_reason",
        ),
        Some(NiosxaasOutcome::Failed { .. }) => (
            ", niosxaas_cleanup_failed_reason = :niosxaas",
            "niosxaas_cleanup_skipped",
        ),
    };
    let removed: Vec<_> = [remove, remove_outcome]
        .into_iter()
        .filter(|names| !names.is_empty())
        .collect();
    let removal = if removed.is_empty() {
        String::new()
    } else {
        format!(" REMOVE {}", removed.join(", "))
    };
    format!(
        "{SET}, deletion_retry_count = :attempts, deletion_error = :error{set}{set_outcome}{removal}"
    )
}

/// Adds the value that [`attempt_expression`] uses for a skipped or failed outcome.
fn set_niosxaas_reason(update: UpdateBuilder, outcome: Option<&NiosxaasOutcome>) -> UpdateBuilder {
    match outcome {
        Some(NiosxaasOutcome::Skipped { reason } | NiosxaasOutcome::Failed { reason }) => {
            update.expression_attribute_values(":niosxaas", string(reason))
        }
        Some(NiosxaasOutcome::Cleaned { .. }) | None => update,
    }
}
