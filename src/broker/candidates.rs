//! The in-memory index of sandboxes that may be available.
//!
//! It only proposes: the conditional write decides. A wrong entry therefore costs one lost write, never a wrong
//! allocation, and a missing one costs a refresh from the table, never a refusal.

mod shelf;
mod territory;

use std::{
    cmp::Ordering,
    collections::HashSet,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::sync::Notify;

use self::{
    shelf::{Found, Shelf},
    territory::{Era, Place, Territory},
};
use crate::domain::{Candidate, NamePrefix, SandboxId};

/// So many candidates are looked at to choose one.
const CONSIDERED: usize = 1024;

/// A candidate and the last pass over the table that showed it.
#[derive(Debug)]
struct Entry {
    candidate: Arc<Candidate>,
    place: Place,
    seen: u64,
}

impl Entry {
    fn new(candidate: Arc<Candidate>, seen: u64) -> Self {
        let place = Place::of(&candidate.id);
        Self {
            candidate,
            place,
            seen,
        }
    }

    /// Where it is in the index, seen from a candidate.
    fn order(&self, candidate: &Candidate) -> Ordering {
        (&self.candidate.name, &self.candidate.id).cmp(&(&candidate.name, &candidate.id))
    }
}

/// One reading of the available sandboxes in the table, from the first page on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass(u64);

/// What a page of the table brought for a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Candidates with the prefix that may be taken now.
    pub takeable: usize,
    /// Candidates with the prefix that a request of this process is trying to claim right now.
    pub checked_out: usize,
}

/// The index: in the order of the names, so that the matches of a prefix are one range of it.
#[derive(Debug)]
pub struct Candidates {
    inner: Mutex<Inner>,
    /// Tells those who wait that there are new candidates.
    arrived: Notify,
    capacity: usize,
}

#[derive(Debug)]
struct Inner {
    free: Shelf<Entry>,
    checked_out: HashSet<SandboxId>,
    spent: Spent,
    territory: Territory,
    pass: u64,
    lost: usize,
    rng: SmallRng,
}

/// Sandboxes that have, or had, a holder. They never become available again, but an index of the table that lags
/// behind may go on showing them. Bounded: two generations of at most `limit` ids, the older one dropped whole.
#[derive(Debug, Default)]
struct Spent {
    young: HashSet<SandboxId>,
    old: HashSet<SandboxId>,
}

impl Spent {
    fn insert(&mut self, id: SandboxId, limit: usize) {
        if self.young.len() >= limit {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
    }

    fn remove(&mut self, id: &SandboxId) {
        self.young.remove(id);
        self.old.remove(id);
    }

    fn contains(&self, id: &SandboxId) -> bool {
        self.young.contains(id) || self.old.contains(id)
    }
}

impl Inner {
    fn matching(&self, prefix: Option<&NamePrefix>) -> Range<usize> {
        let Some(prefix) = prefix.map(NamePrefix::as_str) else {
            return 0..self.free.len();
        };
        self.free.range(
            |entry| &*entry.candidate.name < prefix,
            |entry| entry.candidate.name.starts_with(prefix),
        )
    }

    /// The rank of the candidate to take out of `matching`, which is not empty. Of those after a random one only, so that
    /// the sandboxes of one name are used up no faster than others, and nobody meets the same bad one again and again.
    fn choose(&mut self, matching: Range<usize>) -> usize {
        let from = self.rng.random_range(matching.clone());
        let after = self.free.iter_from(from).take(matching.end - from);
        let around = self
            .free
            .iter_from(matching.start)
            .take(from - matching.start);
        let best = after
            .chain(around)
            .take(CONSIDERED)
            .enumerate()
            .min_by_key(|(_, entry)| self.territory.remoteness(entry.place));
        let rank = from + best.map_or(0, |(number, _)| number);
        if rank < matching.end {
            rank
        } else {
            rank - matching.len()
        }
    }

    /// An attempt was for nothing there. If that was another broker's doing, what is near is no better.
    fn meet(&mut self, id: &SandboxId, era: Era) {
        self.territory.meet(Place::of(id), era, &mut self.rng);
    }

    /// Drops random candidates that lack `prefix`, then random ones that have it, until `capacity` is kept.
    fn shrink(&mut self, capacity: usize, prefix: Option<&NamePrefix>) {
        while self.free.len() > capacity {
            let wanted = if prefix.is_some() {
                self.matching(prefix)
            } else {
                0..0
            };
            let others = self.free.len() - wanted.len();
            let at = if others == 0 {
                self.rng.random_range(0..self.free.len())
            } else {
                let at = self.rng.random_range(0..others);
                if at < wanted.start {
                    at
                } else {
                    at + wanted.len()
                }
            };
            self.free.remove(at);
        }
    }
}

impl Candidates {
    /// An empty index of at most `capacity` candidates. `seed` decides which candidate is taken when.
    #[must_use]
    pub fn new(capacity: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        Self {
            inner: Mutex::new(Inner {
                free: Shelf::new(),
                checked_out: HashSet::new(),
                spent: Spent::default(),
                territory: Territory::new(&mut rng),
                pass: 0,
                lost: 0,
                rng,
            }),
            arrived: Notify::new(),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code under the lock leaves it half-changed, so a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a candidate out of those with the prefix.
    #[must_use]
    pub fn check_out(&self, prefix: Option<&NamePrefix>) -> Option<Reservation<'_>> {
        let mut inner = self.lock();
        let matching = inner.matching(prefix);
        if matching.is_empty() {
            return None;
        }
        let rank = inner.choose(matching);
        let candidate = inner.free.remove(rank).candidate;
        inner.checked_out.insert(candidate.id.clone());
        let era = inner.territory.era();
        Some(Reservation {
            candidates: self,
            candidate,
            is_marked: true,
            is_open: true,
            era,
        })
    }

    /// Ends when there is a candidate with the prefix.
    pub async fn arrival(&self, prefix: Option<&NamePrefix>) {
        loop {
            // Before the look: what arrives after it must not be missed.
            let arrived = self.arrived.notified();
            if self.has(prefix) {
                return;
            }
            arrived.await;
        }
    }

    /// Whether there is a candidate with the prefix.
    #[must_use]
    pub fn has(&self, prefix: Option<&NamePrefix>) -> bool {
        self.count(prefix) > 0
    }

    /// How many candidates with the prefix there are.
    #[must_use]
    pub fn count(&self, prefix: Option<&NamePrefix>) -> usize {
        self.lock().matching(prefix).len()
    }

    /// How many candidates there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().free.len()
    }

    /// Whether there is no candidate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most candidates that are kept.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many candidates were not what the index said since the last pass began.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.lock().lost
    }

    /// Begins a pass over the table.
    pub fn begin_pass(&self) -> Pass {
        let mut inner = self.lock();
        inner.pass += 1;
        inner.lost = 0;
        Pass(inner.pass)
    }

    /// Takes in one page of a pass; when the index is full, candidates with `prefix` are kept before others.
    pub fn offer(&self, page: Vec<Candidate>, pass: Pass, prefix: Option<&NamePrefix>) -> Offered {
        let mut offered = Offered::default();
        let mut has_new = false;
        let mut inner = self.lock();
        for candidate in page {
            let wanted = candidate.matches(prefix);
            if inner.spent.contains(&candidate.id) {
                continue;
            }
            if inner.checked_out.contains(&candidate.id) {
                offered.checked_out += usize::from(wanted);
                continue;
            }
            let is_full = inner.free.len() >= self.capacity;
            match inner.free.find_mut(|entry| entry.order(&candidate)) {
                Found::Entry(entry) => {
                    entry.seen = entry.seen.max(pass.0);
                    entry.candidate = Arc::new(candidate);
                }
                Found::Vacant(_) if is_full && !wanted => continue,
                Found::Vacant(vacant) => {
                    vacant.insert(Entry::new(Arc::new(candidate), pass.0));
                    has_new = true;
                }
            }
            offered.takeable += usize::from(wanted);
        }
        inner.shrink(self.capacity, prefix);
        drop(inner);
        if has_new {
            self.arrived.notify_waiters();
        }
        offered
    }

    /// Ends a pass that read to the last page, or filled the index: what it did not see is no longer available.
    pub fn finish_pass(&self, pass: Pass) {
        self.lock().free.retain(|entry| entry.seen >= pass.0);
    }

    /// Takes in sandboxes that have just become available, whatever was known of them.
    pub fn add(&self, candidates: Vec<Candidate>) {
        let pass = {
            let mut inner = self.lock();
            for candidate in &candidates {
                inner.spent.remove(&candidate.id);
            }
            // The index of the table lags behind, so the next pass may not show them yet.
            Pass(inner.pass + 1)
        };
        self.offer(candidates, pass, None);
    }

    /// Removes sandboxes that are not available any more, though they may be again.
    pub fn remove(&self, ids: &HashSet<SandboxId>) {
        self.lock()
            .free
            .retain(|entry| !ids.contains(&entry.candidate.id));
    }
}

/// A candidate in the hands of one request; no other request of this process gets it meanwhile. Dropped without a
/// word (a request that was cut off in the middle of its write), it is forgotten until a pass shows it again.
#[derive(Debug)]
pub struct Reservation<'a> {
    candidates: &'a Candidates,
    candidate: Arc<Candidate>,
    /// Whether the index has it marked as checked out by this.
    is_marked: bool,
    /// Whether it was for nothing, as far as is known.
    is_open: bool,
    era: Era,
}

impl Reservation<'_> {
    /// The candidate.
    #[must_use]
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// It was not touched: back into the index.
    pub fn put_back(mut self) {
        let mut inner = self.candidates.lock();
        inner.checked_out.remove(&self.candidate.id);
        let seen = inner.pass + 1;
        let candidate = Arc::clone(&self.candidate);
        match inner.free.find_mut(|entry| entry.order(&candidate)) {
            Found::Entry(entry) => entry.seen = seen,
            Found::Vacant(vacant) => vacant.insert(Entry::new(Arc::clone(&candidate), seen)),
        }
        drop(inner);
        // From here on another request may check it out, and its mark is not ours to remove.
        self.is_marked = false;
        self.candidates.arrived.notify_waiters();
    }

    /// Another broker is about to take it, or fails to: back into the index, for a later try.
    pub fn contended(self) {
        self.candidates.lock().meet(&self.candidate.id, self.era);
        self.put_back();
    }

    /// It has a holder now, who is a caller of this process.
    pub fn won(mut self) {
        self.is_open = false;
        self.spend();
    }

    /// Somebody else got it.
    pub fn lost(self) {
        self.spend();
        self.outdated();
    }

    /// It is not there, or not as it was, though it may be available again.
    pub fn outdated(self) {
        self.candidates.lock().lost += 1;
    }

    fn spend(&self) {
        let limit = self.candidates.capacity;
        let id = self.candidate.id.clone();
        self.candidates.lock().spent.insert(id, limit);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.is_marked {
            return;
        }
        let mut inner = self.candidates.lock();
        inner.checked_out.remove(&self.candidate.id);
        if self.is_open {
            inner.meet(&self.candidate.id, self.era);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str) -> Candidate {
        Candidate {
            name: name.into(),
            id: SandboxId::parse(format!("id-{name}")).unwrap(),
            external_id: "identity/accounts/x".into(),
            sfdc_account_id: None,
        }
    }

    fn index(capacity: usize, names: &[&str]) -> Candidates {
        let index = Candidates::new(capacity, 7);
        index.add(names.iter().map(|name| candidate(name)).collect());
        index
    }

    fn prefix(text: &str) -> NamePrefix {
        NamePrefix::parse(text).unwrap()
    }

    #[test]
    fn a_prefix_gets_every_match_once_and_nothing_else() {
        let index = index(10, &["a-1", "b-1", "b-2", "b-3", "c-1"]);
        let b = prefix("b-");
        let mut taken = Vec::new();
        while let Some(out) = index.check_out(Some(&b)) {
            taken.push(out.candidate().name.to_string());
            out.won();
        }
        taken.sort();
        assert_eq!(taken, ["b-1", "b-2", "b-3"]);
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn every_candidate_can_be_the_first() {
        let names = ["a", "b", "c", "d"];
        let firsts: HashSet<_> = (0..100)
            .map(|seed| {
                let index = Candidates::new(10, seed);
                index.add(names.iter().map(|name| candidate(name)).collect());
                index.check_out(None).unwrap().candidate().name.to_string()
            })
            .collect();
        assert_eq!(firsts.len(), names.len());
    }

    /// How many attempts are lost until every sandbox has a holder, if so many brokers have the same number of callers and
    /// of attempts at once, which end in any order, and know nothing but what was there in the beginning.
    fn losses(brokers: usize, sandboxes: usize, in_flight: usize, seed: u64) -> usize {
        let mut rng = SmallRng::seed_from_u64(seed);
        let names: Vec<_> = (0..sandboxes).map(|n| format!("{n:05}")).collect();
        let indexes: Vec<_> = (0..brokers)
            .map(|_| {
                let index = Candidates::new(sandboxes, rng.random());
                index.add(names.iter().map(|name| candidate(name)).collect());
                index
            })
            .collect();
        let mut callers = vec![sandboxes / brokers; brokers];
        let mut attempts = Vec::new();
        let mut taken: HashSet<SandboxId> = HashSet::new();
        let begin = |broker: usize| Some((broker, indexes[broker].check_out(None)?));
        for (broker, callers) in callers.iter().enumerate() {
            attempts.extend((0..in_flight.min(*callers)).filter_map(|_| begin(broker)));
        }
        let mut lost = 0;
        while !attempts.is_empty() {
            let (broker, attempt) = attempts.swap_remove(rng.random_range(0..attempts.len()));
            if taken.insert(attempt.candidate().id.clone()) {
                attempt.won();
                callers[broker] -= 1;
            } else {
                attempt.lost();
                lost += 1;
            }
            let under_way = attempts.iter().filter(|(of, _)| *of == broker).count();
            if under_way < callers[broker] {
                attempts.extend(begin(broker));
            }
        }
        assert_eq!(taken.len(), sandboxes);
        lost
    }

    #[test]
    fn brokers_that_empty_a_pool_together_rarely_try_for_the_same_sandbox() {
        // With random choices the medians are 933, 2,236 and 3,377.
        for (brokers, bound) in [(2, 50), (4, 1300), (8, 2400)] {
            let mut lost: Vec<_> = (0..5).map(|seed| losses(brokers, 1000, 64, seed)).collect();
            lost.sort_unstable();
            assert!(lost[2] <= bound, "{brokers} brokers: {lost:?}");
        }
    }

    #[test]
    fn sandboxes_of_one_name_are_used_up_no_faster_than_others() {
        let names: Vec<_> = (0..700)
            .map(|n| format!("a-{n:03}"))
            .chain((0..100).map(|n| format!("b-{n:03}")))
            .collect();
        for seed in 0..20 {
            let index = Candidates::new(1000, seed);
            index.add(names.iter().map(|name| candidate(name)).collect());
            for _ in 0..400 {
                index.check_out(None).unwrap().won();
            }
            let left = index.count(Some(&prefix("b-")));
            assert!((25..75).contains(&left), "{left} of 100");
        }
    }

    #[test]
    fn nor_in_an_index_of_which_only_a_part_is_considered() {
        let names: Vec<_> = (0..2100)
            .map(|n| format!("a-{n:04}"))
            .chain((0..700).map(|n| format!("b-{n:04}")))
            .collect();
        let index = Candidates::new(5000, 1);
        index.add(names.iter().map(|name| candidate(name)).collect());
        for _ in 0..1400 {
            index.check_out(None).unwrap().won();
        }
        let left = index.count(Some(&prefix("b-")));
        assert!((250..450).contains(&left), "{left} of 700");
    }

    #[test]
    fn what_another_broker_is_at_is_not_proposed_next() {
        let names: Vec<_> = (0..100).map(|n| format!("{n:03}")).collect();
        for seed in 0..20 {
            let index = Candidates::new(1000, seed);
            index.add(names.iter().map(|name| candidate(name)).collect());
            let out = index.check_out(None).unwrap();
            let id = out.candidate().id.clone();
            out.contended();
            assert_eq!(index.len(), names.len(), "it is there for a later try");
            assert_ne!(index.check_out(None).unwrap().candidate().id, id);
        }
    }

    #[test]
    fn a_bad_candidate_that_always_comes_back_is_in_the_way_of_few() {
        let names: Vec<_> = (0..200).map(|n| format!("{n:03}")).collect();
        for seed in 0..20 {
            let index = Candidates::new(1000, seed);
            index.add(names.iter().map(|name| candidate(name)).collect());
            let bad: HashSet<_> = ["007", "077", "177"].map(|name| candidate(name).id).into();
            let mut met = 0;
            for _ in 0..150 {
                let out = index.check_out(None).unwrap();
                if bad.contains(&out.candidate().id) {
                    met += 1;
                    let again = out.candidate().clone();
                    drop(out);
                    index.add(vec![again]);
                } else {
                    out.won();
                }
            }
            assert!(met <= 20, "{met} of 150");
        }
    }

    #[test]
    fn a_candidate_that_is_checked_out_is_reported_but_not_offered_twice() {
        let index = index(10, &["a"]);
        let out = index.check_out(None).unwrap();
        let pass = index.begin_pass();
        assert_eq!(
            index.offer(vec![candidate("a")], pass, None),
            Offered {
                takeable: 0,
                checked_out: 1
            }
        );
        assert!(index.check_out(None).is_none());
        out.put_back();
        assert!(index.has(None));
        index.finish_pass(pass);
        assert!(
            index.has(None),
            "put back during the pass, so the pass does not drop it"
        );
    }

    #[test]
    fn a_candidate_that_was_won_or_lost_is_never_offered_again() {
        let index = index(10, &["a", "b"]);
        index.check_out(None).unwrap().won();
        index.check_out(None).unwrap().lost();
        assert_eq!(index.lost(), 1);
        let pass = index.begin_pass();
        assert_eq!(
            index.offer(vec![candidate("a"), candidate("b")], pass, None),
            Offered::default()
        );
        assert_eq!(index.lost(), 0);
    }

    #[test]
    fn a_candidate_dropped_in_the_middle_of_a_write_comes_back_with_the_next_pass() {
        let index = index(10, &["a"]);
        drop(index.check_out(None));
        assert!(index.is_empty());
        let pass = index.begin_pass();
        assert_eq!(index.offer(vec![candidate("a")], pass, None).takeable, 1);
    }

    #[test]
    fn a_full_index_makes_room_for_the_prefix_that_is_wanted() {
        let index = index(3, &["a", "b", "c"]);
        let pass = index.begin_pass();
        index.offer(
            vec![candidate("z-1"), candidate("z-2")],
            pass,
            Some(&prefix("z-")),
        );
        assert_eq!(index.len(), 3);
        assert_eq!(index.lock().matching(Some(&prefix("z-"))).len(), 2);
    }

    #[test]
    fn a_pass_drops_what_it_did_not_see_but_not_what_was_just_added() {
        let index = index(10, &["a", "b"]);
        let names = || -> Vec<_> {
            index
                .lock()
                .free
                .iter()
                .map(|entry| entry.candidate.name.to_string())
                .collect()
        };
        let lagging = index.begin_pass();
        index.offer(vec![candidate("b")], lagging, None);
        index.finish_pass(lagging);
        assert_eq!(names(), ["a", "b"]);
        let next = index.begin_pass();
        index.offer(vec![candidate("b")], next, None);
        index.add(vec![candidate("new")]);
        index.finish_pass(next);
        assert_eq!(names(), ["b", "new"]);
    }

    #[test]
    fn a_search_for_an_absent_prefix_leaves_a_full_index_as_it_is() {
        let names = ["a", "b", "c", "d", "e"];
        let index = index(3, &names);
        for _ in 0..3 {
            let pass = index.begin_pass();
            let page = names.iter().map(|name| candidate(name)).collect();
            assert_eq!(
                index.offer(page, pass, Some(&prefix("z-"))),
                Offered::default()
            );
            index.finish_pass(pass);
            assert_eq!(index.len(), 3);
        }
    }

    #[test]
    fn the_memory_of_spent_sandboxes_is_bounded() {
        let mut spent = Spent::default();
        for n in 0..1000 {
            spent.insert(SandboxId::parse(n.to_string()).unwrap(), 10);
        }
        assert!(spent.young.len() + spent.old.len() <= 20);
        assert!(spent.contains(&SandboxId::parse("999").unwrap()));
    }
}
