//! The hash ring that keeps several brokers from trying the same candidates.
//!
//! Every sandbox has a position on the ring, the same for all brokers, and every broker has a random anchor. A broker
//! takes the candidates nearest to its anchor first. A conflict means that another broker has reached the same stretch
//! of the ring and has taken the candidates beyond it, so this broker continues on the other side of its anchor. After
//! a conflict on that side as well, it chooses a new anchor.

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::{RngExt, rngs::SmallRng};

use crate::domain::SandboxId;

/// A position on the ring: a hash of 128 bits, so that no two sandboxes share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RingPosition(u128);

impl RingPosition {
    /// The smallest position.
    pub(super) const MIN: Self = Self(0);

    pub(super) fn of(sandbox: &SandboxId) -> Self {
        // Brokers built with different versions of the standard library may hash differently, which only makes
        // conflicts between them more frequent.
        let mut hasher = DefaultHasher::new();
        let mut next_half = || {
            sandbox.hash(&mut hasher);
            u128::from(hasher.finish())
        };
        Self(next_half() << 64 | next_half())
    }

    pub(super) fn random(rng: &mut SmallRng) -> Self {
        Self(rng.random())
    }
}

/// Where on the ring a broker takes its candidates.
#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) position: RingPosition,
    /// Whether there was a conflict on the clockwise and on the counter-clockwise side.
    has_conflict: [bool; 2],
    /// The number of the current position.
    epoch: u64,
}

/// An attempt to allocate the candidate at a position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    position: RingPosition,
    epoch: u64,
    /// Whether its side already had a conflict, because the other side has no candidates left.
    is_last_resort: bool,
}

impl Anchor {
    pub(super) fn new(rng: &mut SmallRng) -> Self {
        Self {
            position: RingPosition::random(rng),
            has_conflict: [false; 2],
            epoch: 0,
        }
    }

    /// The key by which candidates are preferred, smallest first: whether their side had a conflict, then their ring
    /// distance from the anchor.
    pub(super) fn preference(&self, position: RingPosition) -> (bool, u128) {
        let clockwise = position.0.wrapping_sub(self.position.0);
        let ring_distance = clockwise.min(clockwise.wrapping_neg());
        (self.has_conflict[self.side(position)], ring_distance)
    }

    /// The preferred one of positions once around the ring, clockwise from the anchor. It is the first or the last: on
    /// each side of the anchor, the nearest position is at that end.
    pub(super) fn preferred_end(
        &self,
        mut positions: impl DoubleEndedIterator<Item = RingPosition>,
    ) -> Option<RingPosition> {
        [positions.next(), positions.next_back()]
            .into_iter()
            .flatten()
            .min_by_key(|position| self.preference(*position))
    }

    pub(super) fn begin_attempt(&self, position: RingPosition) -> Attempt {
        Attempt {
            position,
            epoch: self.epoch,
            is_last_resort: self.has_conflict[self.side(position)],
        }
    }

    pub(super) fn record_conflict(&mut self, attempt: Attempt, rng: &mut SmallRng) {
        // A conflict of an earlier epoch says nothing about the current position.
        if attempt.epoch != self.epoch {
            return;
        }
        self.has_conflict[self.side(attempt.position)] = true;
        if self.has_conflict == [true; 2] || attempt.is_last_resort {
            *self = Self {
                epoch: self.epoch + 1,
                ..Self::new(rng)
            };
        }
    }

    /// The index into `has_conflict`.
    fn side(&self, position: RingPosition) -> usize {
        let clockwise = position.0.wrapping_sub(self.position.0);
        usize::from(clockwise > u128::MAX / 2)
    }
}
