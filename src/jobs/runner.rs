//! Runs a job once: takes its lease, keeps it, records what the run does, and gives the lease back.

use std::{
    fmt::Debug,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::try_join_all};
use rand::RngExt;
use serde::Serialize;
use thiserror::Error;
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use super::{JobContext, JobError, niosxaas_report::NiosxaasReport};
use crate::{
    clock::{Clock, UnixSeconds},
    domain::{JobName, RunId, RunRecord, RunState},
    store::{Acquired, Change, Fence, PoolStore, RunOutcome, StoreError},
    telemetry::{chain, metrics::Metrics},
};

/// How often a run renews its lease and writes its counts; a fraction of the lease, so that a missed beat is no loss.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Changes that are written between two checks of whether to stop.
const CHUNK: usize = 100;
/// For giving back a lease while the database is slow.
const CLOSE_ATTEMPTS: u32 = 3;

/// Something that keeps the pool healthy.
pub trait Job: Send + Sync + 'static {
    /// What a run did.
    type Report: Report;

    /// The job's name.
    fn name(&self) -> JobName;

    /// One run. It asks [`Run::is_stopped`] between items, tells [`Run::progress`] what it has done, and writes under
    /// [`Run::fence`].
    fn run_once(
        &self,
        run: &Run<Self::Report>,
    ) -> impl Future<Output = Result<Self::Report, JobError>> + Send;
}

/// What a run did, or has done so far.
pub trait Report: Clone + Debug + Default + Serialize + Send + Sync + 'static {
    /// Whether the run ended before its work did, because it was told to stop.
    fn is_interrupted(&self) -> bool;

    /// Counts what the run did, and how it ended: `success`, `interrupted` or `error`.
    fn count(&self, metrics: &Metrics, outcome: &str, took: Duration);
}

/// How a report says that a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReportStatus {
    /// It goes on.
    #[default]
    Running,
    /// It did what there was to do.
    Completed,
    /// A shutdown ended it early; the next run goes on.
    Interrupted,
}

impl ReportStatus {
    /// The status of a run that ended without an error: `did_all` says whether it did everything there was to do.
    #[must_use]
    pub(crate) const fn of_run(did_all: bool) -> Self {
        if did_all {
            Self::Completed
        } else {
            Self::Interrupted
        }
    }
}

/// A run, from the inside.
#[derive(Debug)]
pub struct Run<R> {
    context: Arc<JobContext>,
    fence: Fence,
    stop: CancellationToken,
    progress: Arc<Mutex<R>>,
}

impl<R: Report> Run<R> {
    /// What jobs share.
    #[must_use]
    pub fn context(&self) -> &JobContext {
        &self.context
    }

    /// What the run's writes have to require.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Whether to end after the item at hand.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Writes `changes` in chunks until all are written or the run is told to stop. After each chunk `written` gets its
    /// changes, each with whether it was made. Returns whether everything was written.
    ///
    /// # Errors
    /// [`StoreError`]; the chunks before are written then.
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

    /// Waits, but not beyond the order to stop.
    pub async fn pause(&self, span: Duration) {
        let _ = tokio::time::timeout(span, self.stop.cancelled()).await;
    }

    /// Tells what the run has done so far.
    pub fn progress(&self, report: &R) {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(report);
    }
}

/// Why a run did not start.
#[derive(Debug, Error)]
pub enum JobStartError {
    /// Another run of the job is under way.
    #[error("{job} is running already")]
    Running {
        /// The job.
        job: JobName,
        /// The other run's id.
        run_id: Option<String>,
    },
    /// The last run was not long enough ago.
    #[error("{job} is not due")]
    NotDue {
        /// The job.
        job: JobName,
    },
    /// A defect of the broker.
    #[error("starting {job} panicked")]
    Panicked {
        /// The job.
        job: JobName,
    },
    /// The lease could not be asked for.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run that was started, from the outside. Dropping it does not stop the run.
#[derive(Debug)]
pub struct Started<R> {
    /// The run's id.
    pub id: RunId,
    /// What it has done so far.
    pub progress: Arc<Mutex<R>>,
    finished: oneshot::Receiver<Result<R, JobError>>,
}

impl<R> Started<R> {
    /// Waits for the run to end.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn finish(self) -> Result<R, JobError> {
        self.finished.await.unwrap_or(Err(JobError::Panicked))
    }
}

/// Starts runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runner {
    context: Arc<JobContext>,
    tasks: TaskTracker,
    stop: CancellationToken,
    owner: Arc<str>,
}

impl Runner {
    /// Runs are spawned on `tasks` and told to stop by `stop`. `owner` says in the table who runs.
    #[must_use]
    pub fn new(
        context: Arc<JobContext>,
        tasks: TaskTracker,
        stop: CancellationToken,
        owner: &str,
    ) -> Self {
        Self {
            context,
            tasks,
            stop,
            owner: owner.into(),
        }
    }

    /// What jobs share.
    #[must_use]
    pub const fn context(&self) -> &Arc<JobContext> {
        &self.context
    }

    /// Starts a run, if there is none.
    ///
    /// # Errors
    /// [`JobStartError`].
    pub async fn start<J: Job>(&self, job: J) -> Result<Started<J::Report>, JobStartError> {
        self.start_if_due(job, None).await
    }

    /// Starts a run, if there is none and the last one started no later than `not_since`.
    ///
    /// # Errors
    /// [`JobStartError`].
    pub async fn start_if_due<J: Job>(
        &self,
        job: J,
        not_since: Option<UnixSeconds>,
    ) -> Result<Started<J::Report>, JobStartError> {
        let (name, runner) = (job.name(), self.clone());
        // Spawned, so that a caller that goes away in the middle does not leave a lease without a run.
        let begun = self
            .tasks
            .spawn(async move { runner.begin(job, not_since).await }.in_current_span());
        begun
            .await
            .unwrap_or(Err(JobStartError::Panicked { job: name }))
    }

    async fn begin<J: Job>(
        &self,
        job: J,
        not_since: Option<UnixSeconds>,
    ) -> Result<Started<J::Report>, JobStartError> {
        let name = job.name();
        let now = self.context.clock.now();
        let id = RunId::new(name, now, rand::rng().random());
        let fence = match self
            .context
            .store
            .acquire_lease(&id, &self.owner, not_since, now)
            .await?
        {
            Acquired::Granted { fence, abandoned } => {
                self.close_abandoned(abandoned, now).await;
                fence
            }
            Acquired::Held(run_id) => return Err(JobStartError::Running { job: name, run_id }),
            Acquired::NotDue => return Err(JobStartError::NotDue { job: name }),
        };
        let progress = Arc::new(Mutex::new(J::Report::default()));
        let stop = self.stop.child_token();
        let run = Run {
            context: Arc::clone(&self.context),
            fence: fence.clone(),
            stop: stop.clone(),
            progress: Arc::clone(&progress),
        };
        let recorder = RunRecorder {
            store: self.context.store.clone(),
            clock: Arc::clone(&self.context.clock),
            id: id.clone(),
            fence,
            started_at: now,
            began: Instant::now(),
            metrics: self.context.metrics.clone(),
        };
        // If this fails, the lease runs out by itself, and the next run closes the record.
        recorder
            .write(RunState::Running, &J::Report::default(), None)
            .await?;
        let (report, finished) = oneshot::channel();
        let watched = Arc::clone(&progress);
        self.tasks.spawn(
            async move {
                let outcome = run_with_heartbeat(&recorder, &watched, &stop, async {
                    job.run_once(&run).await
                })
                .await;
                recorder.close(&watched, &outcome).await;
                // Nobody may be waiting any more.
                let _ = report.send(outcome);
            }
            .in_current_span(),
        );
        Ok(Started {
            id,
            progress,
            finished,
        })
    }
}

impl Runner {
    /// The last runs of every job, at most `limit` of each, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recent_runs(&self, limit: i32) -> Result<Vec<RunRecord>, StoreError> {
        let store = &self.context.store;
        let of_each = try_join_all(JobName::ALL.map(|job| store.recent_runs(job, limit))).await?;
        let mut runs: Vec<_> = of_each.into_iter().flatten().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.started_at));
        Ok(runs)
    }

    /// What cleanups did with NIOSXaaS services.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn niosxaas_report(&self) -> Result<NiosxaasReport, StoreError> {
        NiosxaasReport::read(&self.context).await
    }

    /// How long a sandbox has to be stale before it is removed: `hours`, or as configured.
    #[must_use]
    pub fn stale_grace(&self, hours: Option<u16>) -> Duration {
        hours.map_or(self.context.jobs.stale_grace, |hours| {
            Duration::from_hours(hours.into())
        })
    }

    /// The record of a run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_run(&self, id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        self.context.store.run(id).await
    }

    /// The record of a run whose broker died says that it runs, until its successor knows better.
    async fn close_abandoned(&self, abandoned: Option<RunId>, now: UnixSeconds) {
        let Some(id) = abandoned else { return };
        if let Err(error) = self.context.store.record_abandoned(&id, now).await {
            tracing::warn!(
                run_id = id.as_str(),
                cause = chain(&error),
                "could not close an abandoned run"
            );
        }
    }
}

/// Runs the job while its lease is kept; a run whose lease is lost is told to stop, and its writes are refused.
async fn run_with_heartbeat<R: Report>(
    recorder: &RunRecorder,
    progress: &Mutex<R>,
    stop: &CancellationToken,
    job: impl Future<Output = Result<R, JobError>> + Send,
) -> Result<R, JobError> {
    let beats = async {
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        loop {
            beat.tick().await;
            if recorder.heartbeat(progress).await.is_err() {
                stop.cancel();
            }
        }
    };
    // Side by side: a slow database must not make CSP's answers look late.
    tokio::select! {
        outcome = AssertUnwindSafe(job).catch_unwind() => outcome.unwrap_or(Err(JobError::Panicked)),
        never = beats => never,
    }
}

/// The record of one run.
struct RunRecorder {
    store: PoolStore,
    clock: Arc<dyn Clock>,
    id: RunId,
    fence: Fence,
    started_at: UnixSeconds,
    began: Instant,
    metrics: Metrics,
}

impl RunRecorder {
    async fn write<R: Report>(
        &self,
        state: RunState,
        counts: &R,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let record = RunRecord {
            id: self.id.to_string(),
            job: self.id.job(),
            state,
            // A report is plain counts and texts, which always are JSON.
            counts: serde_json::to_value(counts).unwrap_or_default(),
            error,
            started_at: self.started_at,
            updated_at: now,
            finished_at: (state != RunState::Running).then_some(now),
        };
        self.store.put_run(&self.id, &record).await
    }

    /// Renews the lease and writes the counts. Fails only if the lease is lost: a database that is away may come back
    /// before the lease ends.
    async fn heartbeat<R: Report>(&self, progress: &Mutex<R>) -> Result<(), StoreError> {
        let counts = progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let renewed = self.store.renew_lease(&self.fence, self.clock.now()).await;
        let written = self.write(RunState::Running, &counts, None).await;
        match renewed.and(written) {
            Err(StoreError::Superseded) => {
                tracing::warn!(run_id = self.id.as_str(), "another run has taken over");
                Err(StoreError::Superseded)
            }
            Err(error) => {
                tracing::warn!(
                    run_id = self.id.as_str(),
                    cause = chain(&error),
                    "a heartbeat failed"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn close<R: Report>(&self, progress: &Mutex<R>, outcome: &Result<R, JobError>) {
        let last = progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (state, counts, error) = match outcome {
            Ok(report) if report.is_interrupted() => (RunState::Interrupted, report, None),
            Ok(report) => (RunState::Succeeded, report, None),
            Err(JobError::Store(StoreError::Superseded)) => (
                RunState::Interrupted,
                &last,
                Some("another run has taken over".to_owned()),
            ),
            Err(error) => (RunState::Failed, &last, Some(chain(error))),
        };
        let in_a_word = match state {
            RunState::Succeeded => "success",
            RunState::Interrupted => "interrupted",
            RunState::Failed | RunState::Running => "error",
        };
        self.metrics
            .job_runs
            .with_label_values(&[self.id.job().as_str(), in_a_word])
            .inc();
        counts.count(&self.metrics, in_a_word, self.began.elapsed());
        let counts_json = serde_json::to_string(counts).unwrap_or_default();
        match &error {
            None => tracing::info!(
                action = self.id.job().as_str(),
                run_id = self.id.as_str(),
                counts = counts_json,
                "job done"
            ),
            Some(error) => tracing::error!(
                action = self.id.job().as_str(),
                run_id = self.id.as_str(),
                counts = counts_json,
                error,
                "job failed"
            ),
        }
        let ended = match state {
            RunState::Succeeded => RunOutcome::Succeeded(self.clock.now()),
            RunState::Interrupted => RunOutcome::Interrupted,
            RunState::Failed | RunState::Running => RunOutcome::Failed,
        };
        for attempt in 1..=CLOSE_ATTEMPTS {
            // The record first: a lease that is given back names no run that still has to be closed.
            let closed = match self.write(state, counts, error.clone()).await {
                Ok(()) => self.store.release_lease(&self.fence, ended).await,
                Err(fault) => Err(fault),
            };
            match closed {
                Ok(()) | Err(StoreError::Superseded) => return,
                Err(fault) => {
                    tracing::warn!(
                        run_id = self.id.as_str(),
                        attempt,
                        cause = chain(&fault),
                        "could not close a run"
                    );
                    tokio::time::sleep(HEARTBEAT / CLOSE_ATTEMPTS).await;
                }
            }
        }
    }
}
