//! Entries in order, in blocks.
//!
//! In one vector, taking an entry out moved half of the others: a twentieth of the CPU time of an allocation from an
//! index of 10,000. The crates that keep a sorted set with ranks are young, and this is all that is needed of one.

use std::{cmp::Ordering, ops::Range};

/// A block that grows to twice as many entries is divided.
const BLOCK: usize = 64;

/// A sorted list. Ranks count from 0 in the order of the list.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    /// None of them is empty.
    blocks: Vec<Vec<T>>,
    len: usize,
}

/// Where an entry is, or would be put: the block, and the place in it.
#[derive(Clone, Copy, Debug)]
struct Place(usize, usize);

impl<T> Shelf<T> {
    pub(super) const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }

    /// The ranks of the entries that are not `before`, as long as they are `within`. Both have to hold for a stretch of the list:
    /// `before` from its first entry on, `within` from there on.
    pub(super) fn range(
        &self,
        before: impl Fn(&T) -> bool,
        within: impl Fn(&T) -> bool,
    ) -> Range<usize> {
        let start = self.rank_of_first(&before);
        let end = self.rank_of_first(|entry| before(entry) || within(entry));
        start..end
    }

    /// The rank of the first entry that is not `before`; the length of the list if all are.
    pub(super) fn rank_of_first(&self, before: impl Fn(&T) -> bool) -> usize {
        self.rank(self.partition(before))
    }

    /// The entries from a rank on. Panics if there is none of that rank.
    pub(super) fn iter_from(&self, rank: usize) -> impl Iterator<Item = &T> {
        let Place(block, at) = self.place(rank);
        self.blocks[block..].iter().flatten().skip(at)
    }

    /// Takes the entry of a rank out. Panics if there is none.
    pub(super) fn remove(&mut self, rank: usize) -> T {
        let Place(block, at) = self.place(rank);
        let entry = self.blocks[block].remove(at);
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
        }
        self.len -= 1;
        entry
    }

    /// The entry for which `order` is `Equal`, or a place for one. `order` compares an entry with it.
    pub(super) fn find_mut(&mut self, order: impl Fn(&T) -> Ordering) -> Found<'_, T> {
        let place = self.partition(|entry| order(entry).is_lt());
        let is_there = self
            .blocks
            .get(place.0)
            .and_then(|block| block.get(place.1))
            .is_some_and(|entry| order(entry).is_eq());
        if is_there {
            Found::Entry(&mut self.blocks[place.0][place.1])
        } else {
            Found::Vacant(Vacant { shelf: self, place })
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for block in &mut self.blocks {
            block.retain(&mut keep);
        }
        self.blocks.retain(|block| !block.is_empty());
        self.len = self.blocks.iter().map(Vec::len).sum();
    }

    /// The place of the first entry that is not `before`; after the last block's last if all are.
    fn partition(&self, before: impl Fn(&T) -> bool) -> Place {
        let block = self
            .blocks
            .partition_point(|block| block.last().is_some_and(&before));
        match self.blocks.get(block) {
            Some(entries) => Place(block, entries.partition_point(before)),
            None => Place(block, 0),
        }
    }

    fn rank(&self, Place(block, at): Place) -> usize {
        self.blocks[..block].iter().map(Vec::len).sum::<usize>() + at
    }

    fn place(&self, rank: usize) -> Place {
        let mut at = rank;
        let mut block = 0;
        while at >= self.blocks[block].len() {
            at -= self.blocks[block].len();
            block += 1;
        }
        Place(block, at)
    }

    fn insert(&mut self, Place(block, at): Place, entry: T) {
        self.len += 1;
        // Behind all others: into the last block, rather than into a new one.
        let (block, at) = match self.blocks.last() {
            None => {
                self.blocks.push(vec![entry]);
                return;
            }
            Some(last) if block == self.blocks.len() => (block - 1, last.len()),
            Some(_) => (block, at),
        };
        let entries = &mut self.blocks[block];
        entries.insert(at, entry);
        if entries.len() == 2 * BLOCK {
            let second = entries.split_off(BLOCK);
            self.blocks.insert(block + 1, second);
        }
    }
}

/// What [`Shelf::find_mut`] found.
pub(super) enum Found<'a, T> {
    Entry(&'a mut T),
    Vacant(Vacant<'a, T>),
}

/// A place for an entry that is not there.
pub(super) struct Vacant<'a, T> {
    shelf: &'a mut Shelf<T>,
    place: Place,
}

impl<T> Vacant<'_, T> {
    /// Puts it there.
    pub(super) fn insert(self, entry: T) {
        self.shelf.insert(self.place, entry);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16),
        Remove(prop::sample::Index),
        Retain(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            20 => (0..2_000_u16).prop_map(Step::Insert),
            5 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => (2..20_u16).prop_map(Step::Retain),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_vector(
            steps in prop::collection::vec(step(), 0..2_000),
            (low, high) in (0..2_000_u16, 0..2_000_u16),
        ) {
            let (mut shelf, mut vector) = (Shelf::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Insert(value) => {
                        let at = vector.binary_search(&value);
                        match shelf.find_mut(|entry: &u16| entry.cmp(&value)) {
                            Found::Entry(entry) => prop_assert_eq!(Ok(*entry), at.map(|at| vector[at])),
                            Found::Vacant(vacant) => {
                                vacant.insert(value);
                                vector.insert(at.unwrap_err(), value);
                            }
                        }
                    }
                    Step::Remove(index) if !vector.is_empty() => {
                        let rank = index.index(vector.len());
                        prop_assert_eq!(shelf.remove(rank), vector.remove(rank));
                    }
                    Step::Remove(_) => {}
                    Step::Retain(divisor) => {
                        shelf.retain(|entry| !entry.is_multiple_of(divisor));
                        vector.retain(|entry| !entry.is_multiple_of(divisor));
                    }
                }
                prop_assert_eq!(shelf.len(), vector.len());
                prop_assert!(shelf.blocks.iter().all(|block| (1..2 * BLOCK).contains(&block.len())));
            }
            prop_assert!(shelf.iter().eq(&vector));
            let rank = usize::from(low) % vector.len().max(1);
            prop_assert!(vector.is_empty() || shelf.iter_from(rank).eq(&vector[rank..]));
            let range = shelf.range(|entry| *entry < low, |entry| *entry < high);
            let start = vector.partition_point(|entry| *entry < low);
            prop_assert_eq!(range, start..start + vector[start..].partition_point(|entry| *entry < high));
        }
    }
}
