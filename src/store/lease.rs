//! Job leases: only one run of a job executes at a time over all brokers, and a fencing token guards its writes.

use std::time::Duration;

use aws_sdk_dynamodb::{
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};

use super::{
    PoolStore, StoreError,
    error::is_failed_condition,
    item::{self, Item, integer, number, string},
};
use crate::{
    clock::UnixSeconds,
    domain::{JobName, JobState, RunId},
};

/// The duration of a lease unless it is renewed. After that time, another broker can start the job of a crashed one.
pub const LEASE: Duration = Duration::from_secs(45);

/// The fencing token of a run. Every take-over of the lease increments its generation, and the writes of a run require
/// the generation that the run acquired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub(super) job: JobName,
    pub(super) generation: i64,
}

/// The outcome of an attempt to acquire a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The run holds the lease.
    Granted {
        /// The fencing token for its writes.
        fence: Fence,
        /// The previous run, if it never released the lease: its broker crashed or lost the database.
        abandoned: Option<RunId>,
        /// `deferred_since` of [`RunOutcome::Succeeded`] of the last run that succeeded.
        deferred_since: Option<UnixSeconds>,
    },
    /// Another run holds the lease. Contains its id.
    Held(Option<String>),
    /// The last run started too recently.
    NotDue,
}

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// The run completed.
    Succeeded {
        /// Work that it left to a later run.
        deferred: u64,
        /// Since when runs have deferred their work for a later run to confirm; `None` if this one did not.
        deferred_since: Option<UnixSeconds>,
    },
    /// The run failed. The next one follows the schedule.
    Failed,
    /// The run was interrupted. The next one is due immediately.
    Interrupted,
    /// A pause stopped the run. The next one follows the schedule.
    Paused,
}

impl RunOutcome {
    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "success",
            Self::Failed => "error",
            Self::Interrupted => "interrupted",
            Self::Paused => "paused",
        }
    }
}

/// The end of a run, as recorded in the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// The outcome.
    pub outcome: RunOutcome,
    /// When the run ended.
    pub at: UnixSeconds,
    /// The numbers of sandboxes that it processed, by result. They are added to those of earlier runs.
    pub processed: Vec<(&'static str, u64)>,
}

/// The prefixes of the attributes that count the runs by outcome, and the processed sandboxes by result.
const RUNS: &str = "runs_";
const PROCESSED: &str = "processed_";

/// Returns the partition key of a job's lease and run records.
pub(super) fn partition(job: JobName) -> String {
    format!("JOB#{job}")
}

/// Returns the primary key of a job's lease.
pub(super) fn lease_key(job: JobName) -> Item {
    item::key(partition(job), "LEASE")
}

impl PoolStore {
    /// Acquires the lease of a job for a run, unless another run holds it. With `not_since`, only if the last run
    /// started at that time or before.
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
        // A lease that ends later than any valid one was written by a broker whose clock is ahead.
        let free =
            "(attribute_not_exists(lease_until) OR lease_until < :now OR lease_until > :absurd)";
        let mut request = self
            .client
            .update_item()
            .table_name(&self.table.companion)
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
            // A run that never released its lease did not complete, so the job is due immediately.
            request = request
                .condition_expression(format!(
                    "{free} AND (attribute_not_exists(started_at) OR started_at <= :since OR started_at > :absurd \
                     OR lease_until > :zero)"
                ))
                .expression_attribute_values(":since", number(not_since.0));
        }
        match self.update_item(request).await {
            Ok(answer) => {
                let previous = answer.attributes.as_ref();
                let was_released = integer(previous, "lease_until").is_none_or(|until| until == 0);
                Ok(Acquired::Granted {
                    fence: Fence {
                        job: run.job(),
                        generation: integer(previous, "generation").unwrap_or(0) + 1,
                    },
                    abandoned: run_of(previous)
                        .filter(|_| !was_released)
                        .and_then(|id| id.parse().ok()),
                    deferred_since: integer(previous, "deferred_since").map(UnixSeconds),
                })
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    let lease = refusal.item();
                    // The answer to the SDK's first attempt was lost, and its retry found the lease of this very run.
                    if run_of(lease).as_deref() == Some(run.as_str())
                        && let Some(generation) = integer(lease, "generation")
                    {
                        return Ok(Acquired::Granted {
                            fence: Fence {
                                job: run.job(),
                                generation,
                            },
                            abandoned: None,
                            deferred_since: integer(lease, "deferred_since").map(UnixSeconds),
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

    /// Renews the lease until [`LEASE`] after `now`.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] if another run holds the lease or it was released; any other [`StoreError`].
    pub async fn renew_lease(&self, fence: &Fence, now: UnixSeconds) -> Result<(), StoreError> {
        let request = self
            .held_lease(fence)
            .update_expression("SET lease_until = :until")
            .expression_attribute_values(":until", number((now + LEASE).0));
        self.update_lease(request).await
    }

    /// Releases the lease and records the end of the run.
    ///
    /// # Errors
    /// As for [`renew_lease`](Self::renew_lease).
    pub async fn release_lease(&self, fence: &Fence, end: &RunEnd) -> Result<(), StoreError> {
        let mut request = self
            .held_lease(fence)
            .expression_attribute_values(":at", number(end.at.0))
            .expression_attribute_values(":one", number(1));
        let (mut set, mut remove) = (vec!["lease_until = :zero", "ended_at = :at"], "");
        match end.outcome {
            RunOutcome::Succeeded {
                deferred,
                deferred_since,
            } => {
                set.extend(["succeeded_at = :at", "deferred_last = :deferred"]);
                request = request.expression_attribute_values(":deferred", unsigned(deferred));
                if let Some(since) = deferred_since {
                    set.push("deferred_since = :since");
                    request = request.expression_attribute_values(":since", number(since.0));
                } else {
                    remove = " REMOVE deferred_since";
                }
            }
            RunOutcome::Failed => set.push("failed_at = :at"),
            RunOutcome::Interrupted => set.push("started_at = :zero"),
            RunOutcome::Paused => set.push("paused_at = :at"),
        }
        let mut add = vec![format!("{RUNS}{} :one", end.outcome.as_str())];
        for (result, count) in &end.processed {
            add.push(format!("{PROCESSED}{result} :{result}"));
            request = request.expression_attribute_values(format!(":{result}"), unsigned(*count));
        }
        let expression = format!("SET {}{remove} ADD {}", set.join(", "), add.join(", "));
        self.update_lease(request.update_expression(expression))
            .await
    }

    /// Reads the state of a job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job_state(&self, job: JobName) -> Result<JobState, StoreError> {
        let lease = self.get_item(&self.table.companion, lease_key(job)).await?;
        let time = |name| integer(lease.as_ref(), name).map(UnixSeconds);
        let counts = |prefix| {
            let attributes = lease.iter().flatten();
            attributes
                .filter_map(|(name, value)| {
                    let count = value.as_n().ok()?.parse().ok()?;
                    Some((name.strip_prefix(prefix)?.to_owned(), count))
                })
                .collect()
        };
        Ok(JobState {
            last_run: run_of(lease.as_ref()).and_then(|id| id.parse().ok()),
            ended_at: time("ended_at"),
            succeeded_at: time("succeeded_at"),
            failed_at: time("failed_at"),
            paused_at: time("paused_at"),
            deferred: integer(lease.as_ref(), "deferred_last")
                .and_then(|deferred| deferred.try_into().ok())
                .unwrap_or(0),
            runs: counts(RUNS),
            processed: counts(PROCESSED),
        })
    }

    fn held_lease(&self, fence: &Fence) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table.companion)
            .set_key(Some(lease_key(fence.job)))
            .condition_expression("generation = :generation AND lease_until > :zero")
            .expression_attribute_values(":generation", number(fence.generation))
            .expression_attribute_values(":zero", number(0))
    }

    async fn update_lease(&self, request: UpdateItemFluentBuilder) -> Result<(), StoreError> {
        match self.update_item(request).await {
            Ok(_) => Ok(()),
            Err(error) if is_failed_condition(&error) => Err(StoreError::Superseded),
            Err(error) => Err(StoreError::from_sdk("UpdateItem", error)),
        }
    }

    /// Ends every lease that was not released. Only for a store that no other process can use, where such a lease
    /// belongs to a crashed process.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn break_leases(&self) -> Result<(), StoreError> {
        for job in JobName::ALL {
            let answer = self
                .client
                .update_item()
                .table_name(&self.table.companion)
                .set_key(Some(lease_key(job)))
                .update_expression("SET lease_until = :one ADD generation :one")
                .condition_expression("lease_until > :zero")
                .expression_attribute_values(":zero", number(0))
                .expression_attribute_values(":one", number(1))
                .send()
                .await;
            match answer {
                Err(error) if !is_failed_condition(&error) => {
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

fn unsigned(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::attribute;

    proptest! {
        #[test]
        fn lease_attribute_of_another_type_counts_as_absent(value in attribute()) {
            let lease = Item::from([("generation".to_owned(), value.clone()), ("run_id".to_owned(), value)]);
            prop_assert!(integer(Some(&lease), "generation").is_none() || lease["generation"].is_n());
            prop_assert_eq!(run_of(Some(&lease)).is_some(), lease["run_id"].is_s());
        }
    }
}
