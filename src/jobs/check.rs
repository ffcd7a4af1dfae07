//! Check: whether the accounts of new sandboxes are usable.

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
pub(crate) struct CheckJob;

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "status": "completed", "usable": 0, "not_yet": 0, "failed": 0, "quarantined": 0, "duration_ms": 18 }))]
pub(crate) struct CheckReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Accounts found usable.
    pub usable: usize,
    /// Accounts not usable yet.
    pub not_yet: usize,
    /// Accounts found broken, but not quarantined yet.
    pub failed: usize,
    /// Sandboxes set aside.
    pub quarantined: usize,
    /// Why the run ended before all its work was done: CSP, or a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for CheckReport {
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
            ("usable", self.usable),
            ("not_yet", self.not_yet),
            ("failed", self.failed),
            ("quarantined", self.quarantined),
        ]
    }
}

impl Job for CheckJob {
    type Report = CheckReport;

    fn name(&self) -> JobName {
        JobName::Check
    }

    async fn run_once(&self, run: &Run<CheckReport>) -> Result<CheckReport, JobError> {
        let began = Instant::now();
        let mut report = CheckReport::default();
        run.progress(&report);
        report.status = ReportStatus::Completed;
        report.duration_ms = elapsed_ms(began);
        Ok(report)
    }
}
