//! Removing sandboxes from the table without CSP: what has been stale for long, or what an admin names.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobError,
    runner::{Job, Report, ReportStatus, Run},
};
use crate::{
    domain::{JobName, Sandbox, Status},
    store::Change,
    telemetry::metrics::Metrics,
};

/// Which sandboxes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Those that have been stale for so long.
    StaleFor(Duration),
    /// All that are stale.
    AllStale,
    /// All that CSP refused to delete.
    AllFailed,
}

/// The job.
#[derive(Debug)]
pub(crate) struct RemovalJob {
    /// Which sandboxes go.
    pub removal: Removal,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "status": "completed", "due": 2, "deleted": 2, "grace_period_hours": 24, "duration_ms": 18 }))]
pub(crate) struct RemovalReport {
    /// How it ended.
    pub status: ReportStatus,
    /// Sandboxes removed from the table.
    pub deleted: usize,
    /// Sandboxes that were to be removed.
    pub due: usize,
    /// For how long they had to be stale, in hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_hours: Option<u64>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for RemovalReport {
    fn is_interrupted(&self) -> bool {
        self.status == ReportStatus::Interrupted
    }

    fn count(&self, _: &Metrics, _: &str, _: Duration) {}
}

impl Job for RemovalJob {
    type Report = RemovalReport;

    fn name(&self) -> JobName {
        match self.removal {
            Removal::StaleFor(_) => JobName::AutoDeleteStale,
            Removal::AllStale | Removal::AllFailed => JobName::BulkDelete,
        }
    }

    async fn run_once(&self, run: &Run<RemovalReport>) -> Result<RemovalReport, JobError> {
        let began = Instant::now();
        let context = run.context();
        let now = context.clock.now();
        let status = match self.removal {
            Removal::StaleFor(_) | Removal::AllStale => Status::Stale,
            Removal::AllFailed => Status::DeletionFailed,
        };
        let goes = |sandbox: &Sandbox| match self.removal {
            // A stale sandbox is written when it goes stale and not again; one without a time is old.
            Removal::StaleFor(grace) => sandbox
                .maintenance
                .updated_at
                .is_none_or(|since| since + grace <= now),
            Removal::AllStale | Removal::AllFailed => true,
        };
        let sandboxes = context.store.in_status(status).await?;
        let changes: Vec<_> = sandboxes
            .into_iter()
            .filter(goes)
            .map(|sandbox| Change::Remove(Box::new(sandbox)))
            .collect();
        let grace_period_hours = match self.removal {
            Removal::StaleFor(grace) => Some(grace.as_secs() / 3600),
            Removal::AllStale | Removal::AllFailed => None,
        };
        let mut report = RemovalReport {
            due: changes.len(),
            grace_period_hours,
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
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }
}
