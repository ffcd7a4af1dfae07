//! Replacement: the holder of a broken sandbox receives another one under the same claim.

use std::{sync::Arc, time::Duration};

use super::{
    Allocation, Broker, BrokerError,
    acquire::{Acquisition, Next, Progress},
    allocate::ResolvedClaim,
};
use crate::{
    clock::UnixSeconds,
    domain::{
        Bounds, CallerId, Candidate, Holder, LabTerms, NamePrefix, Principal, Reason, Sandbox,
        SandboxId, Status,
    },
    store::{
        AllocationRef, ClaimOutcome, ClaimPrecondition, NewAllocation, NewReplacement, QuotaSlot,
        ReplacedClaim, ReplacementRefusal, Slot, StoreError, StoredClaim, StoredSlot,
    },
};

/// A request to replace a sandbox.
#[derive(Clone, Debug)]
pub struct ReplaceRequest {
    /// The sandbox to be replaced.
    pub id: SandboxId,
    /// The caller, who must be its holder or its last one.
    pub caller: CallerId,
    /// The principal of the request, which the sandbox must be within the bounds of.
    pub principal: Principal,
    /// Why, in the words of the holder.
    pub reason: Reason,
}

/// The sandbox that a request names, whose holder or last holder is its caller.
enum Old {
    /// The caller holds it.
    Held(Box<Sandbox>, Holder),
    /// The caller's allocation has ended, and the sandbox may have been deleted.
    Ended(Holder),
}

/// A replacement in progress.
struct ReplacementAttempts<'a> {
    broker: &'a Broker,
    request: &'a ReplaceRequest,
    old: Sandbox,
    holder: Holder,
    prefix: Option<NamePrefix>,
    terms: &'a LabTerms,
    claim: ReplacedClaim,
    /// The slot of the lab's quota that the old allocation has, with that allocation.
    slot: Option<(u32, AllocationRef)>,
}

impl ReplacementAttempts<'_> {
    /// Returns whether a sandbox is still the old one in the same allocation.
    fn is_still_held(&self, stored: &Sandbox) -> bool {
        stored.status == Status::Allocated
            && stored.allocated_at == self.old.allocated_at
            && stored.is_held_by(&self.holder.caller, &self.holder.key)
    }

    /// Continues with the old sandbox and the claim as they were read last. If both are as before, other requests are
    /// changing them, and the next attempt waits.
    fn retry(&mut self, old: Sandbox, claim: ReplacedClaim) -> Next {
        let is_known = old == self.old && claim == self.claim;
        (self.old, self.claim) = (old, claim);
        if is_known {
            Next::RetryLater
        } else {
            Next::Retry
        }
    }
}

impl Acquisition for ReplacementAttempts<'_> {
    type Refusal = ReplacementRefusal;

    fn prefix(&self) -> Option<&NamePrefix> {
        self.prefix.as_ref()
    }

    /// A replacement needs no free slot of a quota: it keeps the one that the old allocation has.
    async fn prepare(&mut self) -> Result<Option<BrokerError>, BrokerError> {
        Ok(None)
    }

    async fn attempt(
        &mut self,
        slot: Slot<'_>,
        candidate: &Candidate,
    ) -> Result<ClaimOutcome<ReplacementRefusal>, StoreError> {
        let (old, now) = (&self.old, self.broker.clock.now());
        // An index that does not know of its allocation may propose the old sandbox itself, and no transaction names an
        // item twice.
        if candidate.id == *old.id() {
            return Ok(ClaimOutcome::Lost(Some(old.clone())));
        }
        let lab = self.holder.lab.as_ref();
        let quota = self.slot.as_ref().zip(lab).map(|(slot, lab)| QuotaSlot {
            lab,
            number: slot.0,
            leftover: Some(&slot.1),
        });
        let allocation = NewAllocation {
            holder: &self.holder,
            name_prefix: self.prefix.as_ref(),
            replaces: Some(old.id()),
            at: now,
            duration: duration(old, now, self.terms),
            grace: self.broker.terms.grace,
            quota,
        };
        let replacement = NewReplacement {
            old,
            allocation,
            replaced: self.terms.replaced,
            max_replacements: self.terms.max_replacements,
            reason: &self.request.reason,
            by: &self.request.principal.name,
        };
        slot.replace(candidate, replacement, &self.claim).await
    }

    /// Another allocation has the slot, so the new allocation has none, as one from before the quota.
    fn lost_quota_slot(&mut self, _stored: Option<StoredSlot>) {
        self.slot = None;
    }

    async fn resolve(&mut self, refusal: ReplacementRefusal) -> Result<Next, BrokerError> {
        let claim = match refusal {
            ReplacementRefusal::LimitReached => return Err(limit_reached(self.terms)),
            ReplacementRefusal::Old(stored) => {
                if let Some(extended) = stored.filter(|stored| self.is_still_held(stored)) {
                    return Ok(self.retry(*extended, self.claim.clone()));
                }
                let current = self.broker.current_after_end(&self.holder).await?;
                return Ok(Next::Replay(Box::new(current)));
            }
            ReplacementRefusal::Claim(stored) => stored,
        };
        let expected = if claim.points_to(&self.old) {
            ReplacedClaim::PointsToOld
        } else if claim == StoredClaim::Unreadable {
            ReplacedClaim::Other(ClaimPrecondition::Unreadable)
        } else {
            match self.broker.follow(&self.holder, claim).await? {
                ResolvedClaim::Holds(other) => return Ok(Next::Replay(other)),
                ResolvedClaim::Free(precondition) => ReplacedClaim::Other(precondition),
            }
        };
        Ok(self.retry(self.old.clone(), expected))
    }

    /// The old sandbox stays with its holder, unless another request has replaced it since it was read.
    async fn replay_or(&mut self, refusal: BrokerError) -> Result<Sandbox, BrokerError> {
        let stored = self.broker.store.get(self.old.id()).await?;
        if stored.is_some_and(|stored| self.is_still_held(&stored)) {
            return Err(refusal);
        }
        self.broker.current_after_end(&self.holder).await
    }
}

impl Broker {
    /// Replaces a sandbox that the caller holds by another one: a repeated request returns the one that the caller holds
    /// now. If the replacement is refused, the caller keeps the sandbox.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::NotOwner`], [`BrokerError::NotAllowed`], [`BrokerError::Expired`],
    /// [`BrokerError::Ended`], [`BrokerError::ReplacementLimit`], [`BrokerError::NoSandboxes`], [`BrokerError::Paused`],
    /// [`BrokerError::Contended`], [`BrokerError::Store`]. After the last two the sandbox may have been replaced
    /// nevertheless; repeating the request returns the new one.
    pub async fn replace(&self, request: &ReplaceRequest) -> Result<Allocation, BrokerError> {
        let progress = Progress::default();
        let replaced = self.replace_without_timeout(request, &progress);
        let replaced = self
            .in_time(&progress, Box::pin(replaced))
            .await
            .and_then(|allocation| allocation.within(&request.principal.bounds));
        let outcome = match &replaced {
            Ok(Allocation::New(_)) => "success",
            Ok(Allocation::Replayed(_)) => "idempotent",
            Err(BrokerError::NoSandboxes) => "no_sandboxes",
            Err(BrokerError::ReplacementLimit { .. }) => "limit",
            Err(BrokerError::Paused { .. }) => "paused",
            Err(BrokerError::Expired { .. } | BrokerError::Ended { .. }) => "expired",
            Err(BrokerError::NotOwner) => "not_owner",
            Err(BrokerError::NotAllowed) => "lab_not_allowed",
            Err(BrokerError::NotFound) => "not_found",
            Err(_) => "error",
        };
        let replacements = &self.metrics.replacements;
        replacements.with_label_values(&[outcome]).inc();
        replaced
    }

    async fn replace_without_timeout(
        &self,
        request: &ReplaceRequest,
        progress: &Progress,
    ) -> Result<Allocation, BrokerError> {
        let (old, holder) = match progress.of_store(self.find_old(request)).await? {
            Old::Held(old, holder) => (*old, holder),
            Old::Ended(holder) => {
                let current = self.current_after_end(&holder);
                return progress.of_store(current).await.map(Allocation::Replayed);
            }
        };
        let terms = self.policy.current().terms_of(holder.lab.as_ref());
        if terms.max_replacements == 0 {
            return Err(limit_reached(&terms));
        }
        let slot = old.lease.quota_slot;
        let slot = slot.map(|number| (number, AllocationRef::of(&old)));
        let replacement = ReplacementAttempts {
            broker: self,
            request,
            prefix: prefix(&old, &terms, &request.principal.bounds),
            old,
            holder,
            terms: &terms,
            claim: ReplacedClaim::PointsToOld,
            slot,
        };
        self.acquire(replacement, progress).await
    }

    /// Finds the sandbox to be replaced, or what is left of it.
    async fn find_old(&self, request: &ReplaceRequest) -> Result<Old, BrokerError> {
        let ReplaceRequest { id, caller, .. } = request;
        let old = match self.get(id, caller, &request.principal.bounds).await {
            Err(BrokerError::NotFound) => {
                let tombstone = self.store.find_tombstone(id).await?;
                let holder = tombstone
                    .and_then(|tombstone| tombstone.last_holder())
                    .filter(|holder| &holder.caller == caller);
                return holder.map(Old::Ended).ok_or(BrokerError::NotFound);
            }
            old => old?,
        };
        let holder = old.holder.clone().ok_or(BrokerError::NotOwner)?;
        if old.status != Status::Allocated {
            Ok(Old::Ended(holder))
        } else if old.is_overdue(self.clock.now(), self.terms.grace) {
            let expires_at = old.expires_at;
            Err(BrokerError::Expired { expires_at })
        } else {
            Ok(Old::Held(Box::new(old), holder))
        }
    }

    /// Returns the sandbox that a pair holds now in place of one whose allocation has ended.
    async fn current_after_end(&self, holder: &Holder) -> Result<Sandbox, BrokerError> {
        let current = self.current(holder).await?;
        current.ok_or(BrokerError::Ended { replaced_by: None })
    }
}

fn limit_reached(terms: &LabTerms) -> BrokerError {
    BrokerError::ReplacementLimit {
        permitted: terms.max_replacements,
    }
}

/// Returns the duration of the new allocation: the lab's, because the holder starts over, but at least until the end of
/// the old one, because an answered extension holds.
fn duration(old: &Sandbox, now: UnixSeconds, terms: &LabTerms) -> Duration {
    let left = old.expires_at.map_or(0, |end| end.0.saturating_sub(now.0));
    let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
    terms.duration(None).max(left)
}

/// Returns the name prefix of the new sandbox: that of the old allocation, or else, because earlier versions did not store
/// it, that of the lab. Where the principal is not permitted it, it is the bound that the old sandbox is within.
fn prefix(old: &Sandbox, terms: &LabTerms, bounds: &Bounds) -> Option<NamePrefix> {
    let of_allocation = old.lease.name_prefix.as_deref().map(NamePrefix::stored);
    let prefix = of_allocation.or_else(|| terms.name_prefix.clone());
    if bounds.allow_prefix(prefix.as_ref()) {
        return prefix;
    }
    let mut permitted = bounds.name_prefixes.iter();
    let name = &old.account.name;
    permitted
        .find(|permitted| name.starts_with(permitted.as_str()))
        .map(|permitted| NamePrefix::stored(Arc::from(permitted.as_str())))
}
