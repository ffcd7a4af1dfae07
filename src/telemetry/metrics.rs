//! Every instrument. Its help text is its comment here.
//!
//! A registry of its own for each broker, so that several in one process, as tests have them, count apart.

use std::{ops::Deref, sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

/// The media type of [`Metrics::text`].
pub use prometheus::TEXT_FORMAT;

/// Bounds of calls and requests, in seconds.
const CALLS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds of jobs, in seconds.
const JOBS: &[f64] = &[
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
];

/// Something that counts, made from its description.
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
        /// All of them.
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
    /// Allocation requests by how they ended.
    allocate: IntCounterVec = "broker_allocate_total" ["outcome"];
    /// Allocation requests that were answered with the sandbox of an earlier one.
    idempotent_hits: IntCounter = "broker_allocate_idempotent_hits_total";
    /// Attempts to take a sandbox that another request was faster with.
    allocate_conflicts: IntCounter = "broker_allocate_conflicts_total";
    /// Seconds until an allocation request was decided.
    allocation_latency: HistogramVec = "broker_allocation_latency_seconds" ["outcome"];
    /// Requests to give a sandbox back by how they ended.
    deletion_marked: IntCounterVec = "broker_deletion_marked_total" ["outcome"];
    /// Runs of the sync job in this process by how they ended.
    sync: IntCounterVec = "broker_sync_total" ["outcome"];
    /// Active sandbox accounts that CSP listed, summed over the runs of the sync job.
    sync_synced: IntCounter = "broker_sync_sandboxes_synced_total";
    /// Sandboxes that the sync job marked stale.
    sync_stale: IntCounter = "broker_sync_sandboxes_stale_total";
    /// Seconds that a run of the sync job took.
    sync_duration: Histogram = "broker_sync_duration_seconds" in JOBS;
    /// Runs of the cleanup job in this process by how they ended.
    cleanup: IntCounterVec = "broker_cleanup_total" ["outcome"];
    /// Sandboxes that the cleanup job deleted.
    cleanup_deleted: IntCounter = "broker_cleanup_deleted_total";
    /// Sandboxes that the cleanup job gave up on.
    cleanup_failed: IntCounter = "broker_cleanup_failed_total";
    /// Seconds that a run of the cleanup job took.
    cleanup_duration: Histogram = "broker_cleanup_duration_seconds" in JOBS;
    /// Runs of the auto-expire job in this process by how they ended.
    expiry: IntCounterVec = "broker_expiry_total" ["outcome"];
    /// Allocations that nobody gave back and the auto-expire job ended.
    expiry_orphaned: IntCounter = "broker_expiry_orphaned_total";
    /// Accounts whose NIOSXaaS services were looked at before the account's deletion, by what became of them.
    niosxaas_cleanup: IntCounterVec = "broker_niosxaas_cleanup_total" ["outcome"];
    /// NIOSXaaS services deleted.
    niosxaas_services_deleted: IntCounter = "broker_niosxaas_services_deleted_total";
    /// Sign-ins to NIOSXaaS by how they ended.
    niosxaas_auth: IntCounterVec = "broker_niosxaas_auth_total" ["outcome"];
    /// Runs of any job in this process by how they ended.
    job_runs: IntCounterVec = "broker_job_runs_total" ["job", "outcome"];
    /// When a run of the job last succeeded on any broker, in Unix seconds.
    job_last_success: IntGaugeVec = "broker_job_last_success_timestamp_seconds" ["job"];
    /// How often the job should run, in seconds.
    job_interval: IntGaugeVec = "broker_job_interval_seconds" ["job"];
    /// Sandboxes that can be allocated, in the table.
    pool_available: IntGauge = "broker_pool_available";
    /// Sandboxes that are allocated, in the table.
    pool_allocated: IntGauge = "broker_pool_allocated";
    /// Sandboxes that wait to be deleted from CSP, in the table.
    pool_pending_deletion: IntGauge = "broker_pool_pending_deletion";
    /// Sandboxes that CSP no longer lists, in the table.
    pool_stale: IntGauge = "broker_pool_stale";
    /// Sandboxes whose deletion was given up, in the table.
    pool_deletion_failed: IntGauge = "broker_pool_deletion_failed";
    /// All sandboxes in the table.
    pool_total: IntGauge = "broker_pool_total";
    /// When the pool was last counted, in Unix seconds.
    pool_counted: IntGauge = "broker_pool_counted_timestamp_seconds";
    /// Available sandboxes that this broker has in memory.
    candidate_index_size: IntGauge = "broker_candidate_index_size";
    /// Seconds that a call to the database took, with the SDK's own retries.
    store_calls: HistogramVec = "broker_store_call_duration_seconds" ["operation", "outcome"];
    /// Attempts that the database refused because there were too many.
    store_throttles: IntCounterVec = "broker_store_throttles_total" ["operation"];
    /// Calls to CSP by how they ended.
    csp_calls: IntCounterVec = "broker_csp_calls_total" ["operation", "outcome"];
    /// Seconds that a call to CSP took.
    csp_call_duration: HistogramVec = "broker_csp_call_duration_seconds" ["operation", "outcome"];
    /// 1 for the state in which the circuit breaker is, 0 for the others.
    breaker_state: IntGaugeVec = "broker_breaker_state" ["breaker", "state"];
    /// Seconds until a request was answered; the endpoint is the route, not the path.
    request_latency: HistogramVec = "broker_request_latency_seconds" ["method", "endpoint", "status"];
    /// Requests under way.
    requests_in_flight: IntGauge = "broker_requests_in_flight";
    /// Requests refused by a rate limit.
    rate_limited: IntCounterVec = "broker_rate_limited_total" ["limit"];
    /// Requests refused because too many were under way.
    shed_requests: IntCounter = "broker_shed_requests_total";
    /// Log lines that were dropped because nobody read them.
    log_lines_dropped: IntGauge = "broker_log_lines_dropped";
    /// Readings of secrets from Secrets Manager by how they ended.
    secret_refreshes: IntCounterVec = "broker_secret_refreshes_total" ["secret", "outcome"];
    /// 1; the label has the broker's version.
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
    /// Everything at zero.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "fails only if two names above are the same or one is not a name, which every test would notice"
    )]
    pub fn new() -> Self {
        let metrics = Self(Arc::new(Instruments::new().expect("names are valid")));
        metrics.begin_at_zero();
        metrics
    }

    /// A counter that appears with its first event hides that event from `rate()`.
    fn begin_at_zero(&self) {
        for (counter, outcomes) in [
            (
                &self.allocate,
                &["success", "idempotent", "no_sandboxes", "error"][..],
            ),
            (
                &self.deletion_marked,
                &[
                    "success",
                    "idempotent",
                    "not_owner",
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
        ] {
            for outcome in outcomes {
                counter.with_label_values(&[outcome]);
            }
        }
        for outcome in ["success", "idempotent", "no_sandboxes", "error"] {
            self.allocation_latency.with_label_values(&[outcome]);
        }
        for secret in ["track_tokens", "admin_tokens", "csp_token", "niosxaas"] {
            for outcome in ["success", "error"] {
                self.secret_refreshes.with_label_values(&[secret, outcome]);
            }
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

    /// All of them, in the text format of Prometheus, with those of the process.
    #[must_use]
    pub fn text(&self) -> String {
        let mut families = self.registry.gather();
        families.extend(process_metrics());
        // Fails for a family without metrics only, which `gather` leaves out.
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }
}

/// How runs of jobs end.
const RUN_OUTCOMES: &[&str] = &["success", "interrupted", "error"];

#[cfg(target_os = "linux")]
fn process_metrics() -> Vec<prometheus::proto::MetricFamily> {
    prometheus::process_collector::ProcessCollector::for_self().collect()
}

#[cfg(not(target_os = "linux"))]
fn process_metrics() -> Vec<prometheus::proto::MetricFamily> {
    Vec::new()
}

/// A number for a gauge.
#[must_use]
pub fn gauge(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// One more in a gauge, for as long as this lives.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl InFlight {
    /// Counts one in.
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

/// Counts a call with its outcome and time.
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
