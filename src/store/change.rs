//! What jobs write: batches of changes, each conditional on the state it leaves, and all on the lease of the run.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::{BuildError, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        CancellationReason, ConditionCheck, Delete, Put, TransactWriteItem, Update,
        builders::UpdateBuilder,
    },
};

use super::{
    Fence, PoolStore, StoreError, Tombstone,
    error::is_passing,
    item::{self, number, string},
    lease,
};
use crate::{
    clock::UnixSeconds,
    domain::{Account, NiosxaasOutcome, Sandbox, SandboxId, Status, Transition},
};

type Fault = Box<dyn std::error::Error + Send + Sync>;

const OPERATION: &str = "TransactWriteItems";
/// Half of what DynamoDB allows: a batch that is in the way of an allocation makes it try again.
const MAX_ACTIONS: usize = 50;
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(20);
/// How long tombstones and NIOSXaaS records are kept.
const RECORD_TTL: Duration = Duration::from_hours(30 * 24);

/// One change of one sandbox. It is made only if the sandbox is in the state that the change leaves.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new, available sandbox, unless the table has it or its tombstone.
    Insert(Account),
    /// What the pool knows of an available sandbox, as its account has it now.
    Update(Account),
    /// From `stale` back to `available`, unless it ever had a holder.
    Restore(Account),
    /// From `available` to `stale`.
    MarkStale(SandboxId),
    /// From `allocated` to `pending_deletion`, if the allocation is still the one made then.
    Expire(SandboxId, UnixSeconds),
    /// From `deletion_failed` back to `pending_deletion`, with all its attempts.
    RetryDeletion(SandboxId),
    /// Out of the table, if it is still as it was read. One that had a holder leaves a tombstone.
    Remove(Box<Sandbox>),
    /// A deleted sandbox that CSP still lists: back to `pending_deletion`, to be deleted again.
    Reinstate(Box<Tombstone>, Account),
    /// The end of an attempt to delete a sandbox that waits for it.
    Deletion(Box<Sandbox>, DeletionOutcome, Option<NiosxaasOutcome>),
}

/// How an attempt to delete a sandbox from CSP ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionOutcome {
    /// CSP has it no more.
    Deleted,
    /// Not yet; it is due again at this time.
    Deferred {
        /// When to try again.
        until: UnixSeconds,
        /// Why.
        error: String,
    },
    /// CSP refuses, or the attempts are used up.
    GivenUp {
        /// Why.
        error: String,
    },
}

impl PoolStore {
    /// Makes the changes, each only if its condition holds; tells for each whether it was made.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] if the run has lost its lease; any other [`StoreError`] too: the changes of earlier
    /// batches are made then.
    pub async fn apply(
        &self,
        fence: Option<&Fence>,
        changes: &[Change],
        lab_duration_hours: u32,
        now: UnixSeconds,
    ) -> Result<Vec<bool>, StoreError> {
        let mut made = vec![false; changes.len()];
        let mut batch: Vec<(usize, Vec<TransactWriteItem>)> = Vec::new();
        let mut actions = 0;
        for (at, change) in changes.iter().enumerate() {
            let of_change = self
                .actions(change, lab_duration_hours, now)
                .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
            if actions + of_change.len() > MAX_ACTIONS {
                self.apply_batch(fence, std::mem::take(&mut batch), &mut made)
                    .await?;
                actions = 0;
            }
            actions += of_change.len();
            batch.push((at, of_change));
        }
        self.apply_batch(fence, batch, &mut made).await?;
        Ok(made)
    }

    /// One transaction; without those whose condition fails, until the rest goes through.
    async fn apply_batch(
        &self,
        fence: Option<&Fence>,
        mut batch: Vec<(usize, Vec<TransactWriteItem>)>,
        made: &mut [bool],
    ) -> Result<(), StoreError> {
        let mut attempt = 0;
        while !batch.is_empty() {
            let actions = batch
                .iter()
                .flat_map(|(_, actions)| actions.iter().cloned());
            let guard = fence.map(|fence| self.check_fence(fence)).transpose()?;
            let answer = {
                let _slot = self.slot().await;
                let actions = actions.chain(guard).collect();
                self.client
                    .transact_write_items()
                    .set_transact_items(Some(actions))
                    .send()
                    .await
            };
            let Err(error) = answer else {
                for (at, _) in batch {
                    made[at] = true;
                }
                return Ok(());
            };
            let Some(reasons) = cancellation_reasons(&error) else {
                return Err(StoreError::from_sdk(OPERATION, error));
            };
            let mut reasons = reasons.iter();
            let before = batch.len();
            // Every action has its reason; the lease's comes last.
            batch.retain(|(at, actions)| {
                let of_change: Vec<_> = reasons.by_ref().take(actions.len()).collect();
                if let Some(fault) = of_change.iter().find(|reason| !refused(reason) && !is_passing(reason)) {
                    // It would poison every batch that it is in.
                    tracing::error!(change = at, reason = ?fault, "left out a change that the database does not take");
                    return false;
                }
                !of_change.into_iter().any(refused)
            });
            if reasons.next().is_some_and(refused) {
                return Err(StoreError::Superseded);
            }
            if batch.len() == before {
                attempt += 1;
                if attempt == ATTEMPTS {
                    return Err(StoreError::unavailable(OPERATION, error));
                }
                tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
            }
        }
        Ok(())
    }

    fn check_fence(&self, fence: &Fence) -> Result<TransactWriteItem, StoreError> {
        let check = ConditionCheck::builder()
            .table_name(&self.table.name)
            .set_key(Some(lease::lease_key(fence.job)))
            .condition_expression("generation = :generation")
            .expression_attribute_values(":generation", number(fence.generation))
            .build()
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    fn actions(
        &self,
        change: &Change,
        lab_duration_hours: u32,
        now: UnixSeconds,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        Ok(match change {
            Change::Insert(account) => {
                let item = item::new_sandbox(account, lab_duration_hours, now)?;
                vec![
                    self.put(item, "attribute_not_exists(PK)")?,
                    self.check_absent(item::tombstone_key(&account.sandbox_id))?,
                ]
            }
            Change::Update(account) => {
                let update = self
                    .update(
                        &account.sandbox_id,
                        Status::Available,
                        Status::Available,
                        now,
                    )
                    .condition_expression("#status = :from");
                vec![built(describe(update, account))?]
            }
            Change::Restore(account) => {
                let update = self
                    .transition(&account.sandbox_id, Transition::Restore, now)
                    .condition_expression(
                        "#status = :from AND (attribute_not_exists(allocated_at) OR allocated_at = :never) \
                         AND (attribute_not_exists(allocated_to_track) OR attribute_type(allocated_to_track, :null))",
                    )
                    .expression_attribute_values(":null", string("NULL"))
                    .expression_attribute_values(":never", number(0));
                vec![built(describe(update, account))?]
            }
            Change::MarkStale(id) => vec![built(
                self.transition(id, Transition::MarkStale, now)
                    .update_expression(SET)
                    .condition_expression("#status = :from"),
            )?],
            Change::Expire(id, allocated_at) => vec![built(
                self.transition(id, Transition::Retire, now)
                    .update_expression(format!("{SET}, deletion_requested_at = :now"))
                    .condition_expression("#status = :from AND allocated_at = :allocated_at")
                    .expression_attribute_values(":allocated_at", number(allocated_at.0)),
            )?],
            Change::RetryDeletion(id) => vec![built(
                self.transition(id, Transition::RetryDeletion, now)
                    .update_expression(format!(
                        "{SET}, deletion_retry_count = :none REMOVE next_deletion_at"
                    ))
                    .condition_expression("#status = :from")
                    .expression_attribute_values(":none", number(0)),
            )?],
            Change::Remove(sandbox) => self.remove(sandbox, now)?,
            Change::Reinstate(tombstone, account) => {
                let item = item::reinstated(tombstone, account, now)?;
                let delete = Delete::builder()
                    .table_name(&self.table.name)
                    .set_key(Some(item::tombstone_key(&account.sandbox_id)))
                    .condition_expression("deleted_at = :deleted_at")
                    .expression_attribute_values(":deleted_at", number(tombstone.deleted_at))
                    .build()?;
                vec![
                    self.put(item, "attribute_not_exists(PK)")?,
                    TransactWriteItem::builder().delete(delete).build(),
                ]
            }
            Change::Deletion(sandbox, outcome, niosxaas) => {
                let mut actions = match outcome {
                    DeletionOutcome::Deleted => self.remove(sandbox, now)?,
                    DeletionOutcome::Deferred { until, error } => {
                        let update = self.update(sandbox.id(), sandbox.status, sandbox.status, now);
                        let update = note_attempt(update, sandbox, error)
                            .update_expression(attempt_expression(
                                niosxaas.as_ref(),
                                ", next_deletion_at = :until",
                                "",
                            ))
                            .expression_attribute_values(":until", number(until.0));
                        vec![built(with_outcome(update, niosxaas.as_ref()))?]
                    }
                    DeletionOutcome::GivenUp { error } => {
                        let update = self.transition(sandbox.id(), Transition::GiveUp, now);
                        let update = note_attempt(update, sandbox, error).update_expression(
                            attempt_expression(niosxaas.as_ref(), "", "next_deletion_at"),
                        );
                        vec![built(with_outcome(update, niosxaas.as_ref()))?]
                    }
                };
                if let Some(outcome) = niosxaas {
                    actions.push(self.put_always(item::niosxaas_record(
                        sandbox.id(),
                        outcome,
                        now,
                        now + RECORD_TTL,
                    ))?);
                }
                actions
            }
        })
    }

    fn remove(&self, sandbox: &Sandbox, now: UnixSeconds) -> Result<Vec<TransactWriteItem>, Fault> {
        // One that is stale must have been so all the while; what is on its way out cannot have come back.
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
        // Whatever is on its way out may have been used, also where its item does not say by whom.
        let was_never_used = sandbox.status == Status::Stale
            && sandbox.expires_at().is_none()
            && sandbox.holder.is_none();
        if !was_never_used {
            actions.push(self.put_always(item::tombstone(sandbox, now, now + RECORD_TTL)?)?);
        }
        Ok(actions)
    }

    fn put(&self, item: item::Item, condition: &str) -> Result<TransactWriteItem, BuildError> {
        let put = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(item))
            .condition_expression(condition);
        Ok(TransactWriteItem::builder().put(put.build()?).build())
    }

    fn put_always(&self, item: item::Item) -> Result<TransactWriteItem, BuildError> {
        let put = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(item));
        Ok(TransactWriteItem::builder().put(put.build()?).build())
    }

    fn check_absent(&self, key: item::Item) -> Result<TransactWriteItem, BuildError> {
        let check = ConditionCheck::builder()
            .table_name(&self.table.name)
            .set_key(Some(key))
            .condition_expression("attribute_not_exists(PK)");
        Ok(TransactWriteItem::builder()
            .condition_check(check.build()?)
            .build())
    }

    fn transition(
        &self,
        id: &SandboxId,
        transition: Transition,
        now: UnixSeconds,
    ) -> UpdateBuilder {
        self.update(id, transition.from(), transition.to(), now)
    }

    fn update(&self, id: &SandboxId, from: Status, to: Status, now: UnixSeconds) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(id)))
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", string(from.as_str()))
            .expression_attribute_values(":to", string(to.as_str()))
            .expression_attribute_values(":now", number(now.0))
    }
}

const SET: &str = "SET #status = :to, updated_at = :now";

fn built(update: UpdateBuilder) -> Result<TransactWriteItem, BuildError> {
    Ok(TransactWriteItem::builder().update(update.build()?).build())
}

/// Sets everything that comes from the account.
fn describe(update: UpdateBuilder, account: &Account) -> UpdateBuilder {
    let update = update
        .expression_attribute_names("#name", "name")
        .expression_attribute_values(":name", string(&account.name))
        .expression_attribute_values(":external_id", string(&account.external_id));
    let set = format!("{SET}, #name = :name, external_id = :external_id, last_synced = :now");
    match &account.sfdc_account_id {
        Some(sfdc) => update
            .update_expression(format!("{set}, sfdc_account_id = :sfdc"))
            .expression_attribute_values(":sfdc", string(sfdc)),
        None => update.update_expression(format!("{set} REMOVE sfdc_account_id")),
    }
}

/// An attempt counts once: the write requires the count that the run read.
fn note_attempt(update: UpdateBuilder, sandbox: &Sandbox, error: &str) -> UpdateBuilder {
    let seen = sandbox.maintenance.deletion_retry_count;
    update
        .condition_expression(
            "#status = :from AND (attribute_not_exists(deletion_retry_count) OR deletion_retry_count = :seen)",
        )
        .expression_attribute_values(":seen", number(seen))
        .expression_attribute_values(":attempts", number(seen.saturating_add(1)))
        .expression_attribute_values(":error", string(error))
}

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

fn with_outcome(update: UpdateBuilder, outcome: Option<&NiosxaasOutcome>) -> UpdateBuilder {
    match outcome {
        Some(NiosxaasOutcome::Skipped { reason } | NiosxaasOutcome::Failed { reason }) => {
            update.expression_attribute_values(":niosxaas", string(reason))
        }
        Some(NiosxaasOutcome::Cleaned { .. }) | None => update,
    }
}

fn refused(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

/// Why a transaction was cancelled; empty if another one with the same token is under way.
fn cancellation_reasons<R>(
    error: &SdkError<TransactWriteItemsError, R>,
) -> Option<&[CancellationReason]> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            Some(cancelled.cancellation_reasons())
        }
        TransactWriteItemsError::TransactionInProgressException(_) => Some(&[]),
        _ => None,
    }
}
