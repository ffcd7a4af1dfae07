//! The jobs that keep the pool healthy.
//!
//! Each is safe to start at any moment and beside allocations, runs once at a time over all brokers, and leaves a
//! record of every run. A job is a struct with what it needs; [`runner::Runner`] gives it its lease and its record.

pub mod cleanup;
pub mod expiry;
pub mod runner;
pub mod schedule;
pub mod stale;
pub mod sync;

use std::sync::Arc;

use thiserror::Error;

use crate::{
    backoff::Backoff,
    clock::Clock,
    config::{JobsConfig, SyncConfig},
    csp::{
        CspClient, CspError,
        niosxaas::NiosxaasClient,
        throttle::{Breaker, Pace},
    },
    metrics::Metrics,
    sandbox::LeaseTerms,
    store::{PoolStore, StoreError},
    supply::Supply,
};

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
    pub supply: Supply,
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
