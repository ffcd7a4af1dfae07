//! The recorder of a run: its record, its heartbeat, and its end.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    JobContext, JobError,
    run::{Report, ReportStatus, Start},
};
use crate::{
    clock::UnixSeconds,
    domain::{Flow, RunId, RunRecord, RunState},
    shared::lock,
    store::{Fence, RunEnd, RunOutcome, StoreError},
    telemetry::chain,
};

/// How often a run renews its lease and writes its counts: several times within the lease, so that one missed heartbeat
/// does not lose it.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Attempts to close a run while the database is slow or unavailable.
const CLOSE_ATTEMPTS: u32 = 3;

/// Runs `job` with a heartbeat. A run that loses its lease is stopped; its later writes are rejected.
pub(super) async fn run_with_heartbeat<R: Report>(
    recorder: &RunRecorder,
    progress: &Mutex<R>,
    stop: &CancellationToken,
    job: impl Future<Output = Result<R, JobError>> + Send,
) -> Result<R, JobError> {
    let heartbeats = async {
        let mut interval = tokio::time::interval(HEARTBEAT);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval.reset();
        loop {
            interval.tick().await;
            if recorder.heartbeat(progress).await.is_err() {
                stop.cancel();
            }
        }
    };
    // Concurrently, so that a slow database does not delay the job's reading of CSP's answers.
    tokio::select! {
        outcome = AssertUnwindSafe(job).catch_unwind() => outcome.unwrap_or(Err(JobError::Panicked)),
        never = heartbeats => never,
    }
}

/// Writes the record of one run, renews its lease, and closes both.
pub(super) struct RunRecorder {
    context: Arc<JobContext>,
    id: RunId,
    fence: Fence,
    start: Option<Start>,
    started_at: UnixSeconds,
    began: Instant,
}

impl RunRecorder {
    /// Creates the recorder of a run that started at `started_at`, because of `start` if a principal requested it.
    pub(super) fn new(
        context: Arc<JobContext>,
        id: RunId,
        fence: Fence,
        start: Option<Start>,
        started_at: UnixSeconds,
    ) -> Self {
        Self {
            context,
            id,
            fence,
            start,
            started_at,
            began: Instant::now(),
        }
    }

    /// Writes the first record of the run and, if a principal requested it, the audit record of the start.
    pub(super) async fn begin<R: Report>(&self) -> Result<(), StoreError> {
        let JobContext { store, clock, .. } = &*self.context;
        let record = self.record(RunState::Running, &R::default(), None);
        match &self.start {
            None => store.put_run(&self.id, &record).await,
            Some(start) => {
                let audit = start.audit(&self.id, clock.now_ms());
                store.put_audited_run(&self.id, &record, &audit).await
            }
        }
    }

    /// Writes the record of the run.
    async fn write<R: Report>(
        &self,
        state: RunState,
        counts: &R,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        let record = self.record(state, counts, error);
        self.context.store.put_run(&self.id, &record).await
    }

    fn record<R: Report>(&self, state: RunState, counts: &R, error: Option<String>) -> RunRecord {
        let now = self.context.clock.now();
        RunRecord {
            id: self.id.to_string(),
            job: self.id.job(),
            state,
            // A report consists of numbers and texts, so this cannot fail.
            counts: serde_json::to_value(counts).unwrap_or_default(),
            error,
            started_by: self
                .start
                .as_ref()
                .map(|start| start.author.name.to_string()),
            started_at: self.started_at,
            updated_at: now,
            finished_at: (state != RunState::Running).then_some(now),
        }
    }

    /// Renews the lease and writes the counts. Fails only if the lease is lost: an unavailable database may recover
    /// before the lease expires.
    async fn heartbeat<R: Report>(&self, progress: &Mutex<R>) -> Result<(), StoreError> {
        let counts = lock(progress).clone();
        let now = self.context.clock.now();
        let renewed = self.context.store.renew_lease(&self.fence, now).await;
        let written = self.write(RunState::Running, &counts, None).await;
        self.save_csp_state().await;
        match renewed.and(written) {
            Err(StoreError::Superseded) => {
                tracing::warn!(
                    run_id = self.id.as_str(),
                    "lease lost: another run has taken over"
                );
                Err(StoreError::Superseded)
            }
            Err(error) => {
                tracing::warn!(
                    run_id = self.id.as_str(),
                    cause = chain(&error),
                    "heartbeat failed"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Reads the state of CSP that other processes have written, if the job calls CSP.
    pub(super) async fn load_csp_state(&self) {
        if self.id.job().calls_csp() {
            self.context.load_csp_state().await;
        }
    }

    /// Writes the state of CSP for other processes, if the job calls CSP.
    async fn save_csp_state(&self) {
        if self.id.job().calls_csp() {
            self.context.save_csp_state().await;
        }
    }

    /// Records, counts and logs the end of the run, and releases the lease.
    pub(super) async fn close<R: Report>(
        &self,
        progress: &Mutex<R>,
        outcome: &Result<R, JobError>,
    ) {
        let last = lock(progress).clone();
        let succeeded = |report: &R| RunOutcome::Succeeded {
            deferred: report.deferred() as u64,
            deferred_since: report.deferred_since(),
        };
        let (state, ended, counts, error) = match outcome {
            Ok(report) => match report.status() {
                ReportStatus::Interrupted => {
                    (RunState::Interrupted, RunOutcome::Interrupted, report, None)
                }
                ReportStatus::Paused => (RunState::Paused, RunOutcome::Paused, report, None),
                ReportStatus::Completed | ReportStatus::Running => {
                    (RunState::Succeeded, succeeded(report), report, None)
                }
            },
            Err(JobError::Store(StoreError::Superseded)) => (
                RunState::Interrupted,
                RunOutcome::Interrupted,
                &last,
                Some("another run has taken over".to_owned()),
            ),
            Err(error) => (
                RunState::Failed,
                RunOutcome::Failed,
                &last,
                Some(chain(error)),
            ),
        };
        let metrics = &self.context.metrics;
        metrics
            .job_runs
            .with_label_values(&[self.id.job().as_str(), ended.as_str()])
            .inc();
        counts.count(metrics, ended.as_str(), self.began.elapsed());
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
        self.save_csp_state().await;
        self.add_flow(counts.expired()).await;
        let processed = counts.processed().into_iter();
        let end = RunEnd {
            outcome: ended,
            at: self.context.clock.now(),
            processed: processed
                .map(|(result, count)| (result, count as u64))
                .collect(),
        };
        for attempt in 1..=CLOSE_ATTEMPTS {
            // The record first: after the release no other run closes the record.
            let closed = match self.write(state, counts, error.clone()).await {
                Ok(()) => self.context.store.release_lease(&self.fence, &end).await,
                Err(fault) => Err(fault),
            };
            match closed {
                Ok(()) | Err(StoreError::Superseded) => return,
                Err(fault) => {
                    tracing::warn!(
                        run_id = self.id.as_str(),
                        attempt,
                        cause = chain(&fault),
                        "run could not be closed"
                    );
                    tokio::time::sleep(HEARTBEAT / CLOSE_ATTEMPTS).await;
                }
            }
        }
    }

    /// Adds the allocations that the run ended to the samples. The broker whose samples count allocations may be
    /// another process.
    async fn add_flow(&self, expired: usize) {
        if expired == 0 {
            return;
        }
        let flow = Flow {
            releases: expired as u64,
            ..Flow::default()
        };
        let JobContext { store, clock, .. } = &*self.context;
        if let Err(error) = store.add_flow(flow, clock.now()).await {
            tracing::warn!(
                run_id = self.id.as_str(),
                cause = chain(&error),
                "expirations could not be added to the samples"
            );
        }
    }
}
