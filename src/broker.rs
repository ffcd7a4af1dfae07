//! The use cases of the API: allocate, extend, replace, release, get, list, and the actions of operators. Free of HTTP and
//! of the AWS SDK.
//!
//! Promises, kept despite retries, other brokers and crashes:
//!
//! * A. A sandbox has at most one holder.
//! * B. A (caller, key) pair holds at most one sandbox.
//! * C. [`BrokerError::NoSandboxes`] means that no matching sandbox is available.
//! * D. A fresh allocation costs one database round trip while the candidate index has a match.
//! * E. A sandbox that had a holder is never allocated again.
//! * F. An allocation is not retired before its end and its grace period, and an answered extension holds.
//! * G. A replacement leaves its caller with exactly one sandbox, the old one if it was refused.
//!
//! A and E rest on the condition of the allocating write, B and G on the claim written with it, F on the end that every
//! write about an allocation requires; the index only proposes. A lab never holds more than its quota, because each
//! allocation takes one of the quota's slots in the same write. `docs/correctness.md` has the argument and its limits.

mod acquire;
mod actions;
mod allocate;
mod audit;
pub mod candidates;
mod extend;
mod leaks;
mod listing;
pub mod pauses;
pub mod policy;
pub mod polling;
pub mod quota;
mod readiness;
pub mod refresher;
mod refusals;
mod release;
mod replace;
mod table_check;
mod timeline;

use std::{sync::Arc, time::Duration};

use thiserror::Error;

pub use self::{
    allocate::{AllocateRequest, Allocation},
    extend::ExtendedAllocation,
    leaks::{LeakPage, LeakRelease},
    readiness::Readiness,
    refusals::{Refusal, RefusalLog},
    release::ReleasedSandbox,
    replace::ReplaceRequest,
    timeline::SandboxTimeline,
};
use self::{pauses::PauseWatch, policy::PolicyWatch, quota::Quotas, refresher::CandidateRefresher};
use crate::{
    backoff::{Backoff, BackoffConfig},
    clock::{Clock, UnixSeconds},
    domain::{
        ActionRefusal, Bounds, CallerId, LeaseTerms, OutOfBounds, Reason, Sandbox, SandboxId,
    },
    store::{PoolStore, StoreError},
    telemetry::metrics::Metrics,
};

/// The limits of allocation under contention.
#[derive(Clone, Copy, Debug)]
pub struct AllocationConfig {
    /// `ALLOCATE_TIMEOUT_MS`: the time after which a request gives up, with [`BrokerError::Contended`] if it has lost its
    /// attempts to others, or with [`BrokerError::Store`] if the database has not answered.
    pub timeout: Duration,
    /// `CANDIDATE_INDEX_CAPACITY`.
    pub index_capacity: usize,
    /// `BACKOFF_BASE_MS` and `BACKOFF_MAX_MS`.
    pub backoff: BackoffConfig,
}

/// The reason why a use case failed.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// No sandbox with the prefix is available.
    #[error("no matching sandbox is available")]
    NoSandboxes,
    /// The lab holds as many sandboxes as its quota permits.
    #[error("the lab holds {held} sandboxes, and its quota is {max}")]
    LabQuotaReached {
        /// The sandboxes that it holds; not counted if the quota is 0.
        held: u64,
        /// The quota.
        max: u32,
    },
    /// An operator has paused allocations.
    #[error("allocations are paused")]
    Paused {
        /// Why.
        reason: Reason,
        /// How long the pause lasts, if it has an end.
        ends_in: Option<Duration>,
    },
    /// The request has lost every attempt to others until its time-out.
    #[error("the pool is contended")]
    Contended,
    /// The sandbox does not exist.
    #[error("no such sandbox")]
    NotFound,
    /// The caller does not hold the sandbox.
    #[error("the sandbox belongs to another caller")]
    NotOwner,
    /// The sandbox is outside of the bounds of the principal.
    #[error("the token is not valid for the lab or the name of the sandbox")]
    NotAllowed,
    /// The allocation would be outside of the bounds of the principal.
    #[error("the token is not valid for the lab or the name prefix of the request")]
    OutOfBounds(OutOfBounds),
    /// The allocation and its grace period are over.
    #[error("the allocation has expired")]
    Expired {
        /// When it expired.
        expires_at: Option<UnixSeconds>,
    },
    /// The caller was the holder, but the allocation has been ended.
    #[error("the allocation has been ended")]
    Ended {
        /// The sandbox that replaced this one.
        replaced_by: Option<SandboxId>,
    },
    /// The allocation already ends as late as its lab permits.
    #[error("the allocation cannot be extended any further")]
    ExtensionLimit {
        /// When it ends.
        expires_at: UnixSeconds,
        /// The longest duration that the lab permits.
        max_duration: Duration,
    },
    /// The holder has had its sandbox replaced as often as its lab permits.
    #[error("the sandbox cannot be replaced any more")]
    ReplacementLimit {
        /// How often that is.
        permitted: u32,
    },
    /// The item of the sandbox is unreadable.
    #[error("the item of the sandbox is unreadable")]
    Unreadable,
    /// The action of an operator does not apply to the sandbox.
    #[error("the action does not apply to the sandbox")]
    Refused(ActionRefusal),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The use cases over one pool.
#[derive(Debug)]
pub struct Broker {
    store: PoolStore,
    refresher: CandidateRefresher,
    pauses: PauseWatch,
    policy: PolicyWatch,
    quotas: Quotas,
    terms: LeaseTerms,
    allocation: AllocationConfig,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Broker {
    /// Creates a broker over `store`, which takes its candidates from `refresher` and obeys `pauses`, `policy` and `quotas`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a broker, built in one place"
    )]
    #[must_use]
    pub fn new(
        store: PoolStore,
        refresher: CandidateRefresher,
        pauses: PauseWatch,
        policy: PolicyWatch,
        quotas: Quotas,
        terms: LeaseTerms,
        allocation: AllocationConfig,
        backoff: Backoff,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            refresher,
            pauses,
            policy,
            quotas,
            terms,
            allocation,
            backoff,
            clock,
            metrics,
        }
    }

    /// Returns the latest end that extensions by its holder can give an allocation under the policy in force; `None` if
    /// the sandbox is not allocated.
    #[must_use]
    pub fn latest_end(&self, sandbox: &Sandbox) -> Option<UnixSeconds> {
        self.policy.current().latest_end(sandbox)
    }

    /// Returns the activities that operators have stopped.
    #[must_use]
    pub const fn pauses(&self) -> &PauseWatch {
        &self.pauses
    }

    /// Returns the policy: the terms of each lab.
    #[must_use]
    pub const fn policy(&self) -> &PolicyWatch {
        &self.policy
    }

    /// Returns a sandbox that belongs to the caller, within the bounds of its principal.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::NotOwner`], [`BrokerError::NotAllowed`], [`BrokerError::Store`].
    pub async fn get(
        &self,
        id: &SandboxId,
        caller: &CallerId,
        bounds: &Bounds,
    ) -> Result<Sandbox, BrokerError> {
        let sandbox = self.store.get(id).await?.ok_or(BrokerError::NotFound)?;
        if !sandbox.belongs_to(caller) {
            Err(BrokerError::NotOwner)
        } else if !bounds.allow_sandbox(&sandbox) {
            Err(BrokerError::NotAllowed)
        } else {
            Ok(sandbox)
        }
    }

    /// Returns the sandboxes that the caller holds, within the bounds of its principal.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn held_by(
        &self,
        caller: &CallerId,
        bounds: &Bounds,
    ) -> Result<Vec<Sandbox>, BrokerError> {
        let mut held = self.store.held_by(caller).await?;
        held.retain(|sandbox| bounds.allow_sandbox(sandbox));
        Ok(held)
    }
}
