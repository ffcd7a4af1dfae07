//! Auto-expire: retires the allocations whose time and grace period are over.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobContext, JobError,
    runner::{Job, Report, ReportStatus, Run},
};
use crate::{
    metrics::Metrics,
    sandbox::lab_duration,
    store::{Change, JobName},
};

/// Changes between two looks at whether to stop.
const CHUNK: usize = 100;

/// The job.
#[derive(Debug)]
pub struct ExpiryJob {
    /// What it works with.
    pub context: Arc<JobContext>,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "status": "completed", "due": 3, "expired": 3, "duration_ms": 21 }))]
pub struct ExpiryReport {
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
        let context = &self.context;
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
            status: ReportStatus::Completed,
            due: overdue.len(),
            ..ExpiryReport::default()
        };
        run.progress(&report);
        for chunk in overdue.chunks(CHUNK) {
            if run.is_stopped() {
                report.status = ReportStatus::Interrupted;
                break;
            }
            let made = context
                .store
                .apply(Some(run.fence()), chunk, terms.lab_duration_hours, now)
                .await?;
            report.expired += made.into_iter().filter(|made| *made).count();
            run.progress(&report);
        }
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }
}
