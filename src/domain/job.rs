//! Jobs and their runs.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Activity;
use crate::clock::UnixSeconds;

/// The name of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobName {
    /// Reconciles the pool with the accounts that CSP lists.
    Sync,
    /// Deletes released and expired sandboxes from CSP and the table.
    Cleanup,
    /// Retires overdue allocations.
    AutoExpire,
    /// Removes sandboxes that have been stale for a configured time.
    AutoDeleteStale,
    /// Checks whether the accounts of new sandboxes are usable.
    Check,
    /// Creates accounts for pools below their target.
    Refill,
    /// Removes the sandboxes that an admin lists.
    BulkDelete,
}

impl JobName {
    /// Every job.
    pub const ALL: [Self; 7] = [
        Self::Sync,
        Self::Cleanup,
        Self::AutoExpire,
        Self::AutoDeleteStale,
        Self::Check,
        Self::Refill,
        Self::BulkDelete,
    ];

    /// Returns whether the job calls CSP.
    #[must_use]
    pub const fn calls_csp(self) -> bool {
        matches!(
            self,
            Self::Sync | Self::Cleanup | Self::Check | Self::Refill
        )
    }

    /// Returns the activity whose pause stops the job.
    #[must_use]
    pub const fn activity(self) -> Activity {
        match self {
            Self::Sync | Self::Check => Activity::Sync,
            Self::Cleanup | Self::AutoDeleteStale | Self::BulkDelete => Activity::Deletions,
            Self::AutoExpire => Activity::Expiry,
            Self::Refill => Activity::Refill,
        }
    }

    /// Returns the name used in the table, the API and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Cleanup => "cleanup",
            Self::AutoExpire => "auto-expire",
            Self::AutoDeleteStale => "auto-delete-stale",
            Self::Check => "check",
            Self::Refill => "refill",
            Self::BulkDelete => "bulk-delete",
        }
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of a run. It starts with the job's name, so the id alone is enough to find the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RunId {
    text: String,
    #[serde(skip)]
    job: JobName,
}

impl RunId {
    /// Creates an id. The ids of one job sort by start time.
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

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the job.
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

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// In progress.
    Running,
    /// Completed.
    Succeeded,
    /// Ended with the error in the record's `error`.
    Failed,
    /// Ended before completion by a shutdown or because another run took over its lease. The next run continues.
    Interrupted,
    /// Stopped by a pause before completion, possibly before it did anything. A run after the pause continues.
    Paused,
}

/// The state of a job over all its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobState {
    /// The id of the last run, also of one in progress.
    pub last_run: Option<RunId>,
    /// End of the last finished run.
    pub ended_at: Option<UnixSeconds>,
    /// End of the last run that succeeded.
    pub succeeded_at: Option<UnixSeconds>,
    /// End of the last run that failed.
    pub failed_at: Option<UnixSeconds>,
    /// End of the last run that a pause stopped.
    pub paused_at: Option<UnixSeconds>,
    /// Work that the last run that succeeded left to a later run.
    pub deferred: u64,
    /// The numbers of finished runs, by outcome.
    pub runs: BTreeMap<String, u64>,
    /// The numbers of sandboxes that finished runs processed, by result.
    pub processed: BTreeMap<String, u64>,
}

/// The record of one run of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub id: String,
    /// The job.
    pub job: JobName,
    /// Its state.
    pub state: RunState,
    /// The job's report so far, as JSON.
    pub counts: serde_json::Value,
    /// The reason for a failure or interruption.
    pub error: Option<String>,
    /// The name of the principal that started it; `None` for the schedule and the command line.
    pub started_by: Option<String>,
    /// Start of the run.
    pub started_at: UnixSeconds,
    /// Last write of this record.
    pub updated_at: UnixSeconds,
    /// End of the run; `None` while it is in progress.
    pub finished_at: Option<UnixSeconds>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn run_id_parses_back_and_names_its_job() {
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

    proptest! {
        #[test]
        fn any_text_parses_to_a_safe_run_id_or_is_rejected(text in prop_oneof![crate::arbitrary::text(), "(sync|bulk-delete)-[0-9a-z-]{0,70}"]) {
            if let Ok(id) = text.parse::<RunId>() {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert!(text.len() <= 64 && text.starts_with(id.job().as_str()));
                // The id is part of a URL path and of a header.
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            }
        }

        #[test]
        fn any_run_id_parses_back(job in proptest::sample::select(JobName::ALL.to_vec()), at in 0_i64.., random in any::<u32>()) {
            let id = RunId::new(job, UnixSeconds(at), random);
            prop_assert_eq!(id.as_str().parse(), Ok(id.clone()));
        }
    }
}
