//! Auto-expire: retires overdue allocations.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobError,
    run::{Job, Report, ReportStatus, Run, elapsed_ms},
};
use crate::{
    domain::{JobName, lab_duration},
    store::Change,
    telemetry::metrics::Metrics,
};

/// The job.
#[derive(Debug)]
pub(crate) struct ExpiryJob;

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "status": "completed", "due": 3, "expired": 3, "duration_ms": 21 }))]
pub(crate) struct ExpiryReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Allocations retired.
    pub expired: usize,
    /// Overdue allocations.
    pub due: usize,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for ExpiryReport {
    fn is_interrupted(&self) -> bool {
        self.status == ReportStatus::Interrupted
    }

    fn count(&self, metrics: &Metrics, outcome: &str, _: Duration) {
        metrics.expiry.with_label_values(&[outcome]).inc();
        metrics.expiry_orphaned.inc_by(self.expired as u64);
    }
}

impl Job for ExpiryJob {
    type Report = ExpiryReport;

    fn name(&self) -> JobName {
        JobName::AutoExpire
    }

    /// An allocation made under a shorter `LAB_DURATION_HOURS` than the current one is found only when the current
    /// duration is over, because the query is a range of allocation times.
    async fn run_once(&self, run: &Run<ExpiryReport>) -> Result<ExpiryReport, JobError> {
        let began = Instant::now();
        let context = run.context();
        let terms = context.terms;
        let now = context.clock.now();
        let latest = now - lab_duration(terms.lab_duration_hours) - terms.grace;
        let overdue: Vec<_> = context
            .store
            .allocated_until(latest)
            .await?
            .into_iter()
            .filter(|sandbox| sandbox.is_overdue(now, terms.grace))
            .map(|sandbox| Change::Expire(sandbox.account.sandbox_id, sandbox.allocated_at))
            .collect();
        let mut report = ExpiryReport {
            due: overdue.len(),
            ..ExpiryReport::default()
        };
        run.progress(&report);
        let wrote_all = run
            .write_all(&overdue, now, |_, made| {
                report.expired += made.iter().filter(|made| **made).count();
                run.progress(&report);
            })
            .await?;
        report.status = ReportStatus::of_run(wrote_all);
        report.duration_ms = elapsed_ms(began);
        Ok(report)
    }
}
