//! The monitor of the pool: counts sandboxes for metrics, log and dashboard. Requests of callers never cause a count.

mod gauges;
mod pools;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::pools::{HourlyGrowth, PoolHistory};
use super::{
    CheckMode, JobContext,
    forecast::{Computation, Forecast, ForecastError},
    overview::Overview,
    pool_report::PoolReport,
};
use crate::{
    clock::UnixSeconds,
    domain::{
        CspState, Flow, JobName, JobState, LabId, Policy, PoolCounts, PoolSnapshot, PoolState,
        Sample, expected_available,
    },
    shared::lock,
    store::{Census, StoreError},
    telemetry::{
        chain, dropped_lines,
        metrics::{Metrics, gauge, raise},
    },
};

/// The interval of counts for metrics and log.
const POLL_INTERVAL: Duration = Duration::from_mins(1);
/// The oldest count that operators receive. A count reads every sandbox, and dashboards request it repeatedly.
const MAX_AGE: Duration = Duration::from_secs(10);
const POLL_TIMEOUT: Duration = Duration::from_secs(8);

/// Counts the pool, sets its gauges, and adds samples. Concurrent requests share one count.
#[derive(Debug)]
pub struct PoolMonitor {
    context: Arc<JobContext>,
    metrics: Metrics,
    forecasts: Computation,
    tasks: TaskTracker,
    state: Mutex<State>,
    /// As of the last count.
    csp_state: std::sync::Mutex<CspState>,
}

#[derive(Debug, Default)]
struct State {
    /// When the pool was last polled, successfully or not.
    polled_at: Option<Instant>,
    last_count: Option<PoolReport>,
    /// The labs whose gauges are set.
    labs: BTreeSet<LabId>,
    /// The pools of the last count, whose gauges are set.
    pools: PoolHistory,
    /// The sandboxes that checks have quarantined.
    quarantines: HourlyGrowth,
    /// The part of this broker's counters that is in the samples.
    sampled: Flow,
}

impl PoolMonitor {
    /// Creates a monitor that counts with the store of `context`, in tasks on `tasks`.
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
            forecasts: Computation::new(tasks.clone()),
            tasks,
            state: Mutex::default(),
            csp_state: std::sync::Mutex::default(),
        }
    }

    /// Returns all metrics in the text format of Prometheus.
    pub async fn text(self: &Arc<Self>) -> String {
        // If it fails, the gauges keep their values; the failure is logged.
        let _ = self.poll_if_older(POLL_INTERVAL).await;
        let (context, metrics) = (&self.context, &self.metrics);
        let candidates = context.refresher.candidates().len();
        metrics.candidate_index_size.set(gauge(candidates));
        metrics.log_lines_dropped.set(gauge(dropped_lines()));
        self.set_breaker_states(*lock(&self.csp_state));
        self.set_pauses();
        self.set_policy();
        metrics.text()
    }

    /// Adds a sample at the start of a broker, so that the charts of a new pool do not begin a minute later. It is no
    /// poll: the first request for counts still counts anew. A failure is logged, and the first poll adds the sample.
    pub async fn add_first_sample(&self) {
        let (store, now) = (&self.context.store, self.context.clock.now());
        let added = timeout(POLL_TIMEOUT, async {
            let census = self.count(&self.context.policy.current()).await?;
            store.add_sample(census.counts, Flow::default(), now).await
        });
        let added = added.await;
        if let Err(error) = added.unwrap_or_else(|_| Err(StoreError::timed_out("Query"))) {
            tracing::warn!(cause = chain(&error), "pool sample could not be written");
        }
    }

    /// Counts every minute until `stop`, so that the log has the counts even if no metrics are scraped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut minute = interval_at(Instant::now() + POLL_INTERVAL, POLL_INTERVAL);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop
            .run_until_cancelled(async {
                minute.tick().await;
                // A failure is logged.
                let _ = self.poll_if_older(POLL_INTERVAL).await;
            })
            .await
            .is_some()
        {}
    }

    /// Returns a count that is at most [`MAX_AGE`] old, or the last one if the pool cannot be counted now.
    ///
    /// # Errors
    /// [`StoreError`] if the pool has never been counted.
    async fn current_count(self: &Arc<Self>) -> Result<PoolReport, StoreError> {
        let failure = self.poll_if_older(MAX_AGE).await.err();
        let last_count = self.state.lock().await.last_count.clone();
        last_count.ok_or_else(|| failure.unwrap_or_else(|| StoreError::shared("Query")))
    }

    /// Returns an overview of the pool.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn overview(self: &Arc<Self>) -> Result<Overview, StoreError> {
        // First, because a count adds the latest allocations and releases to the samples.
        let counted = self.current_count().await?;
        Overview::read(counted, &self.context).await
    }

    /// Returns the forecast of the pools of the policy for the time `at`. Without pools it makes no call to the database.
    ///
    /// # Errors
    /// [`ForecastError`].
    pub(crate) async fn forecast(&self, at: UnixSeconds) -> Result<Forecast, ForecastError> {
        Forecast::read(at, &self.context, &self.forecasts).await
    }

    /// Returns the samples of the last `span`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn samples(&self, span: Duration) -> Result<Vec<Sample>, StoreError> {
        let now = self.context.clock.now();
        self.context.store.samples(span, now).await
    }

    /// Counts the pool if the last count is older than `age`. In a task: the count continues if the client disconnects,
    /// because other requests wait for it.
    async fn poll_if_older(self: &Arc<Self>, age: Duration) -> Result<(), StoreError> {
        let monitor = Arc::clone(self);
        let poll = self
            .tasks
            .spawn(async move { monitor.poll_exclusively(age).await });
        poll.await
            .unwrap_or_else(|_| Err(StoreError::shared("Query")))
    }

    async fn poll_exclusively(&self, age: Duration) -> Result<(), StoreError> {
        // A concurrent request waits here, and then finds a recent count.
        let mut state = self.state.lock().await;
        // Slightly less than `age`, so that a tick of the interval that is a little early still counts.
        if state
            .polled_at
            .is_some_and(|polled_at| polled_at.elapsed() < age.mul_f64(0.9))
        {
            return Ok(());
        }
        // Before the poll: failed polls count too, so that scrapes do not add load to a failing database.
        state.polled_at = Some(Instant::now());
        let polled = timeout(POLL_TIMEOUT, self.poll(&mut state)).await;
        let polled = polled.unwrap_or_else(|_| Err(StoreError::timed_out("Query")));
        if let Err(error) = &polled {
            tracing::warn!(cause = chain(error), "pool count failed");
        }
        polled
    }

    /// Counts the sandboxes, and shares the numbers that each lab holds.
    async fn count(&self, policy: &Policy) -> Result<Census, StoreError> {
        let context = &self.context;
        let began = Instant::now();
        let mut census = context.store.census(policy).await?;
        let held = std::mem::take(&mut census.held);
        context.labs_held.set(began, Arc::new(held));
        Ok(census)
    }

    async fn poll(&self, state: &mut State) -> Result<(), StoreError> {
        let (store, now) = (&self.context.store, self.context.clock.now());
        let policy = self.context.policy.current();
        let states = try_join_all(JobName::ALL.map(|job| store.job_state(job)));
        let (census, unreadable, states) =
            tokio::try_join!(self.count(&policy), store.unreadable(), states)?;
        let counts = census.counts;
        let pools = state
            .pools
            .statuses(&self.context, &policy, &census.pools, now)
            .await?;
        let report = PoolReport {
            snapshot: PoolSnapshot {
                counts,
                unreadable,
                at: now,
            },
            expected: expected_available(&counts, &pools),
            pools,
            quarantined_by_checks: self.new_quarantines(&mut state.quarantines, &states),
        };
        self.set_pool_gauges(state, &report);
        for (job, state) in JobName::ALL.into_iter().zip(states) {
            self.set_job_state(job, &state, now);
        }
        self.read_csp_state().await;
        self.log_count(&report);
        state.last_count = Some(report);
        if let Err(error) = self.add_sample(state, counts, now).await {
            tracing::warn!(cause = chain(&error), "pool sample could not be written");
        }
        Ok(())
    }

    fn log_count(&self, report: &PoolReport) {
        let PoolReport {
            snapshot, pools, ..
        } = report;
        let PoolCounts {
            provisioning,
            available,
            allocated,
            pending_deletion,
            stale,
            deletion_failed,
            quarantined,
        } = snapshot.counts;
        let in_state = |state| pools.iter().filter(|pool| pool.state == state).count();
        let policy = self.context.policy.status();
        tracing::info!(
            provisioning,
            available,
            expected = report.expected,
            allocated,
            pending_deletion,
            stale,
            deletion_failed,
            quarantined,
            quarantined_by_checks = report.quarantined_by_checks,
            unreadable = snapshot.unreadable(),
            total = snapshot.counts.total(),
            pools_late = in_state(PoolState::Late),
            pools_stopped = in_state(PoolState::Stopped),
            endless_pause_sec = self.longest_endless_pause(snapshot.at),
            policy_version = policy.number(),
            policy_unreadable = u8::from(policy.fault.is_some()),
            "pool counted"
        );
    }

    /// Returns the sandboxes that checks have quarantined in the last hour; `states` are those of all jobs.
    fn new_quarantines(&self, growth: &mut HourlyGrowth, states: &[JobState]) -> u64 {
        if self.context.jobs.check.mode == CheckMode::Off {
            return 0;
        }
        let check = JobName::ALL.iter().zip(states);
        let mut check = check.filter(|(job, _)| **job == JobName::Check);
        let processed = check.next().map(|(_, state)| &state.processed);
        let total = processed.and_then(|results| results.get("quarantined"));
        growth.record(total.copied().unwrap_or(0), Instant::now())
    }

    /// Reads the state of CSP that jobs have written. If that fails, the metrics keep their values.
    async fn read_csp_state(&self) {
        let state = match self.context.store.csp_state().await {
            Ok(stored) => stored.state,
            Err(error) => {
                tracing::warn!(cause = chain(&error), "state of CSP could not be read");
                return;
            }
        };
        *lock(&self.csp_state) = state;
        for (name, service) in state.services() {
            let metrics = &self.metrics;
            raise(
                &metrics.breaker_openings.with_label_values(&[name]),
                service.breaker.openings,
            );
            metrics
                .credentials_rejected
                .with_label_values(&[name])
                .set(i64::from(service.rejected_since.is_some()));
        }
    }

    /// Returns how long the oldest pause without an end has been in force, in seconds; 0 without one.
    fn longest_endless_pause(&self, now: UnixSeconds) -> i64 {
        let pauses = self.context.pauses.in_force().into_iter();
        let endless = pauses.filter(|pause| pause.until.is_none());
        let longest = endless
            .map(|pause| now.0.saturating_sub(pause.since.0))
            .max();
        longest.unwrap_or(0).max(0)
    }

    /// Adds the allocations and releases of this broker since the last sample to the samples. If that fails, the next
    /// call adds them.
    async fn add_sample(
        &self,
        state: &mut State,
        counts: PoolCounts,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let total = self.flow();
        let new = total - state.sampled;
        self.context.store.add_sample(counts, new, now).await?;
        state.sampled = total;
        Ok(())
    }

    /// Returns the allocations and releases of this broker since its start. Runs add expirations to the samples
    /// themselves, because they may be processes of their own.
    fn flow(&self) -> Flow {
        let metrics = &self.metrics;
        Flow {
            allocations: metrics.allocate.with_label_values(&["success"]).get(),
            releases: metrics
                .deletion_marked
                .with_label_values(&["success"])
                .get(),
        }
    }

    /// Adds the allocations and releases since the last count to the samples, at the end of the broker.
    pub async fn add_last_flow(&self) {
        let mut state = self.state.lock().await;
        let total = self.flow();
        let new = total - state.sampled;
        if new == Flow::default() {
            return;
        }
        let (store, now) = (&self.context.store, self.context.clock.now());
        match store.add_flow(new, now).await {
            Ok(()) => state.sampled = total,
            Err(error) => {
                tracing::warn!(cause = chain(&error), "last sample could not be written");
            }
        }
    }
}
