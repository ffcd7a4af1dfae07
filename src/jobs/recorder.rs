//! The recorder of a run: its record, its heartbeat, and its end.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{JobContext, JobError, run::Report};
use crate::{
    clock::{Clock, UnixSeconds},
    domain::{RunId, RunRecord, RunState},
    shared::lock,
    store::{Fence, PoolStore, RunOutcome, StoreError},
    telemetry::{chain, metrics::Metrics},
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
    store: PoolStore,
    clock: Arc<dyn Clock>,
    id: RunId,
    fence: Fence,
    started_at: UnixSeconds,
    began: Instant,
    metrics: Metrics,
}

impl RunRecorder {
    /// Creates the recorder of a run that started at `started_at`.
    pub(super) fn new(
        context: &JobContext,
        id: RunId,
        fence: Fence,
        started_at: UnixSeconds,
    ) -> Self {
        Self {
            store: context.store.clone(),
            clock: Arc::clone(&context.clock),
            id,
            fence,
            started_at,
            began: Instant::now(),
            metrics: context.metrics.clone(),
        }
    }

    /// Writes the record of the run.
    pub(super) async fn write<R: Report>(
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
            // A report consists of numbers and texts, so this cannot fail.
            counts: serde_json::to_value(counts).unwrap_or_default(),
            error,
            started_at: self.started_at,
            updated_at: now,
            finished_at: (state != RunState::Running).then_some(now),
        };
        self.store.put_run(&self.id, &record).await
    }

    /// Renews the lease and writes the counts. Fails only if the lease is lost: an unavailable database may recover
    /// before the lease expires.
    async fn heartbeat<R: Report>(&self, progress: &Mutex<R>) -> Result<(), StoreError> {
        let counts = lock(progress).clone();
        let renewed = self.store.renew_lease(&self.fence, self.clock.now()).await;
        let written = self.write(RunState::Running, &counts, None).await;
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

    /// Records, counts and logs the end of the run, and releases the lease.
    pub(super) async fn close<R: Report>(
        &self,
        progress: &Mutex<R>,
        outcome: &Result<R, JobError>,
    ) {
        let last = lock(progress).clone();
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
        let outcome_label = match state {
            RunState::Succeeded => "success",
            RunState::Interrupted => "interrupted",
            RunState::Failed | RunState::Running => "error",
        };
        self.metrics
            .job_runs
            .with_label_values(&[self.id.job().as_str(), outcome_label])
            .inc();
        counts.count(&self.metrics, outcome_label, self.began.elapsed());
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
            RunState::Succeeded => RunOutcome::Succeeded {
                at: self.clock.now(),
                deferred_since: counts.deferred_since(),
            },
            RunState::Interrupted => RunOutcome::Interrupted,
            RunState::Failed | RunState::Running => RunOutcome::Failed,
        };
        for attempt in 1..=CLOSE_ATTEMPTS {
            // The record first: after the release no other run closes the record.
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
                        "run could not be closed"
                    );
                    tokio::time::sleep(HEARTBEAT / CLOSE_ATTEMPTS).await;
                }
            }
        }
    }
}
