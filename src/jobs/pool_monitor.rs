//! Looks at the pool for the metrics, the log and the dashboard; never for a request of a lab play.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{JobContext, overview::Overview};
use crate::{
    clock::UnixSeconds,
    domain::{Flow, JobName, PoolCounts, Sample},
    store::StoreError,
    telemetry::{
        chain, dropped_lines,
        metrics::{Metrics, gauge},
    },
};

/// How often it looks by itself.
const EVERY: Duration = Duration::from_mins(1);
/// How old the figures may be that admins see. To count reads every sandbox, and pages ask again and again.
const FRESH: Duration = Duration::from_secs(10);
const POLL_TIMEOUT: Duration = Duration::from_secs(8);

/// Keeps the gauges that say how the pool is.
#[derive(Debug)]
pub struct PoolMonitor {
    context: Arc<JobContext>,
    metrics: Metrics,
    tasks: TaskTracker,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the pool was last polled, successfully or not.
    polled_at: Option<Instant>,
    counted: Option<Counted>,
    /// What of this broker's counters is in the samples.
    sampled: Flow,
}

/// The pool at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// How many sandboxes there are.
    pub counts: PoolCounts,
    /// When they were counted.
    pub at: UnixSeconds,
}

impl PoolMonitor {
    /// Looks through `context`, in tasks of its own on `tasks`.
    #[must_use]
    pub fn new(context: Arc<JobContext>, metrics: Metrics, tasks: TaskTracker) -> Self {
        let jobs = context.jobs;
        let intervals = JobName::ALL.map(|job| Some((job, jobs.interval(job)?)));
        for (job, interval) in intervals.into_iter().flatten() {
            metrics
                .job_interval
                .with_label_values(&[job.as_str()])
                .set(gauge(interval.as_secs()));
        }
        Self {
            context,
            metrics,
            tasks,
            state: Mutex::default(),
        }
    }

    /// All metrics, in the text format of Prometheus.
    pub async fn text(self: &Arc<Self>) -> String {
        // If it fails, the figures are the last ones.
        let _ = self.poll_if_older(EVERY).await;
        let (context, metrics) = (&self.context, &self.metrics);
        let candidates = context.refresher.candidates().len();
        metrics.candidate_index_size.set(gauge(candidates));
        metrics.log_lines_dropped.set(gauge(dropped_lines()));
        for (name, breaker) in context.breakers() {
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
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut minute = interval_at(Instant::now() + EVERY, EVERY);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop
            .run_until_cancelled(async {
                minute.tick().await;
                // The failure is in the log.
                let _ = self.poll_if_older(EVERY).await;
            })
            .await
            .is_some()
        {}
    }

    /// How the pool is, as of a few seconds ago; as of longer ago if it cannot be counted now.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be counted at all.
    pub async fn counted(self: &Arc<Self>) -> Result<Counted, StoreError> {
        let failure = self.poll_if_older(FRESH).await.err();
        let counted = self.state.lock().await.counted;
        counted.ok_or_else(|| failure.unwrap_or_else(|| StoreError::shared("Query")))
    }

    /// The pool at a glance.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn overview(self: &Arc<Self>) -> Result<Overview, StoreError> {
        // First, because it adds what happened since the last count to the samples.
        let counted = self.counted().await?;
        Overview::around(counted, &self.context).await
    }

    /// The samples of the last `span`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn samples(&self, span: Duration) -> Result<Vec<Sample>, StoreError> {
        let since = self.context.clock.now() - span;
        self.context.store.samples_since(since).await
    }

    /// Looks in a task of its own: a look goes on if whoever asked hangs up, since others wait for it.
    async fn poll_if_older(self: &Arc<Self>, age: Duration) -> Result<(), StoreError> {
        let watch = Arc::clone(self);
        let look = self
            .tasks
            .spawn(async move { watch.poll_exclusively(age).await });
        look.await
            .unwrap_or_else(|_| Err(StoreError::shared("Query")))
    }

    async fn poll_exclusively(&self, age: Duration) -> Result<(), StoreError> {
        // Whoever comes second waits for the first, and finds the figures fresh.
        let mut state = self.state.lock().await;
        // A little less: the loop itself must not come too early by a hair.
        if state
            .polled_at
            .is_some_and(|polled_at| polled_at.elapsed() < age.mul_f64(0.9))
        {
            return Ok(());
        }
        // Failed looks count too: a database in trouble is not asked with every scrape.
        state.polled_at = Some(Instant::now());
        let look = timeout(POLL_TIMEOUT, self.poll(&mut state)).await;
        let look =
            look.unwrap_or_else(|_| Err(StoreError::unexpected("Query", "no answer in time")));
        if let Err(error) = &look {
            tracing::warn!(cause = chain(error), "the pool could not be counted");
        }
        look
    }

    async fn poll(&self, state: &mut State) -> Result<(), StoreError> {
        let (store, now) = (&self.context.store, self.context.clock.now());
        let (counts, successes) = tokio::try_join!(store.counts(), store.last_successes())?;
        let PoolCounts {
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
        metrics.pool_counted.set(now.0);
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
        state.counted = Some(Counted { counts, at: now });
        if let Err(error) = self.sample(state, counts, now).await {
            tracing::warn!(cause = chain(&error), "the pool's sample could not be kept");
        }
        Ok(())
    }

    /// Adds what callers of this broker did since the last time to the samples; what cannot be added now is next time.
    async fn sample(
        &self,
        state: &mut State,
        counts: PoolCounts,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let metrics = &self.metrics;
        let total = Flow {
            allocations: metrics.allocate.with_label_values(&["success"]).get(),
            releases: metrics
                .deletion_marked
                .with_label_values(&["success"])
                .get()
                + metrics.expiry_orphaned.get(),
        };
        let new = Flow {
            allocations: total.allocations - state.sampled.allocations,
            releases: total.releases - state.sampled.releases,
        };
        self.context.store.add_sample(counts, new, now).await?;
        state.sampled = total;
        Ok(())
    }
}
