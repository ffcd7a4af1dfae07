//! The in-memory index of sandboxes that may be available.
//!
//! The index only proposes; the conditional write of an allocation decides. A stale candidate costs one wasted attempt,
//! never a wrong allocation, and a missing one costs a scan of the table, never a rejection.

mod consumed;
mod free;
mod reservation;
mod ring;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use rand::{SeedableRng, rngs::SmallRng};
use tokio::{sync::Notify, time::Instant};

pub use self::reservation::{Outcome, Reservation};
use self::{
    consumed::ConsumedIds,
    free::FreeCandidates,
    ring::{Anchor, RingPosition},
};
use crate::{
    domain::{Candidate, NamePrefix, SandboxId},
    shared::lock,
};

/// One scan of the available sandboxes in the table, from the first page on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    number: u64,
    began: Instant,
}

/// How many sandboxes of a page match a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageMatches {
    /// Matches that can be reserved now.
    pub free: usize,
    /// Matches that a request of this process has reserved.
    pub reserved: usize,
}

/// The candidate index of one broker.
#[derive(Debug)]
pub struct CandidateIndex {
    inner: Mutex<Inner>,
    /// Notified when candidates were added.
    added: Notify,
    capacity: usize,
}

#[derive(Debug)]
struct Inner {
    free: FreeCandidates,
    reserved: HashMap<SandboxId, Arc<Candidate>>,
    consumed: ConsumedIds,
    anchor: Anchor,
    /// The number of the last scan that began.
    scan: u64,
    /// Whether a sandbox that may be available has been left out since the last scan began.
    has_left_out: bool,
    /// When the last complete scan began, while no sandbox that it returned has been left out.
    complete_since: Option<Instant>,
    stale_hits: usize,
    rng: SmallRng,
}

impl Inner {
    fn mark_incomplete(&mut self) {
        self.has_left_out = true;
        self.complete_since = None;
    }
}

impl CandidateIndex {
    /// Creates an empty index of at most `capacity` candidates. `seed` decides the order in which they are reserved.
    #[must_use]
    pub fn new(capacity: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        Self {
            inner: Mutex::new(Inner {
                free: FreeCandidates::default(),
                reserved: HashMap::new(),
                consumed: ConsumedIds::default(),
                anchor: Anchor::new(&mut rng),
                scan: 0,
                has_left_out: true,
                complete_since: None,
                stale_hits: 0,
                rng,
            }),
            added: Notify::new(),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Reserves the candidate with the prefix that is nearest to this broker's anchor.
    #[must_use]
    pub fn reserve(&self, prefix: Option<&NamePrefix>) -> Option<Reservation<'_>> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let position = inner.free.nearest(&inner.anchor, prefix)?;
        let candidate = inner.free.remove(position)?;
        inner
            .reserved
            .insert(candidate.id.clone(), Arc::clone(&candidate));
        Some(Reservation {
            index: self,
            candidate,
            attempt: inner.anchor.begin_attempt(position),
            outcome: None,
        })
    }

    fn end_reservation(&self, reservation: &Reservation<'_>) {
        let candidate = &reservation.candidate;
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.reserved.remove(&candidate.id);
        if !matches!(
            reservation.outcome,
            Some(Outcome::Consumed | Outcome::Unused)
        ) {
            inner
                .anchor
                .record_conflict(reservation.attempt, &mut inner.rng);
        }
        match reservation.outcome {
            Some(Outcome::Consumed) => {
                inner.consumed.insert(candidate.id.clone(), self.capacity);
            }
            Some(Outcome::TakenByOther) => {
                inner.stale_hits += 1;
                inner.consumed.insert(candidate.id.clone(), self.capacity);
            }
            Some(Outcome::Stale) => {
                inner.stale_hits += 1;
                inner.mark_incomplete();
            }
            Some(Outcome::Contended | Outcome::Unused) => {
                // A scan that is under way may have read its page while it was reserved.
                inner.free.insert(Arc::clone(candidate), inner.scan + 1);
                drop(guard);
                self.added.notify_waiters();
            }
            None => inner.mark_incomplete(),
        }
    }

    /// Waits until there is a candidate with the prefix.
    pub async fn wait_for_match(&self, prefix: Option<&NamePrefix>) {
        loop {
            // Created before the check, so that no candidate added after it is missed.
            let added = self.added.notified();
            if self.has_match(prefix) {
                return;
            }
            added.await;
        }
    }

    /// Whether a candidate with the prefix can be reserved.
    #[must_use]
    pub fn has_match(&self, prefix: Option<&NamePrefix>) -> bool {
        self.lock().free.has_match(prefix)
    }

    /// The number of candidates with the prefix that can be reserved.
    #[must_use]
    pub fn count_matches(&self, prefix: Option<&NamePrefix>) -> usize {
        let inner = self.lock();
        if prefix.is_none() {
            return inner.free.len();
        }
        inner.free.matches(prefix).count()
    }

    /// The number of candidates that can be reserved.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().free.len()
    }

    /// Whether no candidate can be reserved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest number of candidates that is kept.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// The number of candidates that turned out not to be available since the last scan began.
    #[must_use]
    pub fn stale_hits(&self) -> usize {
        self.lock().stale_hits
    }

    /// When the last scan began, if it shows that no sandbox with the prefix was available: it read the whole table,
    /// every sandbox that it returned is in the index, reserved or consumed, and none in the index or reserved matches.
    /// A consumed sandbox never becomes available again, and whatever else leaves the index makes it incomplete.
    #[must_use]
    pub fn no_match_since(&self, prefix: Option<&NamePrefix>) -> Option<Instant> {
        let inner = self.lock();
        let mut reserved = inner.reserved.values();
        let has_match =
            inner.free.has_match(prefix) || reserved.any(|candidate| candidate.matches(prefix));
        inner.complete_since.filter(|_| !has_match)
    }

    /// Begins a scan of the table. Scans must not overlap.
    pub fn begin_scan(&self) -> Scan {
        let mut inner = self.lock();
        inner.scan += 1;
        inner.stale_hits = 0;
        inner.has_left_out = false;
        inner.complete_since = None;
        Scan {
            number: inner.scan,
            began: Instant::now(),
        }
    }

    /// Adds one page of a scan. When the index is full, candidates with `prefix` displace others.
    pub fn add_page(
        &self,
        page: Vec<Candidate>,
        scan: Scan,
        prefix: Option<&NamePrefix>,
    ) -> PageMatches {
        self.insert(page, scan.number, prefix)
    }

    /// Ends a scan that filled the index or read the last page, and removes the candidates that it did not return. With
    /// `may_answer` it read the last page, and answers for prefixes without a match.
    pub fn finish_scan(&self, scan: Scan, may_answer: bool) {
        let mut inner = self.lock();
        inner.free.remove_unseen_since(scan.number);
        if may_answer && !inner.has_left_out {
            inner.complete_since = Some(scan.began);
        }
    }

    /// Adds sandboxes that have just become available, including consumed ones.
    pub fn add(&self, candidates: Vec<Candidate>) {
        let scan = {
            let mut inner = self.lock();
            for candidate in &candidates {
                inner.consumed.remove(&candidate.id);
            }
            // A scan that is under way, on an index of the table that lags behind, may not return them yet.
            inner.scan + 1
        };
        self.insert(candidates, scan, None);
    }

    fn insert(
        &self,
        candidates: Vec<Candidate>,
        scan: u64,
        prefix: Option<&NamePrefix>,
    ) -> PageMatches {
        let mut matches = PageMatches::default();
        let mut has_new = false;
        let mut guard = self.lock();
        let inner = &mut *guard;
        for candidate in candidates {
            let is_match = candidate.matches(prefix);
            if inner.consumed.contains(&candidate.id) {
                continue;
            }
            if let Some(reserved) = inner.reserved.get(&candidate.id) {
                if reserved.name != candidate.name {
                    inner.mark_incomplete();
                }
                matches.reserved += usize::from(is_match);
                continue;
            }
            let is_full = inner.free.len() >= self.capacity;
            if is_full && !is_match && !inner.free.contains(&candidate.id) {
                inner.mark_incomplete();
                continue;
            }
            has_new |= inner.free.insert(Arc::new(candidate), scan);
            matches.free += usize::from(is_match);
        }
        if inner.free.evict(self.capacity, prefix, &mut inner.rng) {
            inner.mark_incomplete();
        }
        drop(guard);
        if has_new {
            self.added.notify_waiters();
        }
        matches
    }

    /// Removes sandboxes that are no longer available, but may become so again.
    pub fn remove(&self, ids: &HashSet<SandboxId>) {
        let mut inner = self.lock();
        for id in ids {
            if inner.free.remove(RingPosition::of(id)).is_some() {
                inner.mark_incomplete();
            }
        }
    }
}
