//! The end of one allocation, by its holder or because it is overdue.

use aws_sdk_dynamodb::{
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};

use super::{
    PoolStore, StoreError,
    item::{self, number, string},
    read_sandbox,
};
use crate::{
    clock::UnixSeconds,
    domain::{CallerId, LeaseTerms, Sandbox, SandboxId, Status, Transition, lab_duration},
};

/// How giving a sandbox back ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is on its way out now; as the table has it.
    Released(Sandbox),
    /// It was on its way out already.
    Repeated(Sandbox),
    /// Its allocation and grace period were over.
    Expired(Sandbox),
    /// The caller does not hold it and was not its last holder.
    NotOwner,
    /// There is no such sandbox.
    NotFound,
}

impl PoolStore {
    /// Gives a sandbox back: one conditional write if its allocation has the configured length.
    ///
    /// # Errors
    /// [`StoreError`]; whether the sandbox was given back is then not known, and asking again is safe.
    pub async fn release(
        &self,
        id: &SandboxId,
        caller: &CallerId,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Release, StoreError> {
        let oldest = now - lab_duration(terms.lab_duration_hours) - terms.grace;
        let mut attempt = self
            .retire(id, now)
            .condition_expression(
                "#status = :from AND allocated_to_track = :caller AND lab_duration_hours = :hours \
                 AND allocated_at >= :oldest",
            )
            .expression_attribute_values(":caller", string(caller.as_str()))
            .expression_attribute_values(":hours", number(terms.lab_duration_hours))
            .expression_attribute_values(":oldest", number(oldest.0));
        for is_last in [false, true] {
            let sandbox = match self.retired(attempt).await? {
                Retired::Done(sandbox) => return Ok(Release::Released(sandbox)),
                Retired::Refused(None) => return Ok(Release::NotFound),
                Retired::Refused(Some(sandbox)) => sandbox,
            };
            return Ok(match sandbox.status {
                _ if !sandbox.belongs_to(caller) => Release::NotOwner,
                Status::PendingDeletion | Status::DeletionFailed => Release::Repeated(sandbox),
                Status::Allocated if sandbox.is_overdue(now, terms.grace) => {
                    Release::Expired(sandbox)
                }
                Status::Allocated if !is_last => {
                    // Of another length than the configured one, but in time by its own: this very allocation goes.
                    attempt = self
                        .retire(id, now)
                        .condition_expression(
                            "#status = :from AND allocated_to_track = :caller AND allocated_at = :allocated_at",
                        )
                        .expression_attribute_values(":caller", string(caller.as_str()))
                        .expression_attribute_values(":allocated_at", number(sandbox.allocated_at.0));
                    continue;
                }
                Status::Allocated => break,
                Status::Available | Status::Stale => Release::NotOwner,
            });
        }
        Err(StoreError::unexpected(
            "UpdateItem",
            "the sandbox is its caller's, and yet it is not",
        ))
    }

    /// Retires an allocation whose time is up, if it is still the one made at `allocated_at`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire(
        &self,
        id: &SandboxId,
        allocated_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let update = self
            .retire(id, now)
            .condition_expression("#status = :from AND allocated_at = :allocated_at")
            .expression_attribute_values(":allocated_at", number(allocated_at.0));
        Ok(matches!(self.retired(update).await?, Retired::Done(_)))
    }

    fn retire(&self, id: &SandboxId, now: UnixSeconds) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(id)))
            .update_expression("SET #status = :to, deletion_requested_at = :now, updated_at = :now")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", string(Transition::Retire.from().as_str()))
            .expression_attribute_values(":to", string(Transition::Retire.to().as_str()))
            .expression_attribute_values(":now", number(now.0))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    async fn retired(&self, update: UpdateItemFluentBuilder) -> Result<Retired, StoreError> {
        const OPERATION: &str = "UpdateItem";
        match self.update_item(update).await {
            Ok(answer) => {
                let sandbox = read_sandbox(answer.attributes.unwrap_or_default())
                    .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
                Ok(Retired::Done(sandbox))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    Ok(Retired::Refused(
                        refusal
                            .item()
                            .cloned()
                            .and_then(|item| self.read_or_skip(item)),
                    ))
                }
                _ => Err(StoreError::from_sdk(OPERATION, error)),
            },
        }
    }
}

enum Retired {
    Done(Sandbox),
    Refused(Option<Sandbox>),
}
