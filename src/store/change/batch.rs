//! Application of changes in batches, one transaction each, fenced by the lease of the run.

use std::time::Duration;

use aws_sdk_dynamodb::types::{CancellationReason, ConditionCheck, TransactWriteItem};

use super::Change;
use crate::{
    clock::UnixSeconds,
    store::{
        Fence, PoolStore, StoreError,
        error::{is_failed_check, is_transient_reason},
        item::number,
        lease,
        transaction::{OPERATION, cancellation_reasons},
    },
};

/// Half of DynamoDB's limit of actions in a transaction: a batch conflicts with the allocation of any of its sandboxes,
/// which then has to be retried.
const MAX_ACTIONS: usize = 50;
const ATTEMPTS: u32 = 8;
/// Half of the pause before the first retry; the pauses double.
const PAUSE: Duration = Duration::from_millis(20);

/// A change that waits to be applied.
pub(super) struct PendingChange {
    /// Its position in the list of changes.
    pub(super) index: usize,
    pub(super) actions: Vec<TransactWriteItem>,
}

impl PoolStore {
    /// Applies each change whose condition holds. Returns for each whether it was applied.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] if the run has lost its lease; any other [`StoreError`]. Earlier batches remain
    /// applied.
    pub async fn apply(
        &self,
        fence: Option<&Fence>,
        changes: &[Change],
        lab_duration_hours: u32,
        now: UnixSeconds,
    ) -> Result<Vec<bool>, StoreError> {
        let mut applied = vec![false; changes.len()];
        let mut batch: Vec<PendingChange> = Vec::new();
        let mut size = 0;
        for (index, change) in changes.iter().enumerate() {
            let actions = self
                .actions(change, lab_duration_hours, now)
                .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
            if size + actions.len() > MAX_ACTIONS {
                self.apply_batch(fence, std::mem::take(&mut batch), &mut applied)
                    .await?;
                size = 0;
            }
            size += actions.len();
            batch.push(PendingChange { index, actions });
        }
        self.apply_batch(fence, batch, &mut applied).await?;
        Ok(applied)
    }

    /// Applies a batch in one transaction. If the conditions of some changes fail, they are removed from the batch, and
    /// the rest is tried again.
    async fn apply_batch(
        &self,
        fence: Option<&Fence>,
        mut batch: Vec<PendingChange>,
        applied: &mut [bool],
    ) -> Result<(), StoreError> {
        let mut attempt = 0;
        while !batch.is_empty() {
            let actions = batch
                .iter()
                .flat_map(|change| change.actions.iter().cloned());
            let check = fence.map(|fence| self.check_fence(fence)).transpose()?;
            let answer = {
                let _slot = self.slot().await;
                let actions = actions.chain(check).collect();
                self.client
                    .transact_write_items()
                    .set_transact_items(Some(actions))
                    .send()
                    .await
            };
            let Err(error) = answer else {
                for change in batch {
                    applied[change.index] = true;
                }
                return Ok(());
            };
            let Some(reasons) = cancellation_reasons(&error) else {
                return Err(StoreError::from_sdk(OPERATION, error));
            };
            // There is one reason for each action, in their order; that of the fence is the last.
            let mut reasons = reasons.iter();
            let previous = batch.len();
            batch.retain(|change| {
                let reasons: Vec<_> = reasons.by_ref().take(change.actions.len()).collect();
                let invalid = |reason: &&&CancellationReason| {
                    !is_failed_check(reason) && !is_transient_reason(reason)
                };
                if let Some(reason) = reasons.iter().find(invalid) {
                    // It would cancel every batch that contains it.
                    tracing::error!(
                        change = change.index,
                        ?reason,
                        "change rejected by the database and skipped"
                    );
                    return false;
                }
                !reasons.into_iter().any(is_failed_check)
            });
            if reasons.next().is_some_and(is_failed_check) {
                return Err(StoreError::Superseded);
            }
            if batch.len() == previous {
                attempt += 1;
                if attempt == ATTEMPTS {
                    return Err(StoreError::unavailable(OPERATION, error));
                }
                tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
            }
        }
        Ok(())
    }

    /// Requires that the run still holds the lease of its job.
    pub(in crate::store) fn check_fence(
        &self,
        fence: &Fence,
    ) -> Result<TransactWriteItem, StoreError> {
        let check = ConditionCheck::builder()
            .table_name(&self.table.companion)
            .set_key(Some(lease::lease_key(fence.job)))
            .condition_expression("generation = :generation")
            .expression_attribute_values(":generation", number(fence.generation))
            .build()
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }
}
