//! The jobs that keep the pool healthy.
//!
//! Each is safe to start at any moment and beside allocations, runs once at a time over all brokers, and leaves a
//! record of every run. A job is a struct with what it needs; [`runner::Runner`] gives it its lease and its record.

pub(crate) mod cleanup;
pub(crate) mod expiry;
pub(crate) mod niosxaas_report;
pub(crate) mod overview;
pub(crate) mod pool_monitor;
pub(crate) mod runner;
pub(crate) mod schedule;
pub(crate) mod stale;
pub(crate) mod sync;

use std::{sync::Arc, time::Duration};

use thiserror::Error;

use crate::{
    backoff::Backoff,
    broker::refresher::CandidateRefresher,
    clock::Clock,
    csp::{
        CspClient, CspError,
        niosxaas::NiosxaasClient,
        throttle::{Breaker, BreakerConfig, Pace, PaceConfig},
    },
    domain::{JobName, LeaseTerms},
    store::{PoolStore, StoreError},
    telemetry::metrics::Metrics,
};

/// How the sync job behaves.
#[derive(Clone, Copy, Debug)]
pub struct SyncConfig {
    /// `MAX_STALE_FRACTION`: the part of the available sandboxes that one sync may mark stale.
    pub max_stale_fraction: f64,
    /// `TOMBSTONE_RETRY_SEC`: a deleted sandbox that CSP lists for longer than this is deleted again.
    pub tombstone_retry: Duration,
}

/// When the other jobs run, and how hard they press CSP.
#[derive(Clone, Copy, Debug)]
pub struct JobsConfig {
    /// `RUN_JOBS`: whether `serve` runs the jobs too.
    pub run_in_serve: bool,
    /// `SYNC_INTERVAL_SEC`.
    pub sync_interval: Duration,
    /// `CLEANUP_INTERVAL_SEC`.
    pub cleanup_interval: Duration,
    /// `AUTO_EXPIRY_INTERVAL_SEC`.
    pub expiry_interval: Duration,
    /// `AUTO_DELETE_STALE_INTERVAL_SEC`.
    pub stale_interval: Duration,
    /// `STALE_GRACE_PERIOD_HOURS`: how long a sandbox has to be stale before it is removed.
    pub stale_grace: Duration,
    /// `CLEANUP_BATCH_SIZE`, `CLEANUP_BATCH_DELAY_SEC` and `CLEANUP_PER_SANDBOX_DELAY_SEC`: the fastest pace.
    pub pace: PaceConfig,
    /// `POOL_LOW_THRESHOLD`: the dashboard warns below so many available sandboxes.
    pub pool_low_below: u64,
    /// `DELETION_RETRY_MAX_ATTEMPTS`.
    pub deletion_max_attempts: u32,
    /// `CIRCUIT_BREAKER_THRESHOLD` and `CIRCUIT_BREAKER_TIMEOUT_SEC`.
    pub breaker: BreakerConfig,
}

impl JobsConfig {
    /// How often a job runs; `None` for one that only people start.
    #[must_use]
    pub const fn interval(&self, job: JobName) -> Option<Duration> {
        match job {
            JobName::Sync => Some(self.sync_interval),
            JobName::Cleanup => Some(self.cleanup_interval),
            JobName::AutoExpire => Some(self.expiry_interval),
            JobName::AutoDeleteStale => Some(self.stale_interval),
            JobName::BulkDelete => None,
        }
    }
}

/// What jobs share.
#[derive(Debug)]
pub struct JobContext {
    /// The pool.
    pub store: PoolStore,
    /// Where the accounts are.
    pub csp: CspClient,
    /// Stops deletions while CSP is unwell.
    pub csp_breaker: Breaker,
    /// How fast deletions go.
    pub pace: std::sync::Mutex<Pace>,
    /// Where the services in the accounts are, if they are to be deleted.
    pub niosxaas: Option<NiosxaasClient>,
    /// Its breaker.
    pub niosxaas_breaker: Breaker,
    /// The index that is told of new sandboxes.
    pub refresher: CandidateRefresher,
    /// How long an allocation lasts.
    pub terms: LeaseTerms,
    /// Settings of the sync job.
    pub sync: SyncConfig,
    /// Settings of the others.
    pub jobs: JobsConfig,
    /// Between attempts to get the list of accounts.
    pub backoff: Backoff,
    /// What runs count.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl JobContext {
    /// The circuit breakers by name.
    #[must_use]
    pub const fn breakers(&self) -> [(&'static str, &Breaker); 2] {
        [
            ("csp", &self.csp_breaker),
            ("niosxaas", &self.niosxaas_breaker),
        ]
    }
}

/// Why a run failed. What it had written stays; the next run goes on.
#[derive(Debug, Error)]
pub enum JobError {
    /// CSP does not do what is asked.
    #[error(transparent)]
    Csp(#[from] CspError),
    /// The pool could not be read or written, or another run has taken over.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect of the broker.
    #[error("the job panicked")]
    Panicked,
}
