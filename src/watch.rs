//! Looks at the pool for the metrics and the log: at most once a minute, and never for a request of a lab play.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    jobs::JobContext,
    metrics::{Metrics, gauge},
    store::{Counts, JobName, StoreError},
    telemetry::{chain, dropped_lines},
};

const EVERY: Duration = Duration::from_mins(1);
const LOOK_TIMEOUT: Duration = Duration::from_secs(8);

/// Keeps the gauges that say how the pool is.
#[derive(Debug)]
pub struct PoolWatch {
    context: Arc<JobContext>,
    metrics: Metrics,
    tasks: TaskTracker,
    last: Mutex<Option<Instant>>,
}

impl PoolWatch {
    /// Looks through `context`, in tasks of its own on `tasks`.
    #[must_use]
    pub fn new(context: Arc<JobContext>, metrics: Metrics, tasks: TaskTracker) -> Self {
        let jobs = context.jobs;
        for (job, interval) in [
            (JobName::Sync, jobs.sync_interval),
            (JobName::Cleanup, jobs.cleanup_interval),
            (JobName::AutoExpire, jobs.expiry_interval),
            (JobName::AutoDeleteStale, jobs.stale_interval),
        ] {
            metrics
                .job_interval
                .with_label_values(&[job.as_str()])
                .set(gauge(interval.as_secs()));
        }
        Self {
            context,
            metrics,
            tasks,
            last: Mutex::default(),
        }
    }

    /// All metrics, in the text format of Prometheus.
    pub async fn text(self: &Arc<Self>) -> String {
        let watch = Arc::clone(self);
        // A look goes on if whoever asked hangs up: others wait for it.
        let look = self.tasks.spawn(async move { watch.look_if_due().await });
        // Fails only if it panicked, which is logged; the figures then are the last ones.
        let _ = look.await;
        let (context, metrics) = (&self.context, &self.metrics);
        let candidates = context.supply.candidates().len();
        metrics.candidate_index_size.set(gauge(candidates));
        metrics.log_lines_dropped.set(gauge(dropped_lines()));
        for (name, breaker) in [
            ("csp", &context.csp_breaker),
            ("niosxaas", &context.niosxaas_breaker),
        ] {
            for state in ["closed", "half_open", "open"] {
                metrics
                    .breaker_state
                    .with_label_values(&[name, state])
                    .set(i64::from(breaker.state() == state));
            }
        }
        metrics.text()
    }

    /// Looks every minute until `stop`, so that the log has the pool's figures even if nobody asks for the metrics.
    pub async fn keep_looking(self: Arc<Self>, stop: CancellationToken) {
        let mut minute = interval_at(Instant::now() + EVERY, EVERY);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop
            .run_until_cancelled(async {
                minute.tick().await;
                self.look_if_due().await;
            })
            .await
            .is_some()
        {}
    }

    async fn look_if_due(&self) {
        // Whoever comes second waits for the first, and finds the figures fresh.
        let mut last = self.last.lock().await;
        // A little less than a minute: the loop itself must not come too early by a hair.
        if last.is_some_and(|last| last.elapsed() < EVERY.mul_f64(0.9)) {
            return;
        }
        // Failed looks count too: a database in trouble is not asked with every scrape.
        *last = Some(Instant::now());
        match timeout(LOOK_TIMEOUT, self.look()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(cause = chain(&error), "the pool could not be counted");
            }
            Err(_) => tracing::warn!(cause = "no answer in time", "the pool could not be counted"),
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let store = &self.context.store;
        let (counts, successes) = tokio::try_join!(store.counts(), store.last_successes())?;
        let Counts {
            available,
            allocated,
            pending_deletion,
            stale,
            deletion_failed,
        } = counts;
        let metrics = &self.metrics;
        metrics.pool_available.set(gauge(available));
        metrics.pool_allocated.set(gauge(allocated));
        metrics.pool_pending_deletion.set(gauge(pending_deletion));
        metrics.pool_stale.set(gauge(stale));
        metrics.pool_deletion_failed.set(gauge(deletion_failed));
        metrics.pool_total.set(gauge(counts.total()));
        metrics.pool_counted.set(self.context.clock.now().0);
        for (job, at) in successes {
            metrics
                .job_last_success
                .with_label_values(&[job.as_str()])
                .set(at.0);
        }
        tracing::info!(
            available,
            allocated,
            pending_deletion,
            stale,
            deletion_failed,
            total = counts.total(),
            "pool counted"
        );
        Ok(())
    }
}
