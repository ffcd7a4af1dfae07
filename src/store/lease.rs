//! Leases, so that a job runs once at a time over all tasks, and the records of its runs.

use std::{fmt, str::FromStr, time::Duration};

use aws_sdk_dynamodb::{
    operation::{
        put_item::PutItemError,
        update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    },
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    PoolStore, StoreError,
    item::{self, Item, number, string},
};
use crate::clock::UnixSeconds;

/// How long a lease lasts unless it is renewed: a dead holder's job can be started again after that.
pub const LEASE: Duration = Duration::from_secs(45);
/// How long a run is remembered.
const RUN_TTL: Duration = Duration::from_hours(30 * 24);

/// The jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobName {
    /// Brings the pool in step with CSP.
    Sync,
    /// Deletes from CSP what was given back.
    Cleanup,
    /// Retires allocations whose time is up.
    AutoExpire,
    /// Removes what has been stale for long.
    AutoDeleteStale,
    /// Removes what an admin names.
    BulkDelete,
}

impl JobName {
    /// Every job.
    pub const ALL: [Self; 5] = [
        Self::Sync,
        Self::Cleanup,
        Self::AutoExpire,
        Self::AutoDeleteStale,
        Self::BulkDelete,
    ];

    /// The name in the table, the API and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Cleanup => "cleanup",
            Self::AutoExpire => "auto-expire",
            Self::AutoDeleteStale => "auto-delete-stale",
            Self::BulkDelete => "bulk-delete",
        }
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of a run. It begins with the job's name, so that a run can be found by its id alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RunId {
    text: String,
    #[serde(skip)]
    job: JobName,
}

impl RunId {
    /// A new id; ids of one job are in the order of their start.
    #[must_use]
    pub fn new(job: JobName, started_at: UnixSeconds, random: u32) -> Self {
        Self {
            text: format!(
                "{job}-{started_at:011}-{random:08x}",
                started_at = started_at.0
            ),
            job,
        }
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The job.
    #[must_use]
    pub const fn job(&self) -> JobName {
        self.job
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for RunId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let rest_of = |job: JobName| text.strip_prefix(job.as_str())?.strip_prefix('-');
        let job = JobName::ALL
            .into_iter()
            .find(|job| {
                rest_of(*job)
                    .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            })
            .ok_or(())?;
        let plain = text.len() <= 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain
            .then(|| Self {
                text: text.to_owned(),
                job,
            })
            .ok_or(())
    }
}

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

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It runs.
    Running,
    /// It did what it should.
    Succeeded,
    /// It failed; `error` says why.
    Failed,
    /// A shutdown or a take-over ended it early. The next run goes on.
    Interrupted,
}

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "id": "cleanup-01774000000-1f0c7a52", "job": "cleanup", "state": "running",
    "counts": { "status": "running", "due": 200, "deleted": 120, "failed": 0, "deferred": 0 },
    "error": null, "started_at": 1_774_000_000, "updated_at": 1_774_000_045, "finished_at": null
}))]
pub struct RunRecord {
    /// Its id.
    pub id: String,
    /// The job.
    pub job: JobName,
    /// How it stands.
    pub state: RunState,
    /// What it has done so far: the job's report.
    #[schema(value_type = Object)]
    pub counts: serde_json::Value,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began, in Unix seconds.
    pub started_at: UnixSeconds,
    /// When this record was last written, in Unix seconds.
    pub updated_at: UnixSeconds,
    /// When it ended, in Unix seconds.
    pub finished_at: Option<UnixSeconds>,
}

/// How a run ended, for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It did its work, until then.
    Succeeded(UnixSeconds),
    /// It could not; the next one comes in its own time.
    Failed,
    /// It was told to stop; the job is due again at once.
    Interrupted,
}

fn partition(job: JobName) -> String {
    format!("JOB#{job}")
}

/// The primary key of a job's lease.
pub(super) fn lease_key(job: JobName) -> Item {
    item::key(partition(job), "LEASE")
}

fn run_key(id: &RunId) -> Item {
    item::key(partition(id.job), &format!("RUN#{id}"))
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
            .set_key(Some(lease_key(run.job)))
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
                        job: run.job,
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
                                job: run.job,
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
    pub async fn release_lease(&self, fence: &Fence, ended: Ended) -> Result<(), StoreError> {
        let request = self.held_lease(fence);
        let request = match ended {
            Ended::Succeeded(at) => request
                .update_expression("SET lease_until = :zero, succeeded_at = :at")
                .expression_attribute_values(":at", number(at.0)),
            Ended::Failed => request.update_expression("SET lease_until = :zero"),
            Ended::Interrupted => {
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

    /// Writes the record of a run. A record that says how the run ended is not written over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_run(&self, id: &RunId, record: &RunRecord) -> Result<(), StoreError> {
        const OPERATION: &str = "PutItem";
        let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(record)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        item.extend(run_key(id));
        item.insert("ttl".to_owned(), number((record.started_at + RUN_TTL).0));
        let answer = self
            .client
            .put_item()
            .table_name(&self.table.name)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(PK) OR #state = :running")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":running", string("running"))
            .send()
            .await;
        match answer {
            Err(error)
                if !error
                    .as_service_error()
                    .is_some_and(PutItemError::is_conditional_check_failed_exception) =>
            {
                Err(StoreError::from_sdk(OPERATION, error))
            }
            _ => Ok(()),
        }
    }

    /// Records that a run ended without a word, if its record still says that it runs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_abandoned(&self, id: &RunId, now: UnixSeconds) -> Result<(), StoreError> {
        let Some(record) = self.run(id).await? else {
            return Ok(());
        };
        let ended = RunRecord {
            state: RunState::Interrupted,
            error: Some("its broker died, or lost the database".to_owned()),
            updated_at: now,
            finished_at: Some(now),
            ..record
        };
        self.put_run(id, &ended).await
    }

    /// The record of a run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn run(&self, id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        let item = self.get_item(run_key(id)).await?;
        Ok(item.and_then(read_run))
    }

    /// The last runs of a job, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recent_runs(
        &self,
        job: JobName,
        limit: i32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table.name)
            .key_condition_expression("PK = :job AND begins_with(SK, :run)")
            .expression_attribute_values(":job", string(partition(job)))
            .expression_attribute_values(":run", string("RUN#"))
            .scan_index_forward(false)
            .limit(limit)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("Query", error))?;
        Ok(answer
            .items
            .unwrap_or_default()
            .into_iter()
            .filter_map(read_run)
            .collect())
    }
}

fn read_run(item: Item) -> Option<RunRecord> {
    match serde_dynamo::aws_sdk_dynamodb_1::from_item(item) {
        Ok(record) => Some(record),
        Err(fault) => {
            tracing::warn!(%fault, "skipped a run record that cannot be read");
            None
        }
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
    use crate::arbitrary::{attribute, spoilt};

    #[test]
    fn a_run_id_reads_back_and_names_its_job() {
        for job in JobName::ALL {
            let id = RunId::new(job, UnixSeconds(1_774_000_000), 0xdead_beef);
            assert_eq!(id.as_str().parse::<RunId>(), Ok(id.clone()));
            assert_eq!(id.job(), job);
        }
        for not_an_id in [
            "", "sync", "sync-", "sync-x", "reboot-1", "sync-1#2", "sync-1/2",
        ] {
            assert!(not_an_id.parse::<RunId>().is_err(), "{not_an_id}");
        }
    }

    fn record() -> RunRecord {
        RunRecord {
            id: "sync-01774000000-1f0c7a52".into(),
            job: JobName::Sync,
            state: RunState::Running,
            counts: serde_json::json!({ "status": "running", "synced": 3 }),
            error: Some("why".into()),
            started_at: UnixSeconds(1),
            updated_at: UnixSeconds(2),
            finished_at: Some(UnixSeconds(3)),
        }
    }

    fn item(record: &RunRecord) -> Item {
        serde_dynamo::aws_sdk_dynamodb_1::to_item(record).unwrap()
    }

    proptest! {
        #[test]
        fn any_text_is_the_id_of_a_run_or_none(text in prop_oneof![crate::arbitrary::text(), "(sync|bulk-delete)-[0-9a-z-]{0,70}"]) {
            if let Ok(id) = text.parse::<RunId>() {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert!(text.len() <= 64 && text.starts_with(id.job().as_str()));
                // It is part of a path and of a header.
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            }
        }

        #[test]
        fn any_run_id_reads_back(job in proptest::sample::select(JobName::ALL.to_vec()), at in 0_i64.., random in any::<u32>()) {
            let id = RunId::new(job, UnixSeconds(at), random);
            prop_assert_eq!(id.as_str().parse(), Ok(id.clone()));
        }

        #[test]
        fn any_report_reads_back(counts in proptest::collection::hash_map("[a-z_]{1,12}", any::<u32>(), 0..8), error in proptest::option::of(".{0,99}")) {
            let record = RunRecord { counts: serde_json::json!(counts), error, ..record() };
            prop_assert_eq!(read_run(item(&record)), Some(record));
        }

        #[test]
        fn any_item_is_a_record_or_skipped(item in spoilt(item(&record()))) {
            read_run(item);
        }

        #[test]
        fn any_lease_has_whole_numbers_or_none(value in attribute()) {
            let lease = Item::from([("generation".to_owned(), value.clone()), ("run_id".to_owned(), value)]);
            prop_assert!(integer(Some(&lease), "generation").is_none() || lease["generation"].is_n());
            prop_assert_eq!(run_of(Some(&lease)).is_some(), lease["run_id"].is_s());
        }
    }
}
