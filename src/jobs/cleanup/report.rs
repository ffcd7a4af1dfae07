//! The report of a run.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    jobs::run::{Report, ReportStatus},
    telemetry::metrics::Metrics,
};

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "completed", "due": 200, "deleted": 180, "failed": 0, "deferred": 20, "requeued": 0, "unreadable": 0,
    "niosxaas_cleaned": 0, "niosxaas_failed": 0,
    "stopped": "CSP is unavailable; deletions resume after 1774000060", "duration_ms": 41200
}))]
pub(crate) struct CleanupReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Sandboxes to delete in this run.
    pub due: usize,
    /// Sandboxes deleted.
    pub deleted: usize,
    /// Sandboxes that CSP permanently refuses to delete, or without attempts left: now `deletion_failed`.
    pub failed: usize,
    /// Sandboxes deferred to a later run.
    pub deferred: usize,
    /// `deletion_failed` sandboxes returned to `pending_deletion` at the start.
    pub requeued: usize,
    /// Unreadable items that are due for deletion, and left as they are.
    pub unreadable: usize,
    /// Sandboxes whose NIOSXaaS services were deleted.
    pub niosxaas_cleaned: usize,
    /// Sandboxes whose NIOSXaaS services could not be deleted.
    pub niosxaas_failed: usize,
    /// Why the run ended before every deletion was attempted: CSP, or a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for CleanupReport {
    fn status(&self) -> ReportStatus {
        self.status
    }

    fn pause(&mut self, reason: String) {
        self.status = ReportStatus::Paused;
        self.stopped = Some(reason);
    }

    fn count(&self, metrics: &Metrics, outcome: &str, took: Duration) {
        metrics.cleanup.with_label_values(&[outcome]).inc();
        metrics.cleanup_deleted.inc_by(self.deleted as u64);
        metrics.cleanup_failed.inc_by(self.failed as u64);
        metrics.cleanup_duration.observe(took.as_secs_f64());
    }

    fn processed(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("deleted", self.deleted),
            ("failed", self.failed),
            ("niosxaas_cleaned", self.niosxaas_cleaned),
            ("niosxaas_failed", self.niosxaas_failed),
        ]
    }

    fn deferred(&self) -> usize {
        self.deferred
    }
}
