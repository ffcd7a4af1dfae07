//! Jobs and their runs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::UnixSeconds;

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
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub id: String,
    /// The job.
    pub job: JobName,
    /// How it stands.
    pub state: RunState,
    /// What it has done so far: the job's report.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    }
}
