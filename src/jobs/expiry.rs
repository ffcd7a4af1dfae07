//! Auto-expire: retires the allocations whose time and grace period are over.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobError,
    runner::{Job, Report, ReportStatus, Run},
};
use crate::{
    domain::{JobName, lab_duration},
    store::Change,
    telemetry::metrics::Metrics,
};

/// The job.
#[derive(Debug)]
pub(crate) struct ExpiryJob;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "status": "completed", "due": 3, "expired": 3, "duration_ms": 21 }))]
pub(crate) struct ExpiryReport {
    /// How it ended.
    pub status: ReportStatus,
    /// Allocations that were retired.
    pub expired: usize,
    /// Allocations whose time is up.
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

    /// What was allocated under a shorter `LAB_DURATION_HOURS` than the current one is found when the current one is
    /// over: only that is a range of the index.
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
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }
}
