//! Quotas of labs: how many sandboxes each lab holds, and which slots its next allocation may take.

use std::collections::{BTreeSet, HashMap};

use super::{LabId, Policy};

/// The allocated sandboxes, by lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabsHeld {
    /// All of them, also those without a lab.
    pub total: u64,
    /// Those of each lab that holds some.
    pub labs: HashMap<Box<str>, Held>,
}

/// The sandboxes that a lab holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All of them.
    pub total: u64,
    /// Those that were allocated while the lab had no quota, or by a version without quotas.
    pub without_slot: u64,
}

impl LabsHeld {
    /// Counts an allocated sandbox. An empty text is no lab.
    pub fn add(&mut self, lab: Option<&str>, has_slot: bool) {
        self.total += 1;
        let Some(lab) = lab.filter(|lab| !lab.is_empty()) else {
            return;
        };
        // Most sandboxes are of labs that were counted before, so the id is rarely copied.
        if !self.labs.contains_key(lab) {
            self.labs.insert(lab.into(), Held::default());
        }
        if let Some(held) = self.labs.get_mut(lab) {
            held.total += 1;
            held.without_slot += u64::from(!has_slot);
        }
    }

    /// Returns the sandboxes that a lab holds.
    #[must_use]
    pub fn of(&self, lab: &str) -> Held {
        self.labs.get(lab).copied().unwrap_or_default()
    }
}

/// The name that stands for the labs that are not counted by themselves, and for sandboxes held without a lab.
pub const OTHER_LABS: &str = "other";

/// The maximum number of labs whose sandboxes are counted by themselves. Clients choose the ids of labs that match a
/// pattern of the policy.
const MAX_LABS: usize = 200;

/// The sandboxes that a lab holds, beside its quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabUsage {
    /// The lab, or [`OTHER_LABS`].
    pub lab: LabId,
    /// The sandboxes that it holds.
    pub held: u64,
    /// How many it may hold; `None` without a quota.
    pub max_held: Option<u32>,
}

impl LabsHeld {
    /// Returns the usage of the labs that the policy names, if they hold sandboxes or have a quota of their own, ordered by
    /// id. At the end is that of all others together, if they hold any. Of too many labs those are left that hold most.
    #[must_use]
    pub fn usage(&self, policy: &Policy) -> Vec<LabUsage> {
        let with_quota = policy.quotas().map(|(lab, _)| (lab.clone(), 0));
        let holding = self
            .labs
            .iter()
            .map(|(lab, held)| (LabId::stored(&**lab), held.total));
        let mut labs: HashMap<LabId, u64> = with_quota.collect();
        labs.extend(holding.filter(|(lab, _)| policy.names(lab)));
        labs.remove(OTHER_LABS);
        let mut labs: Vec<_> = labs.into_iter().collect();
        labs.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        labs.truncate(MAX_LABS);
        labs.sort_unstable();
        let counted: u64 = labs.iter().map(|(_, held)| held).sum();
        let others = self.total - counted;
        let usage = |(lab, held)| LabUsage {
            max_held: policy.terms_of(Some(&lab)).max_held,
            lab,
            held,
        };
        let others = (others > 0).then(|| LabUsage {
            lab: LabId::stored(OTHER_LABS),
            held: others,
            max_held: None,
        });
        labs.into_iter().map(usage).chain(others).collect()
    }
}

/// Returns the slots that a lab's next allocations may take, in ascending order: of the free slots below `max`, the lowest
/// ones, as many as the lab may still hold. `taken` are the slots whose allocations have not ended, whatever their numbers,
/// and `without_slot` counts the allocations that have none.
///
/// With these slots a lab never exceeds its quota, however old the knowledge of each broker is. Slots beyond the permitted
/// ones only become free, so what a broker knows of them is never less than what is true later, and a slot that was ever
/// permitted remains so. That holds from the time when every broker knows the quota, and has read the slots since.
pub fn permitted_slots(
    max: u32,
    taken: &BTreeSet<u32>,
    without_slot: u64,
) -> impl Iterator<Item = u32> {
    let held = u64::try_from(taken.len()).unwrap_or(u64::MAX);
    let left = u64::from(max).saturating_sub(held.saturating_add(without_slot));
    (0..max)
        .filter(|slot| !taken.contains(slot))
        .take(usize::try_from(left).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection, prelude::*};

    use super::*;
    use crate::domain::{LeaseTerms, PolicyDocument};

    #[test]
    fn labs_are_counted_with_their_allocations_without_a_slot() {
        let mut held = LabsHeld::default();
        for (lab, has_slot) in [
            (Some("a"), true),
            (Some("a"), false),
            (Some("b"), true),
            (Some(""), true),
            (None, false),
        ] {
            held.add(lab, has_slot);
        }
        assert_eq!(held.total, 5);
        let counts = |total, without_slot| Held {
            total,
            without_slot,
        };
        assert_eq!(held.of("a"), counts(2, 1));
        assert_eq!(held.of("b"), counts(1, 0));
        assert_eq!(held.of("c"), counts(0, 0));
        assert_eq!(held.labs.len(), 2);
    }

    /// A policy with these quotas.
    fn policy(labs: &serde_json::Value) -> Policy {
        let document = PolicyDocument::parse(&serde_json::json!({ "lab": labs })).unwrap();
        let terms = LeaseTerms {
            lab_duration_hours: 4,
            inherited_hours: 48,
            grace: Duration::ZERO,
        };
        Policy::new(&document, terms)
    }

    fn held(labs: &[(&str, u64)], without_lab: u64) -> LabsHeld {
        let mut held = LabsHeld::default();
        for (lab, count) in labs {
            (0..*count).for_each(|_| held.add(Some(lab), true));
        }
        (0..without_lab).for_each(|_| held.add(None, false));
        held
    }

    fn usage(held: &LabsHeld, policy: &Policy) -> Vec<(String, u64, Option<u32>)> {
        let usage = held.usage(policy).into_iter();
        usage
            .map(|usage| (usage.lab.to_string(), usage.held, usage.max_held))
            .collect()
    }

    #[test]
    fn labs_that_the_policy_names_are_counted_by_themselves() {
        let policy = policy(&serde_json::json!([
            { "id": "b", "max_held": 9 }, { "id": "a" }, { "id": "empty", "max_held": 2 }, { "id": "idle" },
            { "id": "team-*", "max_held": 5 },
        ]));
        let labs = [
            ("b", 3),
            ("a", 2),
            ("unknown", 4),
            ("team-1", 1),
            ("other", 1),
        ];
        assert_eq!(
            usage(&held(&labs, 2), &policy),
            [
                ("a".to_owned(), 2, None),
                ("b".to_owned(), 3, Some(9)),
                ("empty".to_owned(), 0, Some(2)),
                ("team-1".to_owned(), 1, Some(5)),
                ("other".to_owned(), 7, None),
            ]
        );
    }

    #[test]
    fn labs_beyond_the_limit_are_counted_together() {
        let policy = policy(&serde_json::json!([{ "id": "*" }]));
        let mut all = held(&[("many", 3)], 0);
        for lab in 0..MAX_LABS + 9 {
            all.add(Some(&format!("lab-{lab:04}")), true);
        }
        let usage = usage(&all, &policy);
        assert_eq!(usage.len(), MAX_LABS + 1);
        assert!(usage.contains(&("many".to_owned(), 3, None)));
        assert_eq!(usage.last(), Some(&("other".to_owned(), 10, None)));
        let counted: u64 = usage.iter().map(|(_, held, _)| held).sum();
        assert_eq!(counted, all.total);
    }

    fn slots(max: u32, taken: &[u32], without_slot: u64) -> Vec<u32> {
        let taken: BTreeSet<u32> = taken.iter().copied().collect();
        permitted_slots(max, &taken, without_slot).collect()
    }

    #[test]
    fn slots_are_permitted_up_to_the_quota() {
        assert_eq!(slots(4, &[], 0), [0, 1, 2, 3]);
        assert_eq!(slots(4, &[0, 2], 0), [1, 3]);
        assert!(slots(4, &[0, 1, 2, 3], 0).is_empty());
        assert!(slots(0, &[], 0).is_empty());
        let first = permitted_slots(u32::MAX, &BTreeSet::from([0]), 0).next();
        assert_eq!(first, Some(1));
    }

    #[test]
    fn slots_beyond_a_lowered_quota_and_allocations_without_one_count() {
        assert_eq!(slots(4, &[7, 9], 0), [0, 1]);
        assert_eq!(slots(4, &[7, 9], 1), [0]);
        assert!(slots(4, &[1, 7, 9], 1).is_empty());
        assert!(slots(4, &[7, 8, 9, 10, 11], 0).is_empty());
        assert!(slots(4, &[], u64::MAX).is_empty());
    }

    /// A step of one of two brokers, or of the world around them.
    #[derive(Clone, Debug)]
    enum Step {
        /// A broker reads the items of the slots.
        ReadSlots(usize),
        /// A broker reads the sandboxes of the slots that it has read, and knows which are free.
        ReadSandboxes(usize),
        /// A broker takes one of the slots that it believes to be free, if it still is as the broker read it.
        Take(usize, usize),
        /// An allocation with a slot ends.
        End(usize),
        /// An allocation without a slot ends.
        EndWithoutSlot,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            1 => (0..2_usize).prop_map(Step::ReadSlots),
            1 => (0..2_usize).prop_map(Step::ReadSandboxes),
            4 => (0..2_usize, 0..16_usize).prop_map(|(broker, choice)| Step::Take(broker, choice)),
            2 => (0..16_usize).prop_map(Step::End),
            1 => Just(Step::EndWithoutSlot),
        ];
        collection::vec(step, 0..120)
    }

    /// An allocation by its number, and whether it has ended.
    #[derive(Clone, Debug, Default)]
    struct World {
        /// The allocation to which each slot points.
        slots: HashMap<u32, usize>,
        ended: Vec<bool>,
        without_slot: u64,
    }

    impl World {
        fn held(&self) -> u64 {
            let going_on = self.ended.iter().filter(|ended| !**ended).count();
            u64::try_from(going_on).unwrap() + self.without_slot
        }

        fn allocate(&mut self, slot: u32) {
            self.slots.insert(slot, self.ended.len());
            self.ended.push(false);
        }
    }

    #[derive(Clone, Debug, Default)]
    struct View {
        slots_read: HashMap<u32, usize>,
        slots: HashMap<u32, usize>,
        taken: BTreeSet<u32>,
        without_slot: u64,
    }

    impl View {
        fn read_sandboxes(&mut self, world: &World) {
            self.slots.clone_from(&self.slots_read);
            let going_on = self
                .slots
                .iter()
                .filter(|(_, allocation)| !world.ended[**allocation]);
            self.taken = going_on.map(|(slot, _)| *slot).collect();
            self.without_slot = world.without_slot;
        }
    }

    proptest! {
        /// The quota may have been lowered, and there may be allocations without a slot: the slots that are taken at
        /// first have any numbers. Both brokers have read the slots since, at different times.
        #[test]
        fn lab_never_exceeds_its_quota_whatever_the_age_of_each_brokers_knowledge(
            max in 0..8_u32,
            first in collection::btree_set(0..12_u32, 0..12),
            without_slot in 0..6_u64,
            steps in steps(),
        ) {
            let mut world = World { without_slot, ..World::default() };
            for slot in first {
                world.allocate(slot);
            }
            let mut views = [View::default(), View::default()];
            for view in &mut views {
                view.slots_read = world.slots.clone();
                view.read_sandboxes(&world);
            }
            let mut before = world.held();
            for step in steps {
                match step {
                    Step::ReadSlots(broker) => views[broker].slots_read = world.slots.clone(),
                    Step::ReadSandboxes(broker) => views[broker].read_sandboxes(&world),
                    Step::Take(broker, choice) => {
                        let view = &mut views[broker];
                        let free: Vec<_> = permitted_slots(max, &view.taken, view.without_slot).collect();
                        let Some(slot) = free.get(choice % free.len().max(1)).copied() else { continue };
                        if view.slots.get(&slot) == world.slots.get(&slot) {
                            world.allocate(slot);
                            view.slots.insert(slot, world.ended.len() - 1);
                        } else {
                            view.slots.insert(slot, world.slots[&slot]);
                        }
                        view.taken.insert(slot);
                    }
                    Step::End(choice) => {
                        let count = world.ended.len().max(1);
                        if let Some(ended) = world.ended.get_mut(choice % count) {
                            *ended = true;
                        }
                    }
                    Step::EndWithoutSlot => world.without_slot = world.without_slot.saturating_sub(1),
                }
                let held = world.held();
                prop_assert!(held <= before.max(u64::from(max)), "{held} held, {before} before");
                before = held;
            }
        }

        /// Otherwise a refusal would be wrong.
        #[test]
        fn slots_are_permitted_while_the_lab_holds_less_than_its_quota(
            max in 0..8_u32, taken in collection::btree_set(0..12_u32, 0..12), without_slot in 0..6_u64,
        ) {
            let held = u64::try_from(taken.len()).unwrap() + without_slot;
            let permitted = permitted_slots(max, &taken, without_slot).count();
            prop_assert_eq!(u64::try_from(permitted).unwrap(), u64::from(max).saturating_sub(held));
        }
    }
}
