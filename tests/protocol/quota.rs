//! The quota of a lab: slots, of which each allocation of the lab takes one.
//!
//! Every attempt may happen at any time, with any sandbox and with whatever a broker has read since the views of all brokers
//! were last known to be new. So a request, its retries and its late copies need no state of their own. To the transaction
//! of an allocation the slot adds a condition, so it can only refuse more: the promises of the other parts stay.

use super::{
    explorer::{Answered, Model},
    promise::{Condition, Promise},
};

const SANDBOXES: u8 = 4;
const SLOTS: u8 = 3;
/// The largest quota.
const LARGEST: u8 = SLOTS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lot {
    Available,
    /// Held by the lab, in a slot or, if it was allocated before the lab had a quota, in none.
    Held {
        slot: Option<u8>,
    },
    /// Released, expired, set aside or replaced. It never has a holder again.
    Retired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    sandboxes: [Lot; SANDBOXES as usize],
    /// The sandbox that each slot points at.
    slots: [Option<u8>; SLOTS as usize],
    /// The quota of the policy.
    max: u8,
    /// Slots with a number below this one are permitted by some view of a broker.
    permitted: u8,
    /// The largest quota that a broker may still obey.
    in_force: u8,
}

impl State {
    /// Returns a state in which the lab holds so many sandboxes without a slot, and none with one.
    pub fn with(held: usize, max: u8) -> Self {
        let mut sandboxes = [Lot::Available; SANDBOXES as usize];
        sandboxes[..held].fill(Lot::Held { slot: None });
        Self {
            sandboxes,
            slots: [None; SLOTS as usize],
            max,
            permitted: 0,
            in_force: max,
        }
    }

    fn lot(&self, sandbox: u8) -> Lot {
        self.sandboxes[usize::from(sandbox)]
    }

    fn is_held(&self, sandbox: u8) -> bool {
        matches!(self.lot(sandbox), Lot::Held { .. })
    }

    fn held(&self) -> usize {
        (0..SANDBOXES).filter(|at| self.is_held(*at)).count()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// `PoolStore::claim` with a slot, which is new, or a leftover that points at a sandbox.
    Allocate {
        sandbox: u8,
        slot: u8,
        leftover: Option<u8>,
    },
    /// A release, an expiry, or anything else that ends an allocation. It writes no slot.
    Retire { sandbox: u8 },
    /// `PoolStore::replace`.
    Replace { old: u8, new: u8 },
    /// The policy is changed. Some brokers know it, and some do not.
    SetQuota { max: u8 },
    /// Every broker obeys the policy, no attempt under an earlier one is under way, and every view has been read since.
    Settle,
}

/// The slots of a lab, with all conditions or without one of them.
pub struct Slots {
    without: Option<Condition>,
}

impl Slots {
    pub const KINDS: usize = 6;

    pub const fn of(without: Option<Condition>) -> Self {
        Self { without }
    }

    fn has(&self, condition: Condition) -> bool {
        self.without != Some(condition)
    }

    /// Returns the number below which a slot is permitted if it is free, by the view of a broker that has just read the state:
    /// so many are free as the lab may still hold.
    fn permitted(&self, state: &State) -> u8 {
        let is_occupied = |slot: u8| {
            let points_at = state.slots[usize::from(slot)];
            points_at.is_some_and(|sandbox| state.is_held(sandbox))
        };
        let without_slot = state
            .sandboxes
            .iter()
            .filter(|lot| **lot == Lot::Held { slot: None })
            .count();
        let others = |k: u8| {
            let higher = (k..SLOTS).filter(|slot| is_occupied(*slot)).count();
            let counted = [
                (higher, Condition::CountHigherSlots),
                (without_slot, Condition::CountWithoutSlot),
            ];
            counted
                .iter()
                .filter(|(_, condition)| self.has(*condition))
                .map(|(count, _)| count)
                .sum::<usize>()
        };
        (0..=state.max)
            .rev()
            .find(|k| usize::from(*k) + others(*k) <= usize::from(state.max))
            .unwrap_or(0)
    }

    fn allocate(
        &self,
        state: &mut State,
        sandbox: u8,
        slot: u8,
        leftover: Option<u8>,
    ) -> Option<Result<(), Promise>> {
        // A view shows a slot as left over once its allocation is over, which it stays.
        let is_over = leftover.is_none_or(|sandbox| state.lot(sandbox) == Lot::Retired);
        if self.has(Condition::SlotIsReadAsOver) && !is_over {
            return None;
        }
        let points_at = state.slots[usize::from(slot)];
        let condition = match leftover {
            None => Condition::SlotMustBeNew,
            Some(_) => Condition::SlotMustBeTheSame,
        };
        let is_permitted = slot < state.permitted || !self.has(Condition::SlotBelowThePermitted);
        let has_slot = is_permitted && (points_at == leftover || !self.has(condition));
        let on_its_own = !self.has(Condition::SlotWithTheAllocation);
        if state.lot(sandbox) != Lot::Available || !(has_slot || on_its_own) {
            return None;
        }
        state.sandboxes[usize::from(sandbox)] = Lot::Held { slot: Some(slot) };
        if has_slot {
            state.slots[usize::from(slot)] = Some(sandbox);
        }
        Some(if state.held() > usize::from(state.in_force) {
            Err(Promise::Quota)
        } else {
            Ok(())
        })
    }

    fn replace(&self, state: &mut State, old: u8, new: u8) -> Option<Result<(), Promise>> {
        let Lot::Held { slot } = state.lot(old) else {
            return None;
        };
        if state.lot(new) != Lot::Available {
            return None;
        }
        state.sandboxes[usize::from(old)] = Lot::Retired;
        state.sandboxes[usize::from(new)] = Lot::Held { slot };
        if let Some(slot) = slot
            && self.has(Condition::SlotMovesOn)
        {
            state.slots[usize::from(slot)] = Some(new);
        }
        Some(Ok(()))
    }
}

impl Model for Slots {
    type State = State;
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let leftovers = || (0..SANDBOXES).map(Some).chain([None]);
        let of_sandbox = |sandbox| {
            let allocations = (0..SLOTS).flat_map(move |slot| {
                leftovers().map(move |leftover| Step::Allocate {
                    sandbox,
                    slot,
                    leftover,
                })
            });
            let replacements = (0..SANDBOXES).map(move |new| Step::Replace { old: sandbox, new });
            let others = allocations.chain(replacements);
            others.chain([Step::Retire { sandbox }])
        };
        (0..SANDBOXES)
            .flat_map(of_sandbox)
            .chain((0..=LARGEST).map(|max| Step::SetQuota { max }))
            .chain([Step::Settle])
            .collect()
    }

    fn take(&self, before: &State, step: Step) -> Option<Result<State, Promise>> {
        let mut state = *before;
        let taken = match step {
            Step::Allocate {
                sandbox,
                slot,
                leftover,
            } => self.allocate(&mut state, sandbox, slot, leftover)?,
            Step::Retire { sandbox } if state.is_held(sandbox) => {
                state.sandboxes[usize::from(sandbox)] = Lot::Retired;
                Ok(())
            }
            Step::Retire { .. } => return None,
            Step::Replace { old, new } => self.replace(&mut state, old, new)?,
            Step::SetQuota { max } => {
                state.max = max;
                state.in_force = state.in_force.max(max);
                Ok(())
            }
            Step::Settle => {
                state.in_force = state.max;
                state.permitted = 0;
                Ok(())
            }
        };
        if let Err(promise) = taken {
            return Some(Err(promise));
        }
        state.permitted = state.permitted.max(self.permitted(&state));
        (state != *before).then_some(Ok(state))
    }

    fn promise_broken_in(&self, _: &State, _: &mut Answered) -> Option<Promise> {
        None
    }

    fn number(state: &State) -> u128 {
        let mut number = 0;
        for lot in state.sandboxes {
            let lot = match lot {
                Lot::Available => 0,
                Lot::Retired => 1,
                Lot::Held { slot: None } => 2,
                Lot::Held { slot: Some(slot) } => 3 + u128::from(slot),
            };
            number = number << 3 | lot;
        }
        for slot in state.slots {
            number = number << 3 | slot.map_or(0, |sandbox| 1 + u128::from(sandbox));
        }
        for bound in [state.max, state.permitted, state.in_force] {
            number = number << 2 | u128::from(bound);
        }
        number
    }

    fn kind(step: Step) -> &'static str {
        match step {
            Step::Allocate { leftover: None, .. } => "allocate in a new slot",
            Step::Allocate { .. } => "allocate in a leftover slot",
            Step::Retire { .. } => "retire",
            Step::Replace { .. } => "replace",
            Step::SetQuota { .. } => "set quota",
            Step::Settle => "settle",
        }
    }
}
