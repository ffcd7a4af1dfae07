//! The candidates that may be reserved, ordered by ring position and by name.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use rand::rngs::SmallRng;

use super::ring::{Anchor, RingPosition};
use crate::domain::{Candidate, NamePrefix, SandboxId};

/// The number of prefixes for which a ring is kept. A reservation for another prefix builds its ring first.
const MAX_PREFIX_RINGS: usize = 8;

/// Three views of the same candidates.
#[derive(Debug, Default)]
pub(super) struct FreeCandidates {
    by_position: BTreeMap<RingPosition, Entry>,
    /// Ordered by name, so that the matches of a prefix are one range.
    by_name: BTreeSet<(Box<str>, RingPosition)>,
    /// The matches of the prefixes reserved last, so that the nearest one is found without visiting all of them. The most
    /// recent prefix is the last.
    prefix_rings: VecDeque<(NamePrefix, BTreeSet<RingPosition>)>,
}

#[derive(Debug)]
struct Entry {
    candidate: Arc<Candidate>,
    /// The number of the last scan that returned the candidate.
    seen: u64,
}

impl FreeCandidates {
    pub(super) fn len(&self) -> usize {
        self.by_position.len()
    }

    pub(super) fn contains(&self, id: &SandboxId) -> bool {
        self.by_position.contains_key(&RingPosition::of(id))
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.iter().map(|(name, _)| &**name)
    }

    pub(super) fn has_match(&self, prefix: Option<&NamePrefix>) -> bool {
        self.matches(prefix).next().is_some()
    }

    /// The positions of the candidates with the prefix, in the order of their names.
    pub(super) fn matches(
        &self,
        prefix: Option<&NamePrefix>,
    ) -> impl Iterator<Item = RingPosition> {
        let prefix = prefix.map_or("", NamePrefix::as_str);
        self.by_name
            .range((Box::from(prefix), RingPosition::MIN)..)
            .take_while(move |(name, _)| name.starts_with(prefix))
            .map(|(_, position)| *position)
    }

    /// Adds a candidate, or replaces the one with the same id unless that one was added later than the scan `seen` began.
    /// Returns whether it is new under its name.
    pub(super) fn insert(&mut self, candidate: Arc<Candidate>, seen: u64) -> bool {
        let position = RingPosition::of(&candidate.id);
        if let Some(entry) = self.by_position.get_mut(&position) {
            if entry.seen > seen {
                return false;
            }
            if entry.candidate.name == candidate.name {
                entry.seen = seen;
                entry.candidate = candidate;
                return false;
            }
        }
        self.remove(position);
        for (prefix, ring) in &mut self.prefix_rings {
            if candidate.matches(Some(prefix)) {
                ring.insert(position);
            }
        }
        self.by_name.insert((candidate.name.clone(), position));
        self.by_position.insert(position, Entry { candidate, seen });
        true
    }

    pub(super) fn remove(&mut self, position: RingPosition) -> Option<Arc<Candidate>> {
        let Entry { candidate, .. } = self.by_position.remove(&position)?;
        self.by_name.remove(&(candidate.name.clone(), position));
        for (_, ring) in &mut self.prefix_rings {
            ring.remove(&position);
        }
        Some(candidate)
    }

    /// Removes the candidates that no scan has returned since the one with this number.
    pub(super) fn remove_unseen_since(&mut self, scan: u64) {
        let unseen: Vec<_> = self
            .by_position
            .iter()
            .filter(|(_, entry)| entry.seen < scan)
            .map(|(position, _)| *position)
            .collect();
        for position in unseen {
            self.remove(position);
        }
    }

    /// Removes random candidates, those without the prefix first, until at most `capacity` are left. Returns whether
    /// it removed any.
    pub(super) fn evict(
        &mut self,
        capacity: usize,
        prefix: Option<&NamePrefix>,
        rng: &mut SmallRng,
    ) -> bool {
        let excess = self.len().saturating_sub(capacity);
        if excess == 0 {
            return false;
        }
        // Positions are hashes, so neighbours on the ring have nothing in common.
        let start = RingPosition::random(rng);
        let mut removable: Vec<_> = self
            .by_position
            .range(start..)
            .chain(self.by_position.range(..start))
            .map(|(position, entry)| (entry.candidate.matches(prefix), *position))
            .collect();
        removable.sort_by_key(|(is_match, _)| *is_match);
        for (_, position) in removable.into_iter().take(excess) {
            self.remove(position);
        }
        true
    }

    /// The position of the candidate with the prefix that the anchor prefers.
    pub(super) fn nearest(
        &mut self,
        anchor: &Anchor,
        prefix: Option<&NamePrefix>,
    ) -> Option<RingPosition> {
        let Some(prefix) = prefix else {
            let clockwise = self.by_position.range(anchor.position..);
            let rest = self.by_position.range(..anchor.position);
            return anchor.preferred_end(clockwise.chain(rest).map(|(position, _)| *position));
        };
        let ring = self.prefix_ring(prefix)?;
        let clockwise = ring.range(anchor.position..);
        let rest = ring.range(..anchor.position);
        anchor.preferred_end(clockwise.chain(rest).copied())
    }

    /// The positions of the candidates with the prefix, unless there are none.
    fn prefix_ring(&mut self, prefix: &NamePrefix) -> Option<&BTreeSet<RingPosition>> {
        if !self.has_match(Some(prefix)) {
            return None;
        }
        let mut prefixes = self.prefix_rings.iter();
        let known = prefixes.position(|(known, _)| known == prefix);
        let ring = known
            .and_then(|index| self.prefix_rings.remove(index))
            .unwrap_or_else(|| (prefix.clone(), self.matches(Some(prefix)).collect()));
        if self.prefix_rings.len() == MAX_PREFIX_RINGS {
            self.prefix_rings.pop_front();
        }
        self.prefix_rings.push_back(ring);
        self.prefix_rings.back().map(|(_, positions)| positions)
    }
}
