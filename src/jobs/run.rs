//! A run of a job: the traits of jobs and reports, the run as its job sees it, and the handle of the code that started
//! it.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{JobContext, JobError};
use crate::{
    clock::UnixSeconds,
    domain::{AuditAction, AuditRecord, AuditTarget, Author, JobName, RunId},
    shared::lock,
    store::{Change, Fence, StoreError},
    telemetry::metrics::Metrics,
};

/// The number of changes written between two checks of whether to stop.
const CHUNK: usize = 100;

/// A job that maintains the pool.
pub trait Job: Send + Sync + 'static {
    /// The report of a run.
    type Report: Report;

    /// Returns the name of the job.
    fn name(&self) -> JobName;

    /// Executes one run. It checks [`Run::is_stopped`] between items, publishes its report with [`Run::progress`], and
    /// writes under [`Run::fence`].
    fn run_once(
        &self,
        run: &Run<Self::Report>,
    ) -> impl Future<Output = Result<Self::Report, JobError>> + Send;
}

/// A request to start a run.
#[derive(Clone, Debug)]
pub struct Start {
    /// The principal that requests it.
    pub author: Author,
    /// The parameters of the job.
    pub parameters: Map<String, Value>,
}

impl Start {
    /// Returns the audit record of the start.
    pub(super) fn audit(&self, id: &RunId, at_ms: i64) -> AuditRecord {
        let mut after = self.parameters.clone();
        after.insert("run_id".to_owned(), id.as_str().into());
        let target = AuditTarget::Job(id.job());
        AuditRecord {
            after: Some(after.into()),
            ..AuditRecord::done(at_ms, self.author.clone(), AuditAction::StartJob, target)
        }
    }
}

/// The report of a run: the work that it has done so far.
pub trait Report: Clone + Debug + Default + Serialize + Send + Sync + 'static {
    /// Returns the status of the run.
    fn status(&self) -> ReportStatus;

    /// Records that a pause stopped the run; `reason` describes the pause.
    fn pause(&mut self, reason: String);

    /// Whether the run was interrupted before all its work was done.
    fn is_interrupted(&self) -> bool {
        self.status() == ReportStatus::Interrupted
    }

    /// Adds the work of the run to metrics of its job, if there are any beside those of all jobs. `outcome` is `success`,
    /// `interrupted`, `paused` or `error`.
    fn count(&self, _metrics: &Metrics, _outcome: &str, _took: Duration) {}

    /// Returns the numbers of sandboxes that the run processed, by result. The names are part of a metric.
    fn processed(&self) -> Vec<(&'static str, usize)>;

    /// Returns the number of allocations that the run ended.
    fn expired(&self) -> usize {
        0
    }

    /// Returns the number of sandboxes that the run left to a later one.
    fn deferred(&self) -> usize {
        0
    }

    /// Returns since when runs have deferred their work for a later run to confirm; `None` if this one did not.
    fn deferred_since(&self) -> Option<UnixSeconds> {
        None
    }
}

/// The status of a run in its report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportStatus {
    /// The run is in progress.
    #[default]
    Running,
    /// The run did all its work.
    Completed,
    /// A shutdown interrupted the run; the next run continues.
    Interrupted,
    /// A pause stopped the run, possibly before it did anything; a run after the pause continues.
    Paused,
}

impl ReportStatus {
    /// The status of a run that ended without an error, having done all its work or not.
    #[must_use]
    pub(crate) const fn of_run(did_all: bool) -> Self {
        if did_all {
            Self::Completed
        } else {
            Self::Interrupted
        }
    }
}

/// A run, as its job sees it.
#[derive(Debug)]
pub struct Run<R> {
    pub(super) id: RunId,
    pub(super) context: Arc<JobContext>,
    pub(super) fence: Fence,
    pub(super) deferred_since: Option<UnixSeconds>,
    pub(super) stop: CancellationToken,
    pub(super) progress: Arc<Mutex<R>>,
}

impl<R: Report> Run<R> {
    /// The id of the run.
    #[must_use]
    pub const fn id(&self) -> &RunId {
        &self.id
    }

    /// The parts that jobs share.
    #[must_use]
    pub fn context(&self) -> &JobContext {
        &self.context
    }

    /// The fencing token that every write of the run requires.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Returns since when the runs up to the last one that succeeded have deferred their work for a later run to
    /// confirm.
    #[must_use]
    pub const fn deferred_since(&self) -> Option<UnixSeconds> {
        self.deferred_since
    }

    /// Whether the run has to end after the current item.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Writes `changes` in chunks until all are written or the run has to stop. Calls `written` after each chunk with
    /// its changes and, for each, whether it was made. Returns whether all chunks were written.
    ///
    /// # Errors
    /// [`StoreError`]; the chunks before the failed one are written.
    pub async fn write_all(
        &self,
        changes: &[Change],
        now: UnixSeconds,
        mut written: impl FnMut(&[Change], &[bool]) + Send,
    ) -> Result<bool, StoreError> {
        let context = self.context();
        for chunk in changes.chunks(CHUNK) {
            if self.is_stopped() {
                return Ok(false);
            }
            let hours = context.terms.lab_duration_hours;
            let made = context
                .store
                .apply(Some(&self.fence), chunk, hours, now)
                .await?;
            written(chunk, &made);
        }
        Ok(true)
    }

    /// Waits for `span`, or until the run has to stop.
    pub async fn pause(&self, span: Duration) {
        let _ = tokio::time::timeout(span, self.stop.cancelled()).await;
    }

    /// Publishes the report of the run so far.
    pub fn progress(&self, report: &R) {
        lock(&self.progress).clone_from(report);
    }
}

/// A started run, as the code that started it sees it. Dropping the handle does not stop the run.
#[derive(Debug)]
pub struct RunHandle<R> {
    /// The id of the run.
    pub id: RunId,
    /// The report of the run so far.
    pub progress: Arc<Mutex<R>>,
    pub(super) finished: oneshot::Receiver<Result<R, JobError>>,
}

impl<R> RunHandle<R> {
    /// Waits for the end of the run, and returns its report.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn finish(self) -> Result<R, JobError> {
        self.finished.await.unwrap_or(Err(JobError::Panicked))
    }
}

/// Returns the milliseconds since `began`.
pub(super) fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
