//! Allocation, and the resolution of claims.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Broker, BrokerError,
    acquire::{Acquisition, Next, Progress},
    quota::LabQuota,
};
use crate::{
    domain::{Bounds, Candidate, Holder, LabTerms, NamePrefix, Sandbox, SandboxId, Status},
    store::{
        ClaimOutcome, ClaimPrecondition, NewAllocation, Slot, StoreError, StoredClaim, StoredSlot,
    },
};

/// A request for a sandbox.
#[derive(Clone, Debug)]
pub struct AllocateRequest {
    /// The caller, its idempotency key and its lab.
    pub holder: Holder,
    /// The beginning of the sandbox's name; that of the lab if there is none.
    pub prefix: Option<NamePrefix>,
    /// The duration; that of the lab if there is none, and at most the lab's maximum.
    pub duration: Option<Duration>,
    /// The bounds of the caller's principal.
    pub bounds: Arc<Bounds>,
}

/// A sandbox that the caller holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Allocated by this request.
    New(Sandbox),
    /// Allocated by an earlier request with the same caller and key.
    Replayed(Sandbox),
}

impl Allocation {
    /// Returns the sandbox.
    #[must_use]
    pub const fn sandbox(&self) -> &Sandbox {
        let (Self::New(sandbox) | Self::Replayed(sandbox)) = self;
        sandbox
    }

    /// Refuses a replay outside of `bounds`: another principal made the earlier request.
    pub(super) fn within(self, bounds: &Bounds) -> Result<Self, BrokerError> {
        match &self {
            Self::Replayed(sandbox) if !bounds.allow_sandbox(sandbox) => {
                Err(BrokerError::NotAllowed)
            }
            _ => Ok(self),
        }
    }
}

/// The state of a (caller, key) pair's claim.
pub(super) enum ResolvedClaim {
    /// The pair holds this sandbox.
    Holds(Box<Sandbox>),
    /// The pair holds no sandbox; an allocation may overwrite the claim under this precondition.
    Free(ClaimPrecondition),
}

/// An allocation in progress.
struct AllocationAttempts<'a> {
    broker: &'a Broker,
    holder: &'a Holder,
    prefix: Option<&'a NamePrefix>,
    terms: &'a LabTerms,
    wanted: Option<Duration>,
    precondition: ClaimPrecondition,
    quota: Option<LabQuota<'a>>,
}

impl Acquisition for AllocationAttempts<'_> {
    type Refusal = StoredClaim;

    fn prefix(&self) -> Option<&NamePrefix> {
        self.prefix
    }

    async fn prepare(&mut self) -> Result<Option<BrokerError>, BrokerError> {
        match &mut self.quota {
            Some(quota) => quota.reserve().await,
            None => Ok(None),
        }
    }

    async fn attempt(
        &mut self,
        slot: Slot<'_>,
        candidate: &Candidate,
    ) -> Result<ClaimOutcome<StoredClaim>, StoreError> {
        let allocation = NewAllocation {
            holder: self.holder,
            name_prefix: self.prefix,
            replaces: None,
            at: self.broker.clock.now(),
            duration: self.terms.duration(self.wanted),
            grace: self.broker.terms.grace,
            quota: self.quota.as_ref().and_then(LabQuota::slot),
        };
        let attempt = slot
            .claim(candidate, allocation, &self.precondition)
            .await?;
        if let (ClaimOutcome::Won(sandbox), Some(quota)) = (&attempt, &mut self.quota) {
            quota.took(sandbox);
        }
        Ok(attempt)
    }

    fn lost_quota_slot(&mut self, stored: Option<StoredSlot>) {
        if let Some(quota) = &mut self.quota {
            quota.found(stored);
        }
    }

    async fn resolve(&mut self, refusal: StoredClaim) -> Result<Next, BrokerError> {
        Ok(match self.broker.follow(self.holder, refusal).await? {
            ResolvedClaim::Holds(sandbox) => Next::Replay(sandbox),
            // It failed before: another request is changing the claim, or the claim is unreadable.
            ResolvedClaim::Free(next) if next == self.precondition => Next::RetryLater,
            ResolvedClaim::Free(next) => {
                self.precondition = next;
                Next::Retry
            }
        })
    }

    async fn replay_or(&mut self, refusal: BrokerError) -> Result<Sandbox, BrokerError> {
        self.broker.current(self.holder).await?.ok_or(refusal)
    }
}

impl Broker {
    /// Allocates a sandbox to the caller, or returns the one that it already holds under this key.
    ///
    /// # Errors
    /// [`BrokerError::NoSandboxes`], [`BrokerError::LabQuotaReached`], [`BrokerError::Paused`],
    /// [`BrokerError::OutOfBounds`], [`BrokerError::NotAllowed`] if the caller already holds one outside of its bounds,
    /// [`BrokerError::Contended`], [`BrokerError::Store`]. After the last two the caller may hold a sandbox nevertheless;
    /// repeating the request returns it.
    pub async fn allocate(&self, request: &AllocateRequest) -> Result<Allocation, BrokerError> {
        let began = Instant::now();
        let progress = Progress::default();
        let allocation = self.allocate_without_timeout(request, &progress);
        let allocation = self
            .in_time(&progress, Box::pin(allocation))
            .await
            .and_then(|allocation| allocation.within(&request.bounds));
        let outcome = match &allocation {
            Ok(Allocation::New(_)) => "success",
            Ok(Allocation::Replayed(_)) => {
                self.metrics.idempotent_hits.inc();
                "idempotent"
            }
            Err(BrokerError::NoSandboxes) => "no_sandboxes",
            Err(BrokerError::LabQuotaReached { .. }) => "lab_quota",
            Err(BrokerError::Paused { .. }) => "paused",
            Err(BrokerError::NotAllowed | BrokerError::OutOfBounds(_)) => "lab_not_allowed",
            Err(_) => "error",
        };
        self.metrics.allocate.with_label_values(&[outcome]).inc();
        self.metrics
            .allocation_latency
            .with_label_values(&[outcome])
            .observe(began.elapsed().as_secs_f64());
        allocation
    }

    async fn allocate_without_timeout(
        &self,
        request: &AllocateRequest,
        progress: &Progress,
    ) -> Result<Allocation, BrokerError> {
        let holder = &request.holder;
        let lab = holder.lab.as_ref();
        let (policy, number) = self.policy.current_numbered();
        let terms = policy.terms_of(lab);
        let (requested, of_lab) = (request.prefix.as_ref(), terms.name_prefix.as_ref());
        let prefix = request.bounds.prefix_within(lab, requested, of_lab);
        let prefix = prefix.map_err(BrokerError::OutOfBounds)?;
        let allocation = AllocationAttempts {
            broker: self,
            holder,
            prefix,
            terms: &terms,
            wanted: request.duration,
            precondition: ClaimPrecondition::New,
            quota: self.quotas.of(lab, &terms, number),
        };
        self.acquire(allocation, progress).await
    }

    /// Returns the sandbox that a pair holds.
    pub(super) async fn current(&self, holder: &Holder) -> Result<Option<Sandbox>, BrokerError> {
        let mut leftover = None;
        loop {
            let claim = self.store.find_claim(&holder.caller, &holder.key).await?;
            match self.follow(holder, claim).await? {
                ResolvedClaim::Holds(sandbox) => return Ok(Some(*sandbox)),
                // A replacement may have moved the claim before the sandbox was read, so the claim is read again.
                ResolvedClaim::Free(free @ ClaimPrecondition::Leftover(_))
                    if leftover.as_ref() != Some(&free) =>
                {
                    leftover = Some(free);
                }
                ResolvedClaim::Free(_) => return Ok(None),
            }
        }
    }

    /// Follows a claim to its sandbox. The claim is only a pointer; the sandbox item decides about its holder.
    pub(super) async fn follow(
        &self,
        holder: &Holder,
        claim: StoredClaim,
    ) -> Result<ResolvedClaim, BrokerError> {
        let pointer = match claim {
            StoredClaim::None => return Ok(ResolvedClaim::Free(ClaimPrecondition::New)),
            StoredClaim::Unreadable => return self.resolve_by_index(holder).await,
            StoredClaim::Readable(pointer) => pointer,
        };
        let id = SandboxId::stored(pointer.sandbox_id);
        let is_pointed_to = |sandbox: &Sandbox| {
            sandbox.allocated_at.0 == pointer.allocated_at
                && sandbox.is_held_by(&holder.caller, &holder.key)
        };
        Ok(match self.held(&id, is_pointed_to).await? {
            Some(sandbox) => ResolvedClaim::Holds(Box::new(sandbox)),
            None => ResolvedClaim::Free(ClaimPrecondition::Leftover(id.to_string())),
        })
    }

    /// Finds the sandbox of a pair whose claim is unreadable through the table's index of callers.
    async fn resolve_by_index(&self, holder: &Holder) -> Result<ResolvedClaim, BrokerError> {
        let is_theirs = |sandbox: &Sandbox| sandbox.is_held_by(&holder.caller, &holder.key);
        for known in self.store.held_by(&holder.caller).await? {
            if let Some(sandbox) = self.held(known.id(), is_theirs).await? {
                return Ok(ResolvedClaim::Holds(Box::new(sandbox)));
            }
        }
        Ok(ResolvedClaim::Free(ClaimPrecondition::Unreadable))
    }

    /// Returns the sandbox if it is allocated as `is_meant` requires. An overdue allocation is retired, as auto-expire
    /// would do it, before its pair receives another sandbox.
    async fn held(
        &self,
        id: &SandboxId,
        is_meant: impl Fn(&Sandbox) -> bool,
    ) -> Result<Option<Sandbox>, BrokerError> {
        loop {
            let sandbox = self.store.get(id).await?;
            let is_held =
                |sandbox: &Sandbox| sandbox.status == Status::Allocated && is_meant(sandbox);
            let Some(sandbox) = sandbox.filter(is_held) else {
                return Ok(None);
            };
            let now = self.clock.now();
            if !sandbox.is_overdue(now, self.terms.grace) {
                return Ok(Some(sandbox));
            }
            if self.store.expire(&sandbox, now).await? {
                return Ok(None);
            }
            // Another writer has retired it since, or an operator has extended it: then the pair still holds it.
        }
    }
}
