//! The in-memory index of sandboxes that may be available.
//!
//! It only proposes: the conditional write decides. A wrong entry therefore costs one lost write, never a wrong
//! allocation, and a missing one costs a refresh from the table, never a refusal.

mod shelf;
mod walk;

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
    walk::{Walks, Way},
};
use crate::sandbox::{Account, NamePrefix, SandboxId};

/// What an allocation needs to know of a sandbox before it has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The account's name; first, because candidates are kept in the order of their names.
    pub name: Box<str>,
    /// The sandbox's id.
    pub id: SandboxId,
    /// CSP's resource id.
    pub external_id: Box<str>,
    /// The Salesforce account, where CSP knows one.
    pub sfdc_account_id: Option<Box<str>>,
}

impl From<&Account> for Candidate {
    fn from(account: &Account) -> Self {
        Self {
            name: account.name.as_str().into(),
            id: account.sandbox_id.clone(),
            external_id: account.external_id.as_str().into(),
            sfdc_account_id: account.sfdc_account_id.as_deref().map(Into::into),
        }
    }
}

impl Candidate {
    fn matches(&self, prefix: Option<&NamePrefix>) -> bool {
        prefix.is_none_or(|prefix| self.name.starts_with(prefix.as_str()))
    }
}

/// A candidate and the last pass over the table that showed it.
#[derive(Debug)]
struct Entry {
    candidate: Arc<Candidate>,
    seen: u64,
}

impl Entry {
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
    walks: Walks,
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

    /// The rank of the next candidate of `matching`, which is not empty, and the way of the walk that leads there.
    fn next(&mut self, prefix: Option<&NamePrefix>, matching: &Range<usize>) -> (usize, Way) {
        let Self {
            free, walks, rng, ..
        } = self;
        let walk = walks.get_or_begin(prefix, || any(free, matching.clone(), rng));
        let start = free.rank_of_first(|entry| entry.order(walk.start()).is_lt());
        (walk.next(start, matching), walk.way())
    }

    /// Another broker was met on this way.
    fn turn(&mut self, prefix: Option<&NamePrefix>, met_on: Way) {
        let matching = self.matching(prefix);
        if !matching.is_empty() {
            let Self {
                free, walks, rng, ..
            } = self;
            walks.turn(prefix, met_on, || any(free, matching, rng));
        }
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

/// A random one of the candidates of these ranks.
fn any(free: &Shelf<Entry>, of: Range<usize>, rng: &mut SmallRng) -> Arc<Candidate> {
    Arc::clone(&free.get(rng.random_range(of)).candidate)
}

impl Candidates {
    /// An empty index of at most `capacity` candidates. `seed` decides which candidate is taken when.
    #[must_use]
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            inner: Mutex::new(Inner {
                free: Shelf::new(),
                checked_out: HashSet::new(),
                spent: Spent::default(),
                walks: Walks::default(),
                pass: 0,
                lost: 0,
                rng: SmallRng::seed_from_u64(seed),
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
    pub fn check_out<'a>(&'a self, prefix: Option<&'a NamePrefix>) -> Option<CheckOut<'a>> {
        let mut inner = self.lock();
        let matching = inner.matching(prefix);
        if matching.is_empty() {
            return None;
        }
        let (rank, way) = inner.next(prefix, &matching);
        let candidate = inner.free.remove(rank).candidate;
        inner.checked_out.insert(candidate.id.clone());
        Some(CheckOut {
            candidates: self,
            candidate,
            prefix,
            way,
            is_marked: true,
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

    /// How many candidates turned out to be taken by another broker since the last pass began.
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
                    vacant.insert(Entry {
                        candidate: Arc::new(candidate),
                        seen: pass.0,
                    });
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
pub struct CheckOut<'a> {
    candidates: &'a Candidates,
    candidate: Arc<Candidate>,
    prefix: Option<&'a NamePrefix>,
    way: Way,
    /// Whether the index has it marked as checked out by this.
    is_marked: bool,
}

impl CheckOut<'_> {
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
            Found::Vacant(vacant) => vacant.insert(Entry {
                candidate: Arc::clone(&candidate),
                seen,
            }),
        }
        drop(inner);
        // From here on another request may check it out, and its mark is not ours to remove.
        self.is_marked = false;
        self.candidates.arrived.notify_waiters();
    }

    /// Somebody else is at it: back into the index, for a later try.
    pub fn contended(self) {
        self.candidates.lock().turn(self.prefix, self.way);
        self.put_back();
    }

    /// It has a holder now, who is a caller of this process.
    pub fn won(self) {
        let limit = self.candidates.capacity;
        self.candidates
            .lock()
            .spent
            .insert(self.candidate.id.clone(), limit);
    }

    /// Somebody else got it.
    pub fn lost(self) {
        let limit = self.candidates.capacity;
        let mut inner = self.candidates.lock();
        inner.lost += 1;
        inner.turn(self.prefix, self.way);
        inner.spent.insert(self.candidate.id.clone(), limit);
    }
}

impl Drop for CheckOut<'_> {
    fn drop(&mut self) {
        if self.is_marked {
            self.candidates
                .lock()
                .checked_out
                .remove(&self.candidate.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, iter};

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

    /// How many attempts are lost until every sandbox has a holder, if so many brokers make so many attempts at once.
    fn losses(brokers: u64, sandboxes: usize, in_flight: usize, seed: u64) -> usize {
        let names: Vec<_> = (0..sandboxes).map(|n| format!("{n:05}")).collect();
        let indexes: Vec<_> = (0..brokers)
            .map(|broker| {
                let index = Candidates::new(sandboxes, seed * brokers + broker);
                index.add(names.iter().map(|name| candidate(name)).collect());
                index
            })
            .collect();
        let mut under_way: Vec<_> = indexes.iter().map(|_| VecDeque::new()).collect();
        let mut taken = HashSet::new();
        let mut lost = 0;
        while taken.len() < sandboxes {
            for (index, attempts) in indexes.iter().zip(&mut under_way) {
                attempts.extend(
                    iter::from_fn(|| index.check_out(None)).take(in_flight - attempts.len()),
                );
                let Some(attempt): Option<CheckOut<'_>> = attempts.pop_front() else {
                    continue;
                };
                if taken.insert(attempt.candidate().id.clone()) {
                    attempt.won();
                } else {
                    attempt.lost();
                    lost += 1;
                }
            }
        }
        lost
    }

    #[test]
    fn brokers_that_empty_a_pool_together_rarely_try_for_the_same_sandbox() {
        // Of 1,000 sandboxes, so many attempts are lost that random choices would lose 950, 2,300 and 3,800.
        for (brokers, bound) in [(2, 64), (4, 800), (8, 1600)] {
            let mut lost: Vec<_> = (0..5).map(|seed| losses(brokers, 1000, 64, seed)).collect();
            lost.sort_unstable();
            assert!(lost[2] <= bound, "{brokers} brokers: {lost:?}");
        }
    }

    #[test]
    fn a_walk_is_remembered_for_few_prefixes_only() {
        let index = index(10, &["a"]);
        for n in 0..1000 {
            index.check_out(Some(&prefix("a"))).unwrap().put_back();
            let other = prefix(&format!("b-{n}"));
            index.add(vec![candidate(other.as_str())]);
            index.check_out(Some(&other)).unwrap().won();
        }
        assert!(index.lock().walks.len() <= walk::MOST_WALKS);
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
