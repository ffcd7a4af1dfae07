//! The use cases: allocate, release, get, list. No HTTP here, and no AWS.
//!
//! Promises, kept whatever retries, other brokers and crashes do:
//!
//! * A. A sandbox has at most one holder.
//! * B. A (caller, key) pair holds at most one sandbox.
//! * C. [`BrokerError::NoSandboxes`] means that no matching sandbox is available.
//! * D. A fresh allocation costs one database round trip when the index is warm.
//! * E. A sandbox that had a holder is never handed out again.
//!
//! A and E rest on the condition of the allocating write, B on the claim written with it; the index only proposes.

pub mod candidates;
mod readiness;
pub mod refresher;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};

pub use self::readiness::Readiness;
use self::{
    candidates::Reservation,
    refresher::{CandidateRefresher, Refreshed},
};
use crate::{
    backoff::{Backoff, BackoffConfig},
    clock::{Clock, UnixSeconds},
    domain::{
        CallerId, Candidate, Holder, LabId, LeaseTerms, NamePrefix, PoolCounts, Sandbox, SandboxId,
        Status,
    },
    store::{
        ClaimOutcome, ClaimPrecondition, Listing, PoolStore, Position, Release, StoreError,
        StoredClaim,
    },
    telemetry::metrics::Metrics,
};

/// How allocation behaves under contention.
#[derive(Clone, Copy, Debug)]
pub struct AllocationConfig {
    /// `ALLOCATE_TIMEOUT_MS`: when a request that met nothing but contention gives up.
    pub timeout: Duration,
    /// `CANDIDATE_INDEX_CAPACITY`.
    pub index_capacity: usize,
    /// `BACKOFF_BASE_MS` and `BACKOFF_MAX_MS`.
    pub backoff: BackoffConfig,
}

/// A request for a sandbox.
#[derive(Clone, Debug)]
pub struct AllocateRequest {
    /// Who asks, under which key, for which lab.
    pub holder: Holder,
    /// What the sandbox's name must begin with.
    pub prefix: Option<NamePrefix>,
}

/// A sandbox in the hands of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Allocated by this request.
    New(Sandbox),
    /// Allocated by an earlier request with the same caller and key.
    Replayed(Sandbox),
}

/// Why a use case did not get what was asked for.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// No sandbox with the prefix is available.
    #[error("no matching sandbox is available")]
    NoSandboxes,
    /// The request met nothing but contention until its time was up.
    #[error("the pool is contended")]
    Contended,
    /// There is no such sandbox.
    #[error("no such sandbox")]
    NotFound,
    /// The caller is not the holder.
    #[error("the sandbox belongs to another caller")]
    NotOwner,
    /// The allocation and its grace period are over.
    #[error("the allocation has expired")]
    Expired {
        /// When it expired.
        expires_at: Option<UnixSeconds>,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    store: PoolStore,
    refresher: CandidateRefresher,
    terms: LeaseTerms,
    allocation: AllocationConfig,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// What is known of the (caller, key) pair's claim.
enum Resolved {
    /// The pair holds this sandbox.
    Holds(Box<Sandbox>),
    /// It holds none; an allocation may write over this.
    Free(ClaimPrecondition),
}

impl Broker {
    /// A broker over `store`, which takes its candidates from `refresher`.
    #[must_use]
    pub fn new(
        store: PoolStore,
        refresher: CandidateRefresher,
        terms: LeaseTerms,
        allocation: AllocationConfig,
        backoff: Backoff,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            refresher,
            terms,
            allocation,
            backoff,
            clock,
            metrics,
        }
    }

    /// Gives the caller a sandbox, or the one it has under this key already.
    ///
    /// # Errors
    /// [`BrokerError::NoSandboxes`], [`BrokerError::Contended`], [`BrokerError::Store`]. After the last two the caller
    /// may hold a sandbox without knowing it; the same request tells.
    pub async fn allocate(&self, request: &AllocateRequest) -> Result<Allocation, BrokerError> {
        let began = Instant::now();
        let allocation = timeout_at(
            began + self.allocation.timeout,
            self.allocate_in_time(request),
        )
        .await
        .unwrap_or(Err(BrokerError::Contended));
        let outcome = match &allocation {
            Ok(Allocation::New(_)) => "success",
            Ok(Allocation::Replayed(_)) => {
                self.metrics.idempotent_hits.inc();
                "idempotent"
            }
            Err(BrokerError::NoSandboxes) => "no_sandboxes",
            Err(_) => "error",
        };
        self.metrics.allocate.with_label_values(&[outcome]).inc();
        self.metrics
            .allocation_latency
            .with_label_values(&[outcome])
            .observe(began.elapsed().as_secs_f64());
        allocation
    }

    async fn allocate_in_time(&self, request: &AllocateRequest) -> Result<Allocation, BrokerError> {
        let AllocateRequest { holder, prefix } = request;
        let mut guard = ClaimPrecondition::New;
        let mut conflicts = 0;
        let mut found = None;
        loop {
            let slot = self.store.slot().await;
            // In the slot: what waits with a request is there for nobody else, and may be gone before it is its turn.
            let candidate = found
                .take()
                .or_else(|| self.refresher.check_out(prefix.as_ref()));
            let Some(candidate) = candidate else {
                drop(slot);
                match self.refresher.refresh(prefix.as_ref()).await? {
                    // At once: others waited for the same page.
                    Refreshed::Found => found = self.refresher.check_out(prefix.as_ref()),
                    Refreshed::Busy => self.pause(&mut conflicts).await,
                    Refreshed::Empty => return self.replay_or_refuse(holder).await,
                }
                continue;
            };
            let attempt = slot
                .claim(
                    candidate.candidate(),
                    holder,
                    &guard,
                    self.terms,
                    self.clock.now(),
                )
                .await?;
            match attempt {
                ClaimOutcome::Won(sandbox) => {
                    candidate.won();
                    return Ok(Allocation::New(sandbox));
                }
                ClaimOutcome::Lost(now) => {
                    self.metrics.allocate_conflicts.inc();
                    self.drop_lost(candidate, now, &mut conflicts).await;
                }
                ClaimOutcome::Contended => {
                    self.metrics.allocate_conflicts.inc();
                    candidate.contended();
                    self.pause(&mut conflicts).await;
                }
                ClaimOutcome::Conflict => {
                    self.metrics.allocate_conflicts.inc();
                    candidate.put_back();
                    self.pause(&mut conflicts).await;
                }
                ClaimOutcome::Held(found) => {
                    candidate.put_back();
                    match self.resolve(holder, found).await? {
                        Resolved::Holds(sandbox) => return Ok(Allocation::Replayed(*sandbox)),
                        Resolved::Free(next) => {
                            // The same answer twice: somebody else is changing the claim, or nobody can read it.
                            if guard == next {
                                self.pause(&mut conflicts).await;
                            }
                            guard = next;
                        }
                    }
                }
            }
        }
    }

    async fn pause(&self, conflicts: &mut u32) {
        sleep(self.backoff.pause(*conflicts)).await;
        *conflicts += 1;
    }

    /// Nobody can have a new sandbox, but a retry must still get the one it has.
    async fn replay_or_refuse(&self, holder: &Holder) -> Result<Allocation, BrokerError> {
        let pointer = self.store.find_claim(&holder.caller, &holder.key).await?;
        match self.resolve(holder, pointer).await? {
            Resolved::Holds(sandbox) => Ok(Allocation::Replayed(*sandbox)),
            Resolved::Free(_) => Err(BrokerError::NoSandboxes),
        }
    }

    /// A candidate that was not what the index said. Pauses unless it is certain not to be proposed again at once.
    async fn drop_lost(
        &self,
        candidate: Reservation<'_>,
        now: Option<Sandbox>,
        conflicts: &mut u32,
    ) {
        match now {
            // Renamed or replaced by a sync of another broker: it can be taken under what it is called now.
            Some(sandbox) if sandbox.status == Status::Available => {
                candidate.outdated();
                let renamed = Candidate::from(&sandbox.account);
                self.refresher.candidates().add(vec![renamed]);
                self.pause(conflicts).await;
            }
            // Stale or gone: CSP may list it again. Until then the index of the table may lag behind and show it.
            None
            | Some(Sandbox {
                status: Status::Stale,
                ..
            }) => {
                candidate.outdated();
                self.pause(conflicts).await;
            }
            Some(_) => candidate.lost(),
        }
    }

    /// A claim only points; the sandbox says who holds it.
    async fn resolve(&self, holder: &Holder, found: StoredClaim) -> Result<Resolved, BrokerError> {
        let pointer = match found {
            StoredClaim::None => return Ok(Resolved::Free(ClaimPrecondition::New)),
            StoredClaim::Unreadable => return self.resolve_by_index(holder).await,
            StoredClaim::Readable(pointer) => pointer,
        };
        let leftover = Resolved::Free(ClaimPrecondition::Leftover(pointer.sandbox_id.clone()));
        let Ok(id) = SandboxId::parse(&pointer.sandbox_id) else {
            return Ok(leftover);
        };
        let Some(sandbox) = self.store.get(&id).await? else {
            return Ok(leftover);
        };
        let is_this_allocation = sandbox.status == Status::Allocated
            && sandbox.allocated_at.0 == pointer.allocated_at
            && sandbox
                .holder
                .as_ref()
                .is_some_and(|has| has.caller == holder.caller && has.key == holder.key);
        if !is_this_allocation {
            return Ok(leftover);
        }
        let now = self.clock.now();
        if sandbox.is_overdue(now, self.terms.grace) {
            // What the expiry job would do, so that the pair never holds two.
            self.store.expire(&id, sandbox.allocated_at, now).await?;
            return Ok(leftover);
        }
        Ok(Resolved::Holds(Box::new(sandbox)))
    }

    /// Without a claim to point at it, the index of callers may still know what the pair holds.
    async fn resolve_by_index(&self, holder: &Holder) -> Result<Resolved, BrokerError> {
        for known in self.store.held_by(&holder.caller).await? {
            let Some(sandbox) = self.store.get(known.id()).await? else {
                continue;
            };
            let is_held = sandbox.status == Status::Allocated
                && sandbox.is_held_by(&holder.caller, &holder.key);
            if is_held && !sandbox.is_overdue(self.clock.now(), self.terms.grace) {
                return Ok(Resolved::Holds(Box::new(sandbox)));
            }
        }
        Ok(Resolved::Free(ClaimPrecondition::Unreadable))
    }

    /// A sandbox that belongs to the caller.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::NotOwner`], [`BrokerError::Store`].
    pub async fn get(&self, id: &SandboxId, caller: &CallerId) -> Result<Sandbox, BrokerError> {
        let sandbox = self.store.get(id).await?.ok_or(BrokerError::NotFound)?;
        if sandbox.belongs_to(caller) {
            Ok(sandbox)
        } else {
            Err(BrokerError::NotOwner)
        }
    }

    /// The sandboxes that the caller holds.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn held_by(&self, caller: &CallerId) -> Result<Vec<Sandbox>, BrokerError> {
        Ok(self.store.held_by(caller).await?)
    }

    /// Gives a sandbox back; doing it again is no error.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::NotOwner`], [`BrokerError::Expired`], [`BrokerError::Store`].
    pub async fn release(&self, id: &SandboxId, caller: &CallerId) -> Result<Sandbox, BrokerError> {
        let release = self
            .store
            .release(id, caller, self.terms, self.clock.now())
            .await;
        let (outcome, released) = match release {
            Ok(Release::Released(sandbox)) => ("success", Ok(sandbox)),
            Ok(Release::Repeated(sandbox)) => ("idempotent", Ok(sandbox)),
            Ok(Release::Expired(sandbox)) => {
                let expires_at = sandbox.expires_at();
                ("expired", Err(BrokerError::Expired { expires_at }))
            }
            Ok(Release::NotOwner) => ("not_owner", Err(BrokerError::NotOwner)),
            Ok(Release::NotFound) => ("not_found", Err(BrokerError::NotFound)),
            Err(error) => ("error", Err(error.into())),
        };
        self.metrics
            .deletion_marked
            .with_label_values(&[outcome])
            .inc();
        released
    }

    /// How many sandboxes are in each state.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn stats(&self) -> Result<PoolCounts, BrokerError> {
        Ok(self.store.counts().await?)
    }

    /// A page of at most `limit` sandboxes from `start` on, of those in `status` whose id, name, lab or caller contains
    /// `text`, which is in lower case.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn list(
        &self,
        status: Option<Status>,
        limit: usize,
        start: Option<Position>,
        text: Option<String>,
    ) -> Result<Listing, BrokerError> {
        let search = text.map(|text| move |sandbox: &Sandbox| contains(sandbox, &text));
        Ok(self.store.list(status, limit, start, search).await?)
    }
}

fn contains(sandbox: &Sandbox, text: &str) -> bool {
    let holder = sandbox.holder.as_ref();
    let fields = [
        Some(sandbox.id().as_str()),
        Some(sandbox.account.name.as_str()),
        holder.map(|holder| holder.caller.as_str()),
        holder
            .and_then(|holder| holder.lab.as_ref())
            .map(LabId::as_str),
    ];
    fields
        .into_iter()
        .flatten()
        .any(|field| field.to_lowercase().contains(text))
}
