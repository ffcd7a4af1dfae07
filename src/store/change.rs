//! Changes that jobs make to sandboxes, as the actions of a transaction. Each is conditional on the status it leaves.

mod batch;
mod check;
mod deletion;
mod quarantine;

use std::error::Error;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{ConditionCheck, Delete, Put, TransactWriteItem, Update, builders::UpdateBuilder},
};

use super::{
    PoolStore, Tombstone,
    item::{self, CHECK_ATTRIBUTES, Item, number, string},
    retire::{RETIRE, seen_end},
};
use crate::{
    clock::UnixSeconds,
    domain::{
        Account, AuditRecord, JobName, NiosxaasOutcome, Readiness, Reason, Sandbox, SandboxId,
        Status, Transition,
    },
};

type Fault = Box<dyn Error + Send + Sync>;

/// The common beginning of the update expressions of all changes.
pub(super) const SET: &str = "SET #status = :to, updated_at = :now";

/// The assignments of every quarantine. The one without an end also removes `quarantined_until`.
pub(super) const SET_ASIDE: &str = "SET #status = :to, updated_at = :now, quarantined_by = :by, \
     quarantined_at = :now, quarantine_reason = :reason, quarantined_from = :from";

/// The condition that a sandbox never had a holder, with the values `:never` (0) and `:null` (`NULL`).
pub(super) const NEVER_HELD: &str = "(attribute_not_exists(allocated_at) OR allocated_at = :never) \
     AND (attribute_not_exists(allocated_to_track) OR attribute_type(allocated_to_track, :null))";

/// A change of one sandbox, applied only if the sandbox is in the status that the change leaves.
#[derive(Clone, Debug)]
pub enum Change {
    /// Inserts a new sandbox in this status, `available` or `provisioning`, unless the table contains it or its tombstone.
    Insert(Account, Status),
    /// Updates a sandbox in this status, `available` or `provisioning`, with the current attributes of its account.
    Update(Account, Status),
    /// `stale` to this status, `available` or `provisioning`, unless the sandbox ever had a holder. In `provisioning`
    /// the checks of its account begin anew.
    Restore(Account, Status),
    /// `provisioning` to `available` without a check, with the current attributes of its account.
    Provide(Account),
    /// This status, `available` or `provisioning`, to `stale`.
    MarkStale(SandboxId, Status),
    /// Writes the result of a check, if the sandbox has not been changed since it was read.
    Check(Box<CheckResult>),
    /// `allocated` to `pending_deletion`, if the sandbox is still in the allocation that was read, with the same end.
    Expire(Box<Sandbox>),
    /// `quarantined` to the status in which it waits for a holder if it never had one, else to `pending_deletion`; if the
    /// quarantine still lasts until the same time.
    EndQuarantine {
        /// The sandbox, as it was read.
        sandbox: Box<Sandbox>,
        /// The end of its quarantine.
        until: UnixSeconds,
        /// The record of the change.
        record: Box<AuditRecord>,
    },
    /// `quarantined` to `deletion_failed`, with the reason of the quarantine as the error of the deletion, and
    /// `provisioning` to `stale`, for the way back to the FastAPI service.
    ConvertForFastapi {
        /// The sandbox, as it was read.
        sandbox: Box<Sandbox>,
        /// The record of the change.
        record: Box<AuditRecord>,
    },
    /// Records whether CSP lists a quarantined sandbox that never had a holder, as the status to which it returns.
    QuarantinedListing {
        /// The sandbox.
        id: SandboxId,
        /// The status to which it was to return.
        was: Status,
        /// The status to which it returns: `stale` unless CSP lists it.
        is: Status,
    },
    /// `deletion_failed` to `pending_deletion`, with the attempts counted from 0 again.
    RetryDeletion(SandboxId),
    /// Removes the sandbox from the table, if its status is as read. A sandbox that may have had a holder leaves a
    /// tombstone.
    Remove(Box<Sandbox>),
    /// Replaces the tombstone of a resurfaced sandbox by a sandbox in `pending_deletion`, so that it is deleted again.
    Reinstate(Box<Tombstone>, Account),
    /// Records the outcome of an attempt to delete a sandbox in `pending_deletion`.
    Deletion(Box<Sandbox>, DeletionOutcome, Option<NiosxaasOutcome>),
}

/// The result of a check of the account of a sandbox.
#[derive(Clone, Debug)]
pub struct CheckResult {
    /// The sandbox, as it was read.
    pub sandbox: Sandbox,
    /// The results of its checks, this one included.
    pub readiness: Readiness,
    /// The status that it reaches: its own, `available` or `quarantined`.
    pub to: Status,
    /// The reason of a quarantine, and its record.
    pub quarantine: Option<(Reason, AuditRecord)>,
}

/// The outcome of an attempt to delete a sandbox from CSP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionOutcome {
    /// CSP has deleted the account.
    Deleted,
    /// A transient failure.
    Deferred {
        /// Time of the next attempt.
        until: UnixSeconds,
        /// The error.
        error: String,
    },
    /// A permanent failure, or the last of the allowed attempts.
    GivenUp {
        /// The error.
        error: String,
    },
}

impl PoolStore {
    /// Returns the actions of a change, which are applied in one transaction.
    fn actions(
        &self,
        change: &Change,
        lab_duration_hours: u32,
        now: UnixSeconds,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        Ok(match change {
            Change::Insert(account, status) => {
                let item = item::new_sandbox(account, *status, lab_duration_hours, now)?;
                vec![
                    self.put_new_sandbox(item)?,
                    self.check_no_tombstone(&account.sandbox_id)?,
                ]
            }
            Change::Update(account, status) => {
                let update = self
                    .update(&account.sandbox_id, *status, *status, now)
                    .condition_expression("#status = :from");
                vec![action(set_account(update, account, &[]))?]
            }
            Change::Restore(account, to) => {
                let update = self
                    .transition(&account.sandbox_id, Transition::Restore { to: *to }, now)
                    .condition_expression(format!("#status = :from AND {NEVER_HELD}"))
                    .expression_attribute_values(":null", string("NULL"))
                    .expression_attribute_values(":never", number(0));
                // The results may be those of another account, which had this id.
                let outdated: &[_] = match to {
                    Status::Provisioning => &["usable_at", CHECK_ATTRIBUTES],
                    _ => &[],
                };
                vec![action(set_account(update, account, outdated))?]
            }
            Change::Provide(account) => {
                let update = self
                    .transition(&account.sandbox_id, Transition::Provide, now)
                    .condition_expression("#status = :from");
                vec![action(set_account(update, account, &[CHECK_ATTRIBUTES]))?]
            }
            Change::MarkStale(id, from) => vec![self.stale(id, *from, now)?],
            Change::Check(result) => self.checked(result, now)?,
            Change::Expire(sandbox) => vec![self.expiry(sandbox, now)?],
            Change::EndQuarantine {
                sandbox,
                until,
                record,
            } => {
                let mut actions =
                    vec![self.quarantine_end(sandbox, *until, &record.author.name, now)?];
                actions.extend(self.audit_actions(record)?);
                actions
            }
            Change::ConvertForFastapi { sandbox, record } => {
                let mut actions = vec![if sandbox.status == Status::Provisioning {
                    self.stale(sandbox.id(), Status::Provisioning, now)?
                } else {
                    self.quarantine_conversion(sandbox, now)?
                }];
                actions.extend(self.audit_actions(record)?);
                actions
            }
            Change::QuarantinedListing { id, was, is } => {
                vec![self.quarantined_listing(id, *was, *is, now)?]
            }
            Change::RetryDeletion(id) => vec![action(
                self.transition(id, Transition::RetryDeletion, now)
                    .update_expression(format!(
                        "{SET}, deletion_retry_count = :none REMOVE next_deletion_at"
                    ))
                    .condition_expression("#status = :from")
                    .expression_attribute_values(":none", number(0)),
            )?],
            Change::Remove(sandbox) => self.removal(sandbox, now)?,
            Change::Reinstate(tombstone, account) => {
                let item = item::reinstated_sandbox(tombstone, account, now)?;
                let delete = Delete::builder()
                    .table_name(&self.table.companion)
                    .set_key(Some(item::tombstone_key(&account.sandbox_id)))
                    .condition_expression("deleted_at = :deleted_at")
                    .expression_attribute_values(":deleted_at", number(tombstone.deleted_at))
                    .build()?;
                vec![
                    self.put_new_sandbox(item)?,
                    TransactWriteItem::builder().delete(delete).build(),
                ]
            }
            Change::Deletion(sandbox, outcome, niosxaas) => {
                self.deletion_attempt(sandbox, outcome, niosxaas.as_ref(), now)?
            }
        })
    }

    /// Returns the transition of a sandbox that CSP no longer lists.
    fn stale(
        &self,
        id: &SandboxId,
        from: Status,
        now: UnixSeconds,
    ) -> Result<TransactWriteItem, BuildError> {
        action(
            self.transition(id, Transition::MarkStale { from }, now)
                .update_expression(SET)
                .condition_expression("#status = :from"),
        )
    }

    /// Returns the expiry of an overdue allocation.
    fn expiry(&self, overdue: &Sandbox, now: UnixSeconds) -> Result<TransactWriteItem, BuildError> {
        action(
            self.transition(overdue.id(), Transition::Retire, now)
                .update_expression(format!("{RETIRE}, released_by = :by"))
                .condition_expression(super::retire::IS_SAME_ALLOCATION)
                .expression_attribute_values(":allocated_at", number(overdue.allocated_at.0))
                .expression_attribute_values(":seen_end", seen_end(overdue))
                .expression_attribute_values(":by", string(JobName::AutoExpire.as_str())),
        )
    }

    /// Inserts a sandbox, on the condition that there is none with its id.
    fn put_new_sandbox(&self, item: Item) -> Result<TransactWriteItem, BuildError> {
        let put = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(PK)");
        Ok(TransactWriteItem::builder().put(put.build()?).build())
    }

    /// Requires that the sandbox has no tombstone.
    fn check_no_tombstone(&self, id: &SandboxId) -> Result<TransactWriteItem, BuildError> {
        let check = ConditionCheck::builder()
            .table_name(&self.table.companion)
            .set_key(Some(item::tombstone_key(id)))
            .condition_expression("attribute_not_exists(PK)");
        Ok(TransactWriteItem::builder()
            .condition_check(check.build()?)
            .build())
    }

    pub(super) fn transition(
        &self,
        id: &SandboxId,
        transition: Transition,
        now: UnixSeconds,
    ) -> UpdateBuilder {
        self.update(id, transition.from(), transition.to(), now)
    }

    pub(super) fn update(
        &self,
        id: &SandboxId,
        from: Status,
        to: Status,
        now: UnixSeconds,
    ) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(id)))
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", string(from.as_str()))
            .expression_attribute_values(":to", string(to.as_str()))
            .expression_attribute_values(":now", number(now.0))
    }
}

/// Returns the action that inserts or replaces an item of a table.
pub(super) fn put(table: &str, item: Item) -> Result<TransactWriteItem, BuildError> {
    let put = Put::builder().table_name(table).set_item(Some(item));
    Ok(TransactWriteItem::builder().put(put.build()?).build())
}

pub(super) fn action(update: UpdateBuilder) -> Result<TransactWriteItem, BuildError> {
    Ok(TransactWriteItem::builder().update(update.build()?).build())
}

/// Adds the update of all attributes that come from the account, and the removal of others.
fn set_account(update: UpdateBuilder, account: &Account, removed: &[&str]) -> UpdateBuilder {
    let mut removed = removed.to_vec();
    let mut set = format!("{SET}, #name = :name, external_id = :external_id, last_synced = :now");
    let mut update = update
        .expression_attribute_names("#name", "name")
        .expression_attribute_values(":name", string(&account.name))
        .expression_attribute_values(":external_id", string(&account.external_id));
    match &account.sfdc_account_id {
        Some(sfdc) => {
            set.push_str(", sfdc_account_id = :sfdc");
            update = update.expression_attribute_values(":sfdc", string(sfdc));
        }
        None => removed.push("sfdc_account_id"),
    }
    if !removed.is_empty() {
        set.push_str(" REMOVE ");
        set.push_str(&removed.join(", "));
    }
    update.update_expression(set)
}
