//! Retirement of single allocations: release by the holder, and expiry.

use aws_sdk_dynamodb::{
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};

use super::{
    PoolStore, StoreError,
    item::{self, number, string},
};
use crate::{
    clock::UnixSeconds,
    domain::{CallerId, JobName, LeaseTerms, Sandbox, SandboxId, Status, Transition},
};

/// The update expression of every retirement.
pub(super) const RETIRE: &str =
    "SET #status = :to, deletion_requested_at = :now, updated_at = :now";

/// The condition of every write that rests on an allocation as it was read, such as an expiry: the sandbox is still in
/// the allocation that started at `:allocated_at`, and no extension has moved its end beyond `:seen_end`.
pub(super) const IS_SAME_ALLOCATION: &str =
    "#status = :from AND allocated_at = :allocated_at AND NOT expires_at > :seen_end";

/// The highest number that DynamoDB stores.
const HIGHEST: &str = "9.9999999999999999999999999999999999999E+125";

/// Returns the value `:seen_end` of [`IS_SAME_ALLOCATION`]. An allocation without a valid start has no end that an
/// extension could move, and one whose stored end is beyond the range of times has none that could be later.
pub(super) fn seen_end(allocated: &Sandbox) -> AttributeValue {
    match allocated.expires_at {
        Some(end) if end < UnixSeconds(i64::MAX) => number(end.0),
        _ => AttributeValue::N(HIGHEST.to_owned()),
    }
}

/// The outcome of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The sandbox was released. Contains the sandbox after the write.
    Released(Sandbox),
    /// The caller was the last holder, and the allocation had ended before, by retirement or quarantine.
    Repeated(Sandbox),
    /// The allocation is overdue.
    Expired(Sandbox),
    /// The caller is neither the current nor the last holder.
    NotOwner,
    /// There is no such sandbox.
    NotFound,
}

impl PoolStore {
    /// Releases a sandbox, in the name of the principal `by`. This takes one conditional write if the item states the end
    /// of the allocation, two if the FastAPI service made it.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the sandbox was released is then unknown; a retry is safe.
    pub async fn release(
        &self,
        id: &SandboxId,
        caller: &CallerId,
        by: &str,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Release, StoreError> {
        let release = || {
            self.retirement(id, by, now)
                .update_expression(format!("{RETIRE}, released_by = :by, released_at = :now"))
        };
        let mut attempt = release()
            .condition_expression(
                "#status = :from AND allocated_to_track = :caller AND expires_at >= :earliest",
            )
            .expression_attribute_values(":caller", string(caller.as_str()))
            .expression_attribute_values(":earliest", number((now - terms.grace).0));
        for is_last in [false, true] {
            let sandbox = match self.retire(attempt).await? {
                Retirement::Done(sandbox) => return Ok(Release::Released(sandbox)),
                Retirement::Refused(None) => return Ok(Release::NotFound),
                Retirement::Refused(Some(sandbox)) => sandbox,
            };
            return Ok(match sandbox.status {
                _ if !sandbox.belongs_to(caller) => Release::NotOwner,
                Status::PendingDeletion | Status::DeletionFailed | Status::Quarantined => {
                    Release::Repeated(sandbox)
                }
                Status::Allocated if sandbox.is_overdue(now, terms.grace) => {
                    Release::Expired(sandbox)
                }
                Status::Allocated if !is_last => {
                    // The item does not state the end of the allocation, which is not overdue: the second attempt
                    // names this allocation by its start.
                    attempt = release()
                        .condition_expression(
                            "#status = :from AND allocated_to_track = :caller AND allocated_at = :allocated_at",
                        )
                        .expression_attribute_values(":caller", string(caller.as_str()))
                        .expression_attribute_values(":allocated_at", number(sandbox.allocated_at.0));
                    continue;
                }
                Status::Allocated => break,
                Status::Provisioning | Status::Available | Status::Stale => Release::NotOwner,
            });
        }
        Err(StoreError::unexpected(
            "UpdateItem",
            "the condition of the release failed although the caller holds the sandbox",
        ))
    }

    /// Expires an overdue allocation, as it was read. Returns `false` if the sandbox is no longer in that allocation, or
    /// the allocation has been extended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire(&self, overdue: &Sandbox, now: UnixSeconds) -> Result<bool, StoreError> {
        let update = self
            .retirement(overdue.id(), JobName::AutoExpire.as_str(), now)
            .condition_expression(IS_SAME_ALLOCATION)
            .expression_attribute_values(":allocated_at", number(overdue.allocated_at.0))
            .expression_attribute_values(":seen_end", seen_end(overdue));
        Ok(matches!(self.retire(update).await?, Retirement::Done(_)))
    }

    fn retirement(&self, id: &SandboxId, by: &str, now: UnixSeconds) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(id)))
            .update_expression(format!("{RETIRE}, released_by = :by"))
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", string(Transition::Retire.from().as_str()))
            .expression_attribute_values(":to", string(Transition::Retire.to().as_str()))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":by", string(by))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    async fn retire(&self, update: UpdateItemFluentBuilder) -> Result<Retirement, StoreError> {
        const OPERATION: &str = "UpdateItem";
        match self.update_item(update).await {
            Ok(answer) => {
                let sandbox = self
                    .read(&answer.attributes.unwrap_or_default())
                    .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
                Ok(Retirement::Done(sandbox))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => Ok(
                    Retirement::Refused(refusal.item().and_then(|item| self.read_or_skip(item))),
                ),
                _ => Err(StoreError::from_sdk(OPERATION, error)),
            },
        }
    }
}

/// The outcome of one conditional write that retires an allocation.
enum Retirement {
    /// Contains the sandbox after the write.
    Done(Sandbox),
    /// The condition failed. Contains the stored sandbox if it exists and is readable.
    Refused(Option<Sandbox>),
}
