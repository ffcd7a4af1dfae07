//! Metrics. The help text of each instrument is its doc comment here.
//!
//! Each broker has its own registry, so that several brokers in one process, as in tests, count separately.

use std::{ops::Deref, sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

/// The media type of [`Metrics::text`].
pub use prometheus::TEXT_FORMAT;

/// The buckets of calls and requests, in seconds.
const CALLS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// The buckets of job runs, in seconds.
const JOBS: &[f64] = &[
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
];

/// A metric that can be created from its description.
trait Instrument: Collector + Clone + Sized + 'static {
    fn make(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self>;
}

impl Instrument for IntCounter {
    fn make(name: &str, help: &str, _: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(name, help)
    }
}

impl Instrument for IntCounterVec {
    fn make(name: &str, help: &str, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Instrument for IntGauge {
    fn make(name: &str, help: &str, _: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(name, help)
    }
}

impl Instrument for IntGaugeVec {
    fn make(name: &str, help: &str, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Instrument for Histogram {
    fn make(name: &str, help: &str, _: &[&str], buckets: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
    }
}

impl Instrument for HistogramVec {
    fn make(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self> {
        Self::new(
            HistogramOpts::new(name, help).buckets(buckets.to_vec()),
            labels,
        )
    }
}

macro_rules! instruments {
    ($(
        #[doc = $help:literal]
        $field:ident: $kind:ty = $name:literal $([$($label:literal),+])? $(in $buckets:ident)?;
    )+) => {
        /// The instruments of a broker, with their registry.
        #[derive(Debug)]
        pub struct Instruments {
            registry: Registry,
            $(#[doc = $help] pub $field: $kind,)+
        }

        impl Instruments {
            fn new() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(
                    let labels: &[&str] = &[$($($label),+)?];
                    let buckets: &[f64] = [$($buckets,)? CALLS][0];
                    let $field = <$kind as Instrument>::make($name, $help.trim(), labels, buckets)?;
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { registry, $($field),+ })
            }
        }
    };
}

instruments! {
    /// Allocation requests by outcome.
    allocate: IntCounterVec = "broker_allocate_total" ["outcome"];
    /// Allocation requests answered with the sandbox that the caller already held.
    idempotent_hits: IntCounter = "broker_allocate_idempotent_hits_total";
    /// Allocation attempts that lost a sandbox to another request.
    allocate_conflicts: IntCounter = "broker_allocate_conflicts_total";
    /// Duration of allocation requests in seconds.
    allocation_latency: HistogramVec = "broker_allocation_latency_seconds" ["outcome"];
    /// Release requests by outcome.
    deletion_marked: IntCounterVec = "broker_deletion_marked_total" ["outcome"];
    /// Requests of holders to extend their allocation, by outcome.
    extensions: IntCounterVec = "broker_extensions_total" ["outcome"];
    /// Requests of holders to replace their sandbox, by outcome.
    replacements: IntCounterVec = "broker_replacements_total" ["outcome"];
    /// Actions of operators on single sandboxes by action and outcome.
    admin_actions: IntCounterVec = "broker_admin_actions_total" ["action", "outcome"];
    /// Runs of the sync job in this process by outcome.
    sync: IntCounterVec = "broker_sync_total" ["outcome"];
    /// Active sandbox accounts listed by CSP, summed over the runs of the sync job in this process.
    sync_synced: IntCounter = "broker_sync_sandboxes_synced_total";
    /// Sandboxes marked stale by the sync job in this process.
    sync_stale: IntCounter = "broker_sync_sandboxes_stale_total";
    /// Duration of sync runs in seconds.
    sync_duration: Histogram = "broker_sync_duration_seconds" in JOBS;
    /// Runs of the cleanup job in this process by outcome.
    cleanup: IntCounterVec = "broker_cleanup_total" ["outcome"];
    /// Sandboxes deleted by the cleanup job in this process.
    cleanup_deleted: IntCounter = "broker_cleanup_deleted_total";
    /// Sandboxes whose deletion the cleanup job in this process abandoned.
    cleanup_failed: IntCounter = "broker_cleanup_failed_total";
    /// Duration of cleanup runs in seconds.
    cleanup_duration: Histogram = "broker_cleanup_duration_seconds" in JOBS;
    /// Runs of the auto-expire job in this process by outcome.
    expiry: IntCounterVec = "broker_expiry_total" ["outcome"];
    /// Overdue allocations ended by the auto-expire job in this process.
    expiry_orphaned: IntCounter = "broker_expiry_orphaned_total";
    /// Accounts checked for NIOSXaaS services before their deletion, by outcome.
    niosxaas_cleanup: IntCounterVec = "broker_niosxaas_cleanup_total" ["outcome"];
    /// NIOSXaaS services deleted.
    niosxaas_services_deleted: IntCounter = "broker_niosxaas_services_deleted_total";
    /// Sign-ins to NIOSXaaS by outcome.
    niosxaas_auth: IntCounterVec = "broker_niosxaas_auth_total" ["outcome"];
    /// Job runs in this process by job and outcome.
    job_runs: IntCounterVec = "broker_job_runs_total" ["job", "outcome"];
    /// Finished runs of the job in all processes by outcome, read from the companion table.
    job_finished: IntCounterVec = "broker_job_finished_total" ["job", "outcome"];
    /// Sandboxes processed by finished runs of the job in all processes by result, read from the companion table.
    job_sandboxes: IntCounterVec = "broker_job_sandboxes_total" ["job", "result"];
    /// Sandboxes left to a later run by the job's last successful run in any process, read from the companion table.
    job_deferred: IntGaugeVec = "broker_job_deferred" ["job"];
    /// End of the job's last run in any process, in Unix seconds, read from the companion table.
    job_last_end: IntGaugeVec = "broker_job_last_end_timestamp_seconds" ["job"];
    /// End of the job's last failed run in any process, in Unix seconds, read from the companion table.
    job_last_failure: IntGaugeVec = "broker_job_last_failure_timestamp_seconds" ["job"];
    /// End of the job's last run that a pause stopped in any process, in Unix seconds, read from the companion table.
    job_last_paused: IntGaugeVec = "broker_job_last_paused_timestamp_seconds" ["job"];
    /// End of the job's last successful run in any process, in Unix seconds, read from the companion table.
    job_last_success: IntGaugeVec = "broker_job_last_success_timestamp_seconds" ["job"];
    /// Configured interval between runs of the job, in seconds.
    job_interval: IntGaugeVec = "broker_job_interval_seconds" ["job"];
    /// Sandboxes in the pool's table whose accounts are not known to be usable yet.
    pool_provisioning: IntGauge = "broker_pool_provisioning";
    /// Available sandboxes in the pool's table.
    pool_available: IntGauge = "broker_pool_available";
    /// Sandboxes that are available, or are being created or checked and will be available in time.
    pool_expected: IntGauge = "broker_pool_expected";
    /// Allocated sandboxes in the pool's table.
    pool_allocated: IntGauge = "broker_pool_allocated";
    /// Sandboxes in the pool's table that wait for their deletion from CSP.
    pool_pending_deletion: IntGauge = "broker_pool_pending_deletion";
    /// Sandboxes in the pool's table that CSP no longer lists.
    pool_stale: IntGauge = "broker_pool_stale";
    /// Sandboxes in the pool's table whose deletion was abandoned.
    pool_deletion_failed: IntGauge = "broker_pool_deletion_failed";
    /// Sandboxes in the pool's table that operators or checks have set aside.
    pool_quarantined: IntGauge = "broker_pool_quarantined";
    /// Items of the pool that are no valid sandboxes, as counted by the last sync.
    pool_unreadable: IntGauge = "broker_pool_unreadable";
    /// All sandboxes in the pool's table.
    pool_total: IntGauge = "broker_pool_total";
    /// Sandboxes of the pool that should be available, also for the schedules whose lead has begun.
    pool_target: IntGaugeVec = "broker_pool_target" ["pool"];
    /// Available sandboxes of the pool.
    pool_ready: IntGaugeVec = "broker_pool_ready" ["pool"];
    /// Sandboxes of the pool whose accounts are not known to be usable yet.
    pool_warming: IntGaugeVec = "broker_pool_warming" ["pool"];
    /// Creations of accounts for the pool whose sandboxes no sync has inserted yet, read from the companion table.
    pool_creations_under_way: IntGaugeVec = "broker_pool_creations_under_way" ["pool"];
    /// 1 if the pool has been below its target for longer than a creation takes, else 0.
    pool_late: IntGaugeVec = "broker_pool_late" ["pool"];
    /// 1 if the pool lacks sandboxes and refill is stopped, mostly because CSP refuses, else 0, read from the companion table.
    pool_refill_stopped: IntGaugeVec = "broker_pool_refill_stopped" ["pool"];
    /// 95th percentile of the time from the creation of an account until its sandbox is available, in seconds.
    pool_time_to_available: IntGaugeVec = "broker_pool_time_to_available_seconds" ["pool"];
    /// Sandboxes that the lab holds. Labs that the policy does not name are counted together as other.
    lab_held: IntGaugeVec = "broker_lab_held" ["lab"];
    /// Time of the last count of the pool, in Unix seconds.
    pool_counted: IntGauge = "broker_pool_counted_timestamp_seconds";
    /// Candidates in the index of this broker.
    candidate_index_size: IntGauge = "broker_candidate_index_size";
    /// Duration of database calls in seconds, including the SDK's retries.
    store_calls: HistogramVec = "broker_store_call_duration_seconds" ["operation", "outcome"];
    /// Attempts rejected by the database because of throttling.
    store_throttles: IntCounterVec = "broker_store_throttles_total" ["operation"];
    /// CSP calls of this process by operation and outcome.
    csp_calls: IntCounterVec = "broker_csp_calls_total" ["operation", "outcome"];
    /// Duration of CSP calls in seconds.
    csp_call_duration: HistogramVec = "broker_csp_call_duration_seconds" ["operation", "outcome"];
    /// 1 if the service rejected the broker's credentials in the last call, else 0, read from the companion table.
    credentials_rejected: IntGaugeVec = "broker_credentials_rejected" ["service"];
    /// Openings of the circuit breaker in all processes, read from the companion table.
    breaker_openings: IntCounterVec = "broker_breaker_openings_total" ["breaker"];
    /// State of the circuit breaker, read from the companion table: 1 for the current state, 0 for the others.
    breaker_state: IntGaugeVec = "broker_breaker_state" ["breaker", "state"];
    /// 1 if an operator has paused the activity, else 0, read from the companion table.
    paused: IntGaugeVec = "broker_paused" ["activity"];
    /// Since when the activity has been paused, in Unix seconds. Absent if it is not paused.
    pause_since: IntGaugeVec = "broker_pause_since_timestamp_seconds" ["activity"];
    /// When the pause of the activity ends by itself, in Unix seconds. Absent if an operator has to end it.
    pause_until: IntGaugeVec = "broker_pause_until_timestamp_seconds" ["activity"];
    /// Version of the policy in force in this process; 0 for the terms of the environment.
    policy_version: IntGauge = "broker_policy_version";
    /// 1 if the last poll of the policy by this process succeeded, else 0: the last known version stays in force.
    policy_readable: IntGauge = "broker_policy_readable";
    /// Duration of HTTP requests in seconds; the endpoint is the route, not the path.
    request_latency: HistogramVec = "broker_request_latency_seconds" ["method", "endpoint", "status"];
    /// HTTP requests in progress.
    requests_in_flight: IntGauge = "broker_requests_in_flight";
    /// Requests rejected by a rate limit.
    rate_limited: IntCounterVec = "broker_rate_limited_total" ["limit"];
    /// Requests rejected because too many were in progress.
    shed_requests: IntCounter = "broker_shed_requests_total";
    /// Refused requests by whether the audit has a record of them.
    audit_refusals: IntCounterVec = "broker_audit_refusals_total" ["outcome"];
    /// Log lines dropped because their reader was too slow.
    log_lines_dropped: IntGauge = "broker_log_lines_dropped";
    /// Secret refreshes by outcome.
    secret_refreshes: IntCounterVec = "broker_secret_refreshes_total" ["secret", "outcome"];
    /// Fetches of public keys of the load balancer, with which sign-ins are verified, by outcome.
    sign_in_key_fetches: IntCounterVec = "broker_sign_in_key_fetches_total" ["outcome"];
    /// Reads of the named tokens by outcome.
    token_refreshes: IntCounterVec = "broker_token_refreshes_total" ["outcome"];
    /// Time of the last successful read of the named tokens, in Unix seconds.
    tokens_read: IntGauge = "broker_tokens_read_timestamp_seconds";
    /// Always 1; the label is the broker's version.
    build_info: IntGaugeVec = "broker_build_info" ["version"];
}

/// The instruments of one broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Instruments>);

impl Deref for Metrics {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.0
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all instruments at zero.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "fails only if a name above is invalid or repeated, which every test would notice"
    )]
    pub fn new() -> Self {
        let metrics = Self(Arc::new(
            Instruments::new().expect("names are valid and distinct"),
        ));
        metrics.begin_at_zero();
        metrics
    }

    /// Creates the expected label values: a counter that first appears with its first event hides that event from
    /// `rate()`.
    fn begin_at_zero(&self) {
        for (counter, outcomes) in [
            (&self.allocate, ALLOCATION_OUTCOMES),
            (
                &self.deletion_marked,
                &[
                    "success",
                    "idempotent",
                    "not_owner",
                    "lab_not_allowed",
                    "expired",
                    "not_found",
                    "error",
                ],
            ),
            (&self.sync, RUN_OUTCOMES),
            (&self.cleanup, RUN_OUTCOMES),
            (&self.expiry, RUN_OUTCOMES),
            (&self.niosxaas_cleanup, &["cleaned", "skipped", "failed"]),
            (&self.niosxaas_auth, &["success", "error"]),
            (&self.rate_limited, &["caller", "address"]),
            (&self.audit_refusals, &["recorded", "left_out", "error"]),
            (&self.token_refreshes, &["success", "error"]),
        ] {
            for outcome in outcomes {
                counter.with_label_values(&[outcome]);
            }
        }
        for outcome in ALLOCATION_OUTCOMES {
            self.allocation_latency.with_label_values(&[outcome]);
        }
        for secret in ["track_tokens", "admin_tokens", "csp_token", "niosxaas"] {
            for outcome in ["success", "error"] {
                self.secret_refreshes.with_label_values(&[secret, outcome]);
            }
        }
        for outcome in ["success", "not_found", "error"] {
            self.sign_in_key_fetches.with_label_values(&[outcome]);
        }
        for operation in ["list", "delete"] {
            for outcome in [
                "success",
                "unavailable",
                "rate_limited",
                "unauthorized",
                "rejected",
            ] {
                self.csp_calls.with_label_values(&[operation, outcome]);
            }
            self.csp_call_duration
                .with_label_values(&[operation, "success"]);
        }
        self.store_throttles.with_label_values(&["Query"]);
        self.build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
    }

    /// Returns all metrics, and those of the process, in the text format of Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        let mut families = self.registry.gather();
        families.extend(process_metrics());
        // Fails only for a family without metrics, which `gather` leaves out.
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }
}

/// The outcomes of allocation requests.
const ALLOCATION_OUTCOMES: &[&str] = &[
    "success",
    "idempotent",
    "no_sandboxes",
    "lab_quota",
    "lab_not_allowed",
    "paused",
    "error",
];

/// The outcomes of job runs.
const RUN_OUTCOMES: &[&str] = &["success", "interrupted", "paused", "error"];

#[cfg(target_os = "linux")]
fn process_metrics() -> Vec<prometheus::proto::MetricFamily> {
    prometheus::process_collector::ProcessCollector::for_self().collect()
}

#[cfg(not(target_os = "linux"))]
fn process_metrics() -> Vec<prometheus::proto::MetricFamily> {
    Vec::new()
}

/// Converts a number to the value of a gauge; too large a number becomes the maximum.
#[must_use]
pub fn gauge(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Raises a counter to a total that is counted elsewhere. A lower total, as after a restore of the companion table,
/// resets it.
pub fn raise(counter: &IntCounter, total: u64) {
    if total < counter.get() {
        counter.reset();
    }
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// A guard that counts one in a gauge until it is dropped.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl InFlight {
    /// Increments `gauge`.
    #[must_use]
    pub fn enter(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Records the outcome and duration of a call.
pub fn observe_call(calls: &HistogramVec, operation: &str, outcome: &str, took: Duration) {
    calls
        .with_label_values(&[operation, outcome])
        .observe(took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instrument_has_a_valid_name_and_a_help_text() {
        let metrics = Metrics::new();
        metrics.allocate.with_label_values(&["success"]).inc();
        let text = metrics.text();
        assert!(text.contains("# HELP broker_allocate_total Allocation requests"));
        assert!(text.contains("broker_allocate_total{outcome=\"success\"} 1\n"));
        assert!(text.contains("broker_shed_requests_total 0\n"));
        assert!(text.contains("process_resident_memory_bytes "));
    }
}
