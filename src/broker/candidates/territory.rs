//! Which candidates this process would rather take than others, so that several brokers rarely try for the same one.
//!
//! Every sandbox has a place on a ring, the same for all brokers, and every broker a centre of its own: it takes what is
//! near it first. Where it meets another broker, that one has taken what lies beyond, so it goes on on the other side; and
//! once it was met on both sides, around another centre.

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::{RngExt, rngs::SmallRng};

use crate::domain::SandboxId;

/// A place on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    pub(super) fn of(sandbox: &SandboxId) -> Self {
        // Two brokers that hash in two ways, between two versions, only meet more often.
        let mut hasher = DefaultHasher::new();
        sandbox.hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[derive(Debug)]
pub(super) struct Territory {
    centre: Place,
    /// Whether another broker was met before and behind the centre.
    met: [bool; 2],
    era: Era,
}

/// What was begun in an earlier era tells nothing of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Era(u64);

impl Territory {
    pub(super) fn new(rng: &mut SmallRng) -> Self {
        Self {
            centre: Place(rng.random()),
            met: [false; 2],
            era: Era::default(),
        }
    }

    pub(super) const fn era(&self) -> Era {
        self.era
    }

    /// The smaller, the better to take.
    pub(super) fn remoteness(&self, place: Place) -> u64 {
        // Half of the ring at the most, so the highest bit is free. No branches: this is asked a thousand times a choice.
        let distance = place.0.wrapping_sub(self.centre.0);
        let distance = distance.min(distance.wrapping_neg());
        distance | (u64::from(self.met[self.side(place)]) << 63)
    }

    /// An attempt of that era was for nothing there.
    pub(super) fn meet(&mut self, place: Place, era: Era, rng: &mut SmallRng) {
        if era == self.era {
            self.met[self.side(place)] = true;
            if self.met == [true; 2] {
                *self = Self {
                    era: Era(self.era.0 + 1),
                    ..Self::new(rng)
                };
            }
        }
    }

    fn side(&self, place: Place) -> usize {
        usize::from(place.0.wrapping_sub(self.centre.0) >> 63 == 1)
    }
}
