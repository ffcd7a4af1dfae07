//! Job leases: a job runs once at a time over all brokers, and its writes carry a fencing token.

use std::time::Duration;

use aws_sdk_dynamodb::{
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use futures_util::future::try_join_all;

use super::{
    PoolStore, StoreError,
    item::{self, Item, number, string},
};
use crate::{
    clock::UnixSeconds,
    domain::{JobName, RunId},
};

/// How long a lease lasts unless it is renewed: a dead holder's job can be started again after that.
pub const LEASE: Duration = Duration::from_secs(45);

/// What proves that a run still holds its job's lease: every take-over raises the generation, and the writes of a run
/// require its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub(super) job: JobName,
    pub(super) generation: i64,
}

/// How an attempt to start a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The run may begin.
    Granted {
        /// For its writes.
        fence: Fence,
        /// The run that held the lease and never gave it back: its broker died, or was cut off.
        abandoned: Option<RunId>,
    },
    /// Another run holds the lease; its id.
    Held(Option<String>),
    /// The last run started not long enough ago.
    NotDue,
}

/// How a run ended, for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// It did its work, until then.
    Succeeded(UnixSeconds),
    /// It could not; the next one comes in its own time.
    Failed,
    /// It was told to stop; the job is due again at once.
    Interrupted,
}

/// The partition key of everything about a job.
pub(super) fn partition(job: JobName) -> String {
    format!("JOB#{job}")
}

/// The primary key of a job's lease.
pub(super) fn lease_key(job: JobName) -> Item {
    item::key(partition(job), "LEASE")
}

impl PoolStore {
    /// Takes the lease of a job for a run, if nobody holds it. With `not_since`, only if the last run started no later.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acquire_lease(
        &self,
        run: &RunId,
        owner: &str,
        not_since: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<Acquired, StoreError> {
        const OPERATION: &str = "UpdateItem";
        // A lease further ahead than any can be was taken by a clock that runs fast.
        let free =
            "(attribute_not_exists(lease_until) OR lease_until < :now OR lease_until > :absurd)";
        let mut request = self
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(lease_key(run.job())))
            .update_expression(
                "SET #owner = :owner, run_id = :run, lease_until = :until, started_at = :now, \
                 generation = if_not_exists(generation, :zero) + :one",
            )
            .condition_expression(free)
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", string(owner))
            .expression_attribute_values(":run", string(run.as_str()))
            .expression_attribute_values(":until", number((now + LEASE).0))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":absurd", number((now + LEASE * 2).0))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let Some(not_since) = not_since {
            // A run that never gave its lease back did not do its work, so it is due again at once.
            request = request
                .condition_expression(format!(
                    "{free} AND (attribute_not_exists(started_at) OR started_at <= :since OR started_at > :absurd \
                     OR lease_until > :zero)"
                ))
                .expression_attribute_values(":since", number(not_since.0));
        }
        match self.update_item(request).await {
            Ok(answer) => {
                let before = answer.attributes.as_ref();
                let was_given_back = integer(before, "lease_until").is_none_or(|until| until == 0);
                Ok(Acquired::Granted {
                    fence: Fence {
                        job: run.job(),
                        generation: integer(before, "generation").unwrap_or(0) + 1,
                    },
                    abandoned: run_of(before)
                        .filter(|_| !was_given_back)
                        .and_then(|id| id.parse().ok()),
                })
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    let lease = refusal.item();
                    // The answer to the first attempt was lost, and the SDK's second one met its own lease.
                    if run_of(lease).as_deref() == Some(run.as_str())
                        && let Some(generation) = integer(lease, "generation")
                    {
                        return Ok(Acquired::Granted {
                            fence: Fence {
                                job: run.job(),
                                generation,
                            },
                            abandoned: None,
                        });
                    }
                    Ok(
                        if integer(lease, "lease_until").is_some_and(|until| until >= now.0) {
                            Acquired::Held(run_of(lease))
                        } else {
                            Acquired::NotDue
                        },
                    )
                }
                _ => Err(StoreError::from_sdk(OPERATION, error)),
            },
        }
    }

    /// Makes the lease last [`LEASE`] from `now` on.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] if another run has it, or it was given back; any other [`StoreError`].
    pub async fn renew_lease(&self, fence: &Fence, now: UnixSeconds) -> Result<(), StoreError> {
        let request = self
            .held_lease(fence)
            .update_expression("SET lease_until = :until")
            .expression_attribute_values(":until", number((now + LEASE).0));
        self.update_lease(request).await
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// As [`renew_lease`](Self::renew_lease).
    pub async fn release_lease(&self, fence: &Fence, ended: RunOutcome) -> Result<(), StoreError> {
        let request = self.held_lease(fence);
        let request = match ended {
            RunOutcome::Succeeded(at) => request
                .update_expression("SET lease_until = :zero, succeeded_at = :at")
                .expression_attribute_values(":at", number(at.0)),
            RunOutcome::Failed => request.update_expression("SET lease_until = :zero"),
            RunOutcome::Interrupted => {
                request.update_expression("SET lease_until = :zero, started_at = :zero")
            }
        };
        self.update_lease(request).await
    }

    /// When each job last succeeded; without those that never did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_successes(&self) -> Result<Vec<(JobName, UnixSeconds)>, StoreError> {
        let leases = try_join_all(
            JobName::ALL.map(|job| async move { Ok((job, self.last_success(job).await?)) }),
        );
        let leases = leases.await?.into_iter();
        Ok(leases
            .filter_map(|(job, at)| at.map(|at| (job, at)))
            .collect())
    }

    /// When a job last succeeded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_success(&self, job: JobName) -> Result<Option<UnixSeconds>, StoreError> {
        let lease = self.get_item(lease_key(job)).await?;
        Ok(integer(lease.as_ref(), "succeeded_at").map(UnixSeconds))
    }

    fn held_lease(&self, fence: &Fence) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(lease_key(fence.job)))
            .condition_expression("generation = :generation AND lease_until > :zero")
            .expression_attribute_values(":generation", number(fence.generation))
            .expression_attribute_values(":zero", number(0))
    }

    async fn update_lease(&self, request: UpdateItemFluentBuilder) -> Result<(), StoreError> {
        match self.update_item(request).await {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(UpdateItemError::is_conditional_check_failed_exception) =>
            {
                Err(StoreError::Superseded)
            }
            Err(error) => Err(StoreError::from_sdk("UpdateItem", error)),
        }
    }

    /// Ends every lease that was not given back: for a store that only this process can use, where a lease can only be of a dead one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn break_leases(&self) -> Result<(), StoreError> {
        for job in JobName::ALL {
            let answer = self
                .client
                .update_item()
                .table_name(&self.table.name)
                .set_key(Some(lease_key(job)))
                .update_expression("SET lease_until = :one ADD generation :one")
                .condition_expression("lease_until > :zero")
                .expression_attribute_values(":zero", number(0))
                .expression_attribute_values(":one", number(1))
                .send()
                .await;
            match answer {
                Err(error)
                    if !error
                        .as_service_error()
                        .is_some_and(UpdateItemError::is_conditional_check_failed_exception) =>
                {
                    return Err(StoreError::from_sdk("UpdateItem", error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn run_of(lease: Option<&Item>) -> Option<String> {
    lease?.get("run_id")?.as_s().ok().cloned()
}

fn integer(item: Option<&Item>, name: &str) -> Option<i64> {
    item?.get(name)?.as_n().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::attribute;

    proptest! {
        #[test]
        fn any_lease_has_whole_numbers_or_none(value in attribute()) {
            let lease = Item::from([("generation".to_owned(), value.clone()), ("run_id".to_owned(), value)]);
            prop_assert!(integer(Some(&lease), "generation").is_none() || lease["generation"].is_n());
            prop_assert_eq!(run_of(Some(&lease)).is_some(), lease["run_id"].is_s());
        }
    }
}
