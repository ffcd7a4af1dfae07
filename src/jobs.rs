//! The jobs that maintain the pool.
//!
//! A job may be started at any time, concurrently with allocations and other jobs. One run of it executes at a time over
//! all brokers, and every run leaves a record. A job is a type that implements [`run::Job`]; [`runner::Runner`] takes
//! its lease and writes its record.
//!
//! A new job needs a name in [`JobName`], a module here, an interval in [`JobsConfig::interval`] with a line in
//! [`schedule::run`] unless only operators start it, an endpoint in `http/api/jobs.rs`, and a subcommand in
//! `cli/job.rs`.

pub(crate) mod check;
pub(crate) mod cleanup;
pub(crate) mod csp_state;
pub(crate) mod expiry;
pub(crate) mod forecast;
pub(crate) mod niosxaas_report;
pub(crate) mod overview;
mod pausing;
pub(crate) mod pool_monitor;
mod pool_report;
mod recorder;
pub(crate) mod refill;
pub(crate) mod removal;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod schedule;
pub(crate) mod sync;

use std::{sync::Arc, time::Duration};

use thiserror::Error;

use crate::{
    backoff::Backoff,
    broker::{
        pauses::PauseWatch, policy::PolicyWatch, quota::LabsHeldCount,
        refresher::CandidateRefresher,
    },
    clock::{Clock, UnixSeconds},
    csp::{
        CspClient, CspError,
        niosxaas::NiosxaasClient,
        session::SessionClient,
        throttle::{Breaker, BreakerConfig, BreakerDecision, Pace, PaceConfig},
    },
    domain::{JobName, LabUsage, LeaseTerms, RefillPace},
    shared::lock,
    store::{PoolStore, StoreError},
    telemetry::metrics::Metrics,
};

/// The settings of the sync job.
#[derive(Clone, Copy, Debug)]
pub struct SyncConfig {
    /// `MAX_STALE_FRACTION`: the fraction of the available sandboxes that one sync may mark stale.
    pub max_stale_fraction: f64,
    /// `TOMBSTONE_RETRY_SEC`: a deleted sandbox that CSP lists for longer than this is deleted again.
    pub tombstone_retry: Duration,
}

/// The accounts that the check job checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckMode {
    /// None: sync inserts new sandboxes as `available`.
    Off,
    /// Those of new sandboxes, which sync inserts as `provisioning`.
    New,
    /// Those of new sandboxes, and those of available ones from time to time.
    All,
}

/// The settings of the check job.
#[derive(Clone, Copy, Debug)]
pub struct CheckConfig {
    /// `CHECK_MODE`.
    pub mode: CheckMode,
    /// `CHECK_INTERVAL_SEC`.
    pub interval: Duration,
    /// `RECHECK_HOURS`: how long a check of an available sandbox holds.
    pub recheck_after: Duration,
    /// `PROVISION_TIMEOUT_MINUTES`: how long an account may be observed as not usable yet.
    pub provision_timeout: Duration,
    /// `CHECK_MAX_FAILURES`: how many answers in a row that an account is broken lead to its quarantine.
    pub max_failures: u32,
    /// `CHECK_BATCH_SIZE` and `CHECK_BATCH_DELAY_SEC`: the fastest pace.
    pub pace: PaceConfig,
}

/// Whether the refill job creates accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefillMode {
    /// It does not run.
    Off,
    /// It reports what it would do.
    Plan,
    /// It creates accounts.
    On,
}

impl RefillMode {
    /// Returns the name used in settings and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Plan => "plan",
            Self::On => "on",
        }
    }
}

/// The shortest time after which no request of an earlier run can be on its way: the write before it takes up to 5 s, and
/// the request 30 s.
pub(crate) const SHORTEST_SETTLE: Duration = Duration::from_secs(40);

/// The settings of the refill job.
#[derive(Clone, Copy, Debug)]
pub struct RefillConfig {
    /// `REFILL_MODE`.
    pub mode: RefillMode,
    /// `REFILL_INTERVAL_SEC`.
    pub interval: Duration,
    /// `REFILL_BATCH` and `REFILL_DELAY_SEC`: the most creations of a run, and the pause between two of them.
    pub pace: PaceConfig,
    /// `REFILL_SETTLE_SEC`: how long after its start a run looks for accounts whose creation was not answered.
    pub settle: Duration,
}

impl RefillConfig {
    /// Returns how fast the job creates accounts.
    #[must_use]
    pub fn pace(&self) -> RefillPace {
        RefillPace {
            batch: u32::try_from(self.pace.batch).unwrap_or(u32::MAX),
            interval: self.interval,
        }
    }
}

/// The settings of the other jobs: intervals, and the pace of deletions.
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
    /// `MAX_EXPIRE_FRACTION`: the fraction of the allocations that one run of auto-expire may retire.
    pub max_expire_fraction: f64,
    /// `AUTO_DELETE_STALE_INTERVAL_SEC`.
    pub stale_interval: Duration,
    /// `STALE_GRACE_PERIOD_HOURS`: how long a sandbox has to be stale before it is removed.
    pub stale_grace: Duration,
    /// The check job.
    pub check: CheckConfig,
    /// The refill job.
    pub refill: RefillConfig,
    /// `CLEANUP_BATCH_SIZE`, `CLEANUP_BATCH_DELAY_SEC` and `CLEANUP_PER_SANDBOX_DELAY_SEC`: the fastest pace.
    pub pace: PaceConfig,
    /// `CLEANUP_CONCURRENCY`: how many sandboxes of a batch are deleted at the same time.
    pub cleanup_concurrency: usize,
    /// `POOL_LOW_THRESHOLD`: the dashboard warns when fewer sandboxes are available.
    pub pool_low_below: u64,
    /// `DELETION_RETRY_MAX_ATTEMPTS`.
    pub deletion_max_attempts: u32,
    /// `CIRCUIT_BREAKER_THRESHOLD` and `CIRCUIT_BREAKER_TIMEOUT_SEC`.
    pub breaker: BreakerConfig,
}

impl JobsConfig {
    /// Returns the variable whose value `off` keeps a job from running; `None` if the job is on.
    #[must_use]
    pub const fn turned_off_by(&self, job: JobName) -> Option<&'static str> {
        match (job, self.check.mode, self.refill.mode) {
            (JobName::Check, CheckMode::Off, _) => Some("CHECK_MODE"),
            (JobName::Refill, _, RefillMode::Off) => Some("REFILL_MODE"),
            _ => None,
        }
    }

    /// Returns the interval of a job; `None` if only operators start it, or if it is off.
    #[must_use]
    pub const fn interval(&self, job: JobName) -> Option<Duration> {
        if self.turned_off_by(job).is_some() {
            return None;
        }
        match job {
            JobName::Sync => Some(self.sync_interval),
            JobName::Cleanup => Some(self.cleanup_interval),
            JobName::AutoExpire => Some(self.expiry_interval),
            JobName::AutoDeleteStale => Some(self.stale_interval),
            JobName::Check => Some(self.check.interval),
            JobName::Refill => Some(self.refill.interval),
            JobName::BulkDelete => None,
        }
    }
}

/// The parts that jobs share.
#[derive(Debug)]
pub struct JobContext {
    /// The pool.
    pub store: PoolStore,
    /// The client of CSP.
    pub csp: CspClient,
    /// Stops calls to CSP while it fails.
    pub csp_breaker: Breaker,
    /// The fraction of their pace at which jobs call CSP.
    pub pace: std::sync::Mutex<Pace>,
    /// The state of CSP that all processes share.
    pub(crate) csp_state: csp_state::SharedCspState,
    /// Opens the sessions in which accounts are checked.
    pub check_sessions: SessionClient,
    /// The client of NIOSXaaS; `None` if services are not deleted.
    pub niosxaas: Option<NiosxaasClient>,
    /// Stops calls to NIOSXaaS while it fails.
    pub niosxaas_breaker: Breaker,
    /// The candidate index, to which sync adds new sandboxes.
    pub refresher: CandidateRefresher,
    /// The activities that operators have stopped.
    pub pauses: PauseWatch,
    /// The terms of each lab.
    pub policy: PolicyWatch,
    /// The last count of the sandboxes that labs hold.
    pub labs_held: LabsHeldCount,
    /// The lease terms of allocations.
    pub terms: LeaseTerms,
    /// The settings of the sync job.
    pub sync: SyncConfig,
    /// The settings of the other jobs.
    pub jobs: JobsConfig,
    /// The pauses between attempts to list accounts.
    pub backoff: Backoff,
    /// The instruments that count runs.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl JobContext {
    /// Returns the present pace of a job, whose batch is a single item if the circuit breaker admits only a probe.
    ///
    /// # Errors
    /// Until when it admits no call to CSP.
    pub(crate) fn admit_batch(&self, configured: PaceConfig) -> Result<PaceConfig, UnixSeconds> {
        let pace = lock(&self.pace).of(configured);
        match self.csp_breaker.admit() {
            BreakerDecision::Allowed => Ok(pace),
            BreakerDecision::Probe => Ok(PaceConfig { batch: 1, ..pace }),
            BreakerDecision::Refused(until) => Err(until),
        }
    }

    /// Returns the sandboxes that labs hold, as of the last count. Makes no call to the database.
    pub(crate) fn labs(&self) -> Vec<LabUsage> {
        let policy = self.policy.current();
        let held = self.labs_held.last();
        held.map_or_else(Vec::new, |held| held.usage(&policy))
    }
}

/// The reason why a run failed. Its earlier writes stay; the next run continues.
#[derive(Debug, Error)]
pub enum JobError {
    /// A call of CSP failed.
    #[error(transparent)]
    Csp(#[from] CspError),
    /// The pool could not be read or written, or another run has taken over.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect of the broker.
    #[error("the job panicked")]
    Panicked,
}
