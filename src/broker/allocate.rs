//! Allocation: the loop over candidates, and the resolution of claims.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Broker, BrokerError,
    candidates::{Outcome, Reservation},
    refresher::Refreshed,
};
use crate::{
    clock::UnixSeconds,
    domain::{Activity, Bounds, Candidate, Holder, NamePrefix, Pause, Sandbox, SandboxId, Status},
    shared::lock,
    store::{ClaimOutcome, ClaimPrecondition, NewAllocation, StoreError, StoredClaim},
};

/// A call to the database that is outstanding for this long counts as the reason for a time-out. Most calls take
/// milliseconds.
const SLOW_CALL: Duration = Duration::from_secs(1);

/// A request for a sandbox.
#[derive(Clone, Debug)]
pub struct AllocateRequest {
    /// The caller, its idempotency key and its lab.
    pub holder: Holder,
    /// The beginning of the sandbox's name.
    pub prefix: Option<NamePrefix>,
    /// The bounds of the caller's principal, which the lab and the prefix are within.
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
    /// Refuses a replay outside of `bounds`: another principal made the earlier request.
    fn within(self, bounds: &Bounds) -> Result<Self, BrokerError> {
        match &self {
            Self::Replayed(sandbox) if !bounds.allow_sandbox(sandbox) => {
                Err(BrokerError::NotAllowed)
            }
            _ => Ok(self),
        }
    }
}

/// The state of a (caller, key) pair's claim.
enum ResolvedClaim {
    /// The pair holds this sandbox.
    Holds(Box<Sandbox>),
    /// The pair holds no sandbox; an allocation may overwrite the claim under this precondition.
    Free(ClaimPrecondition),
}

/// The progress of a request, from which the reason for its time-out is known.
#[derive(Debug, Default)]
struct Progress(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Since when a call to the database, or a slot for one, is outstanding.
    for_store_since: Option<Instant>,
    /// Whether the last attempt was lost to another request.
    is_contended: bool,
}

impl Progress {
    /// Awaits an answer of the database.
    async fn of_store<T>(&self, call: impl Future<Output = T>) -> T {
        lock(&self.0).for_store_since = Some(Instant::now());
        let answer = call.await;
        lock(&self.0).for_store_since = None;
        answer
    }

    fn attempt_ended(&self, was_lost: bool) {
        lock(&self.0).is_contended = was_lost;
    }

    /// Returns the error of a request whose time is over.
    fn timed_out(&self, timeout: Duration) -> BrokerError {
        let waiting = lock(&self.0);
        let is_slow = |since: Instant| since.elapsed() >= SLOW_CALL.min(timeout / 2);
        if waiting.is_contended && !waiting.for_store_since.is_some_and(is_slow) {
            BrokerError::Contended
        } else {
            StoreError::timed_out("allocation").into()
        }
    }
}

impl Broker {
    /// Allocates a sandbox to the caller, or returns the one that it already holds under this key.
    ///
    /// # Errors
    /// [`BrokerError::NoSandboxes`], [`BrokerError::Paused`], [`BrokerError::NotAllowed`] if the caller already holds one
    /// outside of its bounds, [`BrokerError::Contended`], [`BrokerError::Store`]. After the last two the caller may hold a
    /// sandbox nevertheless; repeating the request returns it.
    pub async fn allocate(&self, request: &AllocateRequest) -> Result<Allocation, BrokerError> {
        let (began, timeout) = (Instant::now(), self.allocation.timeout);
        let progress = Progress::default();
        let allocation = timeout_at(
            began + timeout,
            self.allocate_without_timeout(request, &progress),
        )
        .await
        .unwrap_or_else(|_| Err(progress.timed_out(timeout)))
        .and_then(|allocation| allocation.within(&request.bounds));
        let outcome = match &allocation {
            Ok(Allocation::New(_)) => "success",
            Ok(Allocation::Replayed(_)) => {
                self.metrics.idempotent_hits.inc();
                "idempotent"
            }
            Err(BrokerError::NoSandboxes) => "no_sandboxes",
            Err(BrokerError::Paused { .. }) => "paused",
            Err(BrokerError::NotAllowed) => "lab_not_allowed",
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
        let AllocateRequest { holder, prefix, .. } = request;
        let terms = self.policy.current().terms_of(holder.lab.as_ref());
        let prefix = prefix.as_ref().or(terms.name_prefix.as_ref());
        let mut precondition = ClaimPrecondition::New;
        let mut conflicts = 0;
        let mut found = None;
        loop {
            // Before each attempt, because a pause also stops the requests that wait for a sandbox.
            if let Some(pause) = self.pauses.of(Activity::Allocations) {
                let refusal = self.paused(pause);
                return progress.of_store(self.replay_or(refusal, holder)).await;
            }
            let slot = progress.of_store(self.store.slot()).await;
            // Reserved only with a slot: a candidate that waits for one is withheld from other requests and gets stale.
            let reservation = found.take().or_else(|| self.refresher.reserve(prefix));
            let Some(reservation) = reservation else {
                drop(slot);
                let refresh = self.refresher.refresh(prefix);
                match progress.of_store(refresh).await? {
                    // Reserved before the wait for a slot, because other requests waited for the same page.
                    Refreshed::Found => found = self.refresher.reserve(prefix),
                    Refreshed::Busy => self.pause(&mut conflicts).await,
                    Refreshed::Empty => {
                        let refusal = BrokerError::NoSandboxes;
                        return progress.of_store(self.replay_or(refusal, holder)).await;
                    }
                }
                continue;
            };
            let allocation = NewAllocation {
                holder,
                name_prefix: prefix,
                at: self.clock.now(),
                duration: terms.duration(None),
                grace: self.terms.grace,
            };
            let claim = slot.claim(reservation.candidate(), allocation, &precondition);
            let attempt = progress.of_store(claim).await?;
            let was_lost = matches!(
                attempt,
                ClaimOutcome::Lost(_) | ClaimOutcome::Contended | ClaimOutcome::Conflict
            );
            progress.attempt_ended(was_lost);
            if was_lost {
                self.metrics.allocate_conflicts.inc();
            }
            match attempt {
                ClaimOutcome::Won(sandbox) => {
                    reservation.end(Outcome::Consumed);
                    return Ok(Allocation::New(sandbox));
                }
                ClaimOutcome::Lost(now) => self.end_stale(reservation, now, &mut conflicts).await,
                ClaimOutcome::Contended => {
                    reservation.end(Outcome::Contended);
                    self.pause(&mut conflicts).await;
                }
                ClaimOutcome::Conflict | ClaimOutcome::Busy => {
                    reservation.end(Outcome::Unused);
                    self.pause(&mut conflicts).await;
                }
                ClaimOutcome::Held(claim) => {
                    reservation.end(Outcome::Unused);
                    match progress.of_store(self.resolve(holder, claim)).await? {
                        ResolvedClaim::Holds(sandbox) => return Ok(Allocation::Replayed(*sandbox)),
                        ResolvedClaim::Free(next) => {
                            // It failed before: another request is changing the claim, or the claim is unreadable.
                            if precondition == next {
                                self.pause(&mut conflicts).await;
                            }
                            precondition = next;
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

    /// Answers a request that allocates no sandbox. A retry still gets the sandbox that its caller holds.
    async fn replay_or(
        &self,
        refusal: BrokerError,
        holder: &Holder,
    ) -> Result<Allocation, BrokerError> {
        let claim = self.store.find_claim(&holder.caller, &holder.key).await?;
        match self.resolve(holder, claim).await? {
            ResolvedClaim::Holds(sandbox) => Ok(Allocation::Replayed(*sandbox)),
            ResolvedClaim::Free(_) => Err(refusal),
        }
    }

    fn paused(&self, pause: Pause) -> BrokerError {
        let now = self.clock.now();
        let span = |until: UnixSeconds| u64::try_from(until.0 - now.0).unwrap_or(0);
        BrokerError::Paused {
            reason: pause.reason,
            ends_in: pause.until.map(|until| Duration::from_secs(span(until))),
        }
    }

    /// Ends the reservation of a candidate that differs from its sandbox in the table, which is `now`. Pauses if the
    /// index may propose the same sandbox to the next attempt.
    async fn end_stale(
        &self,
        reservation: Reservation<'_>,
        now: Option<Sandbox>,
        conflicts: &mut u32,
    ) {
        match now {
            // A sync of another broker renamed or replaced the account: it is a candidate under its new name.
            Some(sandbox) if sandbox.status == Status::Available => {
                reservation.end(Outcome::Stale);
                let renamed = Candidate::from(&sandbox.account);
                self.refresher.candidates().add(vec![renamed]);
                self.pause(conflicts).await;
            }
            // CSP may list it again, or its quarantine may end. Until then the secondary index of the table may lag
            // behind and return it.
            None
            | Some(Sandbox {
                status: Status::Stale | Status::Quarantined,
                ..
            }) => {
                reservation.end(Outcome::Stale);
                self.pause(conflicts).await;
            }
            Some(_) => reservation.end(Outcome::TakenByOther),
        }
    }

    /// Follows a claim to its sandbox. The claim is only a pointer; the sandbox item decides about its holder.
    async fn resolve(
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
