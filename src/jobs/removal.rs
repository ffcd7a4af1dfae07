//! Removal of sandboxes from the pool's table without a call to CSP: the jobs auto-delete-stale and bulk-delete.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobError,
    run::{Job, Report, ReportStatus, Run, elapsed_ms},
};
use crate::{
    clock::UnixSeconds,
    domain::{JobName, Sandbox, Status},
    store::Change,
};

/// The jobs that remove sandboxes from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemovalJob {
    /// `auto-delete-stale`: removes sandboxes that have been stale for this long, or as long as configured.
    StaleFor(Option<Duration>),
    /// `bulk-delete`: removes all stale sandboxes.
    AllStale,
    /// `bulk-delete`: removes all sandboxes whose deletion failed.
    AllFailed,
}

/// The report of a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "status": "completed", "due": 2, "deleted": 2, "grace_period_hours": 24, "duration_ms": 18 }))]
pub(crate) struct RemovalReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Sandboxes removed from the table.
    pub deleted: usize,
    /// Sandboxes to remove.
    pub due: usize,
    /// How long a sandbox had to be stale, in hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_hours: Option<u64>,
    /// The pause that stopped the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for RemovalReport {
    fn status(&self) -> ReportStatus {
        self.status
    }

    fn pause(&mut self, reason: String) {
        self.status = ReportStatus::Paused;
        self.stopped = Some(reason);
    }

    fn processed(&self) -> Vec<(&'static str, usize)> {
        vec![("deleted", self.deleted)]
    }
}

impl Job for RemovalJob {
    type Report = RemovalReport;

    fn name(&self) -> JobName {
        match self {
            Self::StaleFor(_) => JobName::AutoDeleteStale,
            Self::AllStale | Self::AllFailed => JobName::BulkDelete,
        }
    }

    async fn run_once(&self, run: &Run<RemovalReport>) -> Result<RemovalReport, JobError> {
        let began = Instant::now();
        let context = run.context();
        let now = context.clock.now();
        let (status, grace) = match *self {
            Self::StaleFor(grace) => (
                Status::Stale,
                Some(grace.unwrap_or(context.jobs.stale_grace)),
            ),
            Self::AllStale => (Status::Stale, None),
            Self::AllFailed => (Status::DeletionFailed, None),
        };
        let changes: Vec<_> = context
            .store
            .in_status(status)
            .await?
            .sandboxes
            .into_iter()
            .filter(|sandbox| grace.is_none_or(|grace| is_stale_for(sandbox, grace, now)))
            .map(|sandbox| Change::Remove(Box::new(sandbox)))
            .collect();
        let mut report = RemovalReport {
            due: changes.len(),
            grace_period_hours: grace.map(|grace| grace.as_secs() / 3600),
            ..RemovalReport::default()
        };
        run.progress(&report);
        let wrote_all = run
            .write_all(&changes, now, |_, made| {
                report.deleted += made.iter().filter(|made| **made).count();
                run.progress(&report);
            })
            .await?;
        report.status = ReportStatus::of_run(wrote_all);
        report.duration_ms = elapsed_ms(began);
        Ok(report)
    }
}

/// Returns whether a sandbox has been stale for `grace`. It became stale with its last write; a sandbox without a
/// credible time of its last write counts as old.
fn is_stale_for(sandbox: &Sandbox, grace: Duration, now: UnixSeconds) -> bool {
    sandbox
        .maintenance
        .updated_at
        .and_then(|since| since.if_credible(now))
        .is_none_or(|since| since <= now - grace)
}
