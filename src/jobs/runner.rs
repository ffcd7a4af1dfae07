//! The runner: takes the lease of a job, runs the job in a task with heartbeat and record, and reads the records of
//! runs.

use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use rand::RngExt;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use super::{
    JobContext,
    niosxaas_report::NiosxaasReport,
    pausing::run_unless_paused,
    recorder::{RunRecorder, run_with_heartbeat},
    run::{Job, Run, RunHandle, Start},
};
use crate::{
    clock::UnixSeconds,
    domain::{JobName, RunId, RunRecord},
    store::{Acquired, StoreError},
    telemetry::chain,
};

/// The reason why a run was not started.
#[derive(Debug, Error)]
pub enum JobStartError {
    /// Another run of the job is in progress.
    #[error("{job} is running already")]
    Running {
        /// The job.
        job: JobName,
        /// The id of the other run.
        run_id: Option<String>,
    },
    /// The last run started less than an interval ago.
    #[error("{job} is not due")]
    NotDue {
        /// The job.
        job: JobName,
    },
    /// The job is off.
    #[error("{job} is off; set {variable} to turn it on")]
    Off {
        /// The job.
        job: JobName,
        /// The variable that keeps it from running.
        variable: &'static str,
    },
    /// A defect of the broker.
    #[error("starting {job} panicked")]
    Panicked {
        /// The job.
        job: JobName,
    },
    /// The job lease could not be requested.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// Creates a runner that spawns runs on `tasks`, and stops them on `stop`. `owner` names this process in the job
    /// lease.
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

    /// The parts that jobs share.
    #[must_use]
    pub const fn context(&self) -> &Arc<JobContext> {
        &self.context
    }

    /// Starts a run, unless one is in progress.
    ///
    /// # Errors
    /// [`JobStartError`].
    pub async fn start<J: Job>(&self, job: J) -> Result<RunHandle<J::Report>, JobStartError> {
        self.spawn_start(job, None, None).await
    }

    /// Starts a run at the request of a principal, with its audit record, unless one is in progress.
    ///
    /// # Errors
    /// [`JobStartError`].
    pub async fn start_audited<J: Job>(
        &self,
        job: J,
        start: Start,
    ) -> Result<RunHandle<J::Report>, JobStartError> {
        self.spawn_start(job, None, Some(start)).await
    }

    /// Starts a run, unless one is in progress or one has started after `not_since`.
    ///
    /// # Errors
    /// [`JobStartError`].
    pub async fn start_if_due<J: Job>(
        &self,
        job: J,
        not_since: Option<UnixSeconds>,
    ) -> Result<RunHandle<J::Report>, JobStartError> {
        self.spawn_start(job, not_since, None).await
    }

    async fn spawn_start<J: Job>(
        &self,
        job: J,
        not_since: Option<UnixSeconds>,
        start: Option<Start>,
    ) -> Result<RunHandle<J::Report>, JobStartError> {
        let (name, runner) = (job.name(), self.clone());
        // Spawned, so that a client that disconnects in between does not leave a lease without a run.
        let started = self
            .tasks
            .spawn(async move { runner.start_now(job, not_since, start).await }.in_current_span());
        started
            .await
            .unwrap_or(Err(JobStartError::Panicked { job: name }))
    }

    async fn start_now<J: Job>(
        &self,
        job: J,
        not_since: Option<UnixSeconds>,
        start: Option<Start>,
    ) -> Result<RunHandle<J::Report>, JobStartError> {
        let name = job.name();
        if let Some(variable) = self.context.jobs.turned_off_by(name) {
            return Err(JobStartError::Off {
                job: name,
                variable,
            });
        }
        let now = self.context.clock.now();
        let id = RunId::new(name, now, rand::rng().random());
        let (fence, deferred_since) = match self
            .context
            .store
            .acquire_lease(&id, &self.owner, not_since, now)
            .await?
        {
            Acquired::Granted {
                fence,
                abandoned,
                deferred_since,
            } => {
                self.close_abandoned(abandoned, now).await;
                (fence, deferred_since)
            }
            Acquired::Held(run_id) => return Err(JobStartError::Running { job: name, run_id }),
            Acquired::NotDue => return Err(JobStartError::NotDue { job: name }),
        };
        let progress = Arc::new(Mutex::new(J::Report::default()));
        let stop = self.stop.child_token();
        let run = Run {
            id: id.clone(),
            context: Arc::clone(&self.context),
            fence: fence.clone(),
            deferred_since,
            stop: stop.clone(),
            progress: Arc::clone(&progress),
        };
        let recorder = RunRecorder::new(Arc::clone(&self.context), id.clone(), fence, start, now);
        // If this fails, the lease expires, and the next run closes the record.
        recorder.begin::<J::Report>().await?;
        let (report, finished) = oneshot::channel();
        let watched = Arc::clone(&progress);
        self.tasks.spawn(
            async move {
                recorder.load_csp_state().await;
                let outcome = run_with_heartbeat(&recorder, &watched, &stop, async {
                    run_unless_paused(&job, &run).await
                })
                .await;
                recorder.close(&watched, &outcome).await;
                // The handle may be dropped.
                let _ = report.send(outcome);
            }
            .in_current_span(),
        );
        Ok(RunHandle {
            id,
            progress,
            finished,
        })
    }

    /// Returns the latest runs of every job, at most `limit` of each, newest first.
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

    /// Returns the outcomes of NIOSXaaS cleanups.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn niosxaas_report(&self) -> Result<NiosxaasReport, StoreError> {
        NiosxaasReport::read(&self.context).await
    }

    /// Returns the record of a run; `None` if there is no such run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_run(&self, id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        self.context.store.run(id).await
    }

    /// Closes the record of a run whose broker died: it is still in state `running`.
    async fn close_abandoned(&self, abandoned: Option<RunId>, now: UnixSeconds) {
        let Some(id) = abandoned else { return };
        if let Err(error) = self.context.store.record_abandoned(&id, now).await {
            tracing::warn!(
                run_id = id.as_str(),
                cause = chain(&error),
                "abandoned run could not be closed"
            );
        }
    }
}
