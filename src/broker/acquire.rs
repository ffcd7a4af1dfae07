//! The loop over candidates that allocations and replacements share.

use std::{sync::Mutex, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Allocation, Broker, BrokerError,
    candidates::{Outcome, Reservation},
    refresher::Refreshed,
};
use crate::{
    clock::UnixSeconds,
    domain::{Activity, Candidate, NamePrefix, Pause, Sandbox, Status},
    shared::lock,
    store::{ClaimOutcome, Slot, StoreError, StoredSlot},
};

/// A call to the database that is outstanding for this long counts as the reason for a time-out. Most calls take
/// milliseconds.
const SLOW_CALL: Duration = Duration::from_secs(1);

/// A request that takes a candidate: an allocation or a replacement.
pub(super) trait Acquisition {
    /// Why an attempt was refused, if the candidate was not the reason.
    type Refusal;

    /// Returns the beginning of the sandbox's name.
    fn prefix(&self) -> Option<&NamePrefix>;

    /// Prepares the next attempt, before it takes a slot for a call and a candidate. Returns why the request must not take
    /// a candidate, if so.
    async fn prepare(&mut self) -> Result<Option<BrokerError>, BrokerError>;

    /// Tries to take `candidate`, in one call to the database.
    async fn attempt(
        &mut self,
        slot: Slot<'_>,
        candidate: &Candidate,
    ) -> Result<ClaimOutcome<Self::Refusal>, StoreError>;

    /// Notes what an attempt has found in the slot of the lab's quota, which another request has written.
    fn lost_quota_slot(&mut self, stored: Option<StoredSlot>);

    /// Reads why an attempt was refused.
    async fn resolve(&mut self, refusal: Self::Refusal) -> Result<Next, BrokerError>;

    /// Returns the sandbox that an earlier request has taken for the same pair, or else `refusal`, the reason why this one
    /// takes no candidate.
    async fn replay_or(&mut self, refusal: BrokerError) -> Result<Sandbox, BrokerError>;
}

/// The step after a refused attempt.
pub(super) enum Next {
    /// No other attempt: the pair holds this sandbox since an earlier request.
    Replay(Box<Sandbox>),
    /// Another attempt, which has a chance at once.
    Retry,
    /// Another attempt after a pause, because other requests write the same items.
    RetryLater,
}

/// The progress of a request, from which the reason for its time-out is known.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Since when a call to the database, or a slot for one, is outstanding.
    for_store_since: Option<Instant>,
    /// Whether the last attempt was lost to another request.
    is_contended: bool,
}

impl Progress {
    /// Awaits an answer of the database.
    pub(super) async fn of_store<T>(&self, call: impl Future<Output = T>) -> T {
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
    /// Awaits the answer to a request until the time-out of allocations.
    pub(super) async fn in_time<T>(
        &self,
        progress: &Progress,
        answer: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let limit = self.allocation.timeout;
        timeout(limit, answer)
            .await
            .unwrap_or_else(|_| Err(progress.timed_out(limit)))
    }

    /// Tries candidates until the request has its answer.
    pub(super) async fn acquire(
        &self,
        mut request: impl Acquisition,
        progress: &Progress,
    ) -> Result<Allocation, BrokerError> {
        let mut conflicts = 0;
        let mut found = None;
        let refusal = loop {
            // Before each attempt, because a pause also stops the requests that wait for a sandbox.
            if let Some(pause) = self.pauses.of(Activity::Allocations) {
                break self.paused(pause);
            }
            if let Some(refusal) = progress.of_store(request.prepare()).await? {
                break refusal;
            }
            let slot = progress.of_store(self.store.slot()).await;
            // Reserved only with a slot: a candidate that waits for one is withheld from other requests and gets stale.
            let reservation = found
                .take()
                .or_else(|| self.refresher.reserve(request.prefix()));
            let Some(reservation) = reservation else {
                drop(slot);
                let refresh = self.refresher.refresh(request.prefix());
                match progress.of_store(refresh).await? {
                    // Reserved before the wait for a slot, because other requests waited for the same page.
                    Refreshed::Found => found = self.refresher.reserve(request.prefix()),
                    Refreshed::Busy => self.pause(&mut conflicts).await,
                    Refreshed::Empty => break BrokerError::NoSandboxes,
                }
                continue;
            };
            let attempt = request.attempt(slot, reservation.candidate());
            let attempt = progress.of_store(attempt).await?;
            let was_lost = matches!(
                attempt,
                ClaimOutcome::Lost(_)
                    | ClaimOutcome::QuotaSlot(_)
                    | ClaimOutcome::Contended
                    | ClaimOutcome::Conflict
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
                ClaimOutcome::QuotaSlot(stored) => {
                    reservation.end(Outcome::Unused);
                    request.lost_quota_slot(stored);
                }
                ClaimOutcome::Refused(refusal) => {
                    reservation.end(Outcome::Unused);
                    match progress.of_store(request.resolve(refusal)).await? {
                        Next::Replay(sandbox) => return Ok(Allocation::Replayed(*sandbox)),
                        Next::Retry => {}
                        Next::RetryLater => self.pause(&mut conflicts).await,
                    }
                }
            }
        };
        let replay = request.replay_or(refusal);
        progress.of_store(replay).await.map(Allocation::Replayed)
    }

    async fn pause(&self, conflicts: &mut u32) {
        sleep(self.backoff.pause(*conflicts)).await;
        *conflicts += 1;
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
            // A check may find it usable, CSP may list it again, or its quarantine may end. Until then the secondary index of the table may lag
            // behind and return it.
            None
            | Some(Sandbox {
                status: Status::Provisioning | Status::Stale | Status::Quarantined,
                ..
            }) => {
                reservation.end(Outcome::Stale);
                self.pause(conflicts).await;
            }
            Some(_) => reservation.end(Outcome::TakenByOther),
        }
    }
}
