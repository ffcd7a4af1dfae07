use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{collection, prelude::*};
use tokio::time::Instant;

use super::view::{Choice, Quota, View};
use crate::store::{AllocationRef, AllocationStates, StoredSlot};

const SETTLING: Duration = Duration::from_secs(15);

fn allocation(number: i64) -> AllocationRef {
    AllocationRef {
        sandbox_id: format!("sandbox-{number}"),
        allocated_at: number,
    }
}

/// The slots and allocations in the table.
#[derive(Clone, Debug, Default)]
struct Table {
    slots: BTreeMap<u32, AllocationRef>,
    going_on: BTreeSet<i64>,
    made: i64,
}

impl Table {
    /// Makes allocations that take these slots.
    fn with(slots: impl IntoIterator<Item = u32>) -> Self {
        let mut table = Self::default();
        for slot in slots {
            table.allocate(slot);
        }
        table
    }

    fn allocate(&mut self, slot: u32) -> AllocationRef {
        self.made += 1;
        self.slots.insert(slot, allocation(self.made));
        self.going_on.insert(self.made);
        allocation(self.made)
    }

    fn end(&mut self, slot: u32) {
        let allocation = self.slots[&slot].allocated_at;
        self.going_on.remove(&allocation);
    }

    fn stored(&self) -> BTreeMap<u32, StoredSlot> {
        let slots = self.slots.iter();
        slots
            .map(|(slot, target)| (*slot, StoredSlot::Taken(target.clone())))
            .collect()
    }

    fn states(&self) -> AllocationStates {
        let going_on: Vec<_> = self.going_on.iter().copied().map(allocation).collect();
        AllocationStates::only(&going_on)
    }
}

/// A view whose quota is settled, with a clock.
struct Broker {
    view: View,
    now: Instant,
    quota: Quota,
}

impl Broker {
    fn new(max: u32) -> Self {
        let now = Instant::now();
        let quota = Quota { max, policy: 1 };
        Self {
            view: View::new(quota, SETTLING, now),
            now: now + SETTLING,
            quota,
        }
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(1);
        self.now
    }

    fn read(&mut self, table: &Table) {
        let began = self.tick();
        self.view.begin_read();
        self.view.end_read(began, table.stored(), &table.states());
    }

    /// Chooses for a request that begins now.
    fn choose(&mut self, without_slot: u64, choice: usize) -> Choice {
        let since = self.tick();
        self.choose_since(since, without_slot, choice)
    }

    fn choose_since(&mut self, since: Instant, without_slot: u64, choice: usize) -> Choice {
        let now = self.tick();
        let oldest = self.view.oldest_read(self.quota, now);
        let random = |below| choice % below;
        self.view.choose(since, oldest, without_slot, now, random)
    }
}

#[test]
fn slots_are_read_before_the_first_choice() {
    let mut broker = Broker::new(2);
    assert!(matches!(broker.choose(0, 0), Choice::Read(_)));
    broker.read(&Table::default());
    assert_eq!(broker.choose(0, 1), Choice::Take(1, None));
}

#[test]
fn request_is_refused_only_after_a_read_that_began_after_it() {
    let table = Table::with([0, 1]);
    let mut broker = Broker::new(2);
    broker.read(&table);
    let since = broker.tick();
    assert_eq!(broker.choose_since(since, 0, 0), Choice::Read(since));
    broker.read(&table);
    assert_eq!(broker.choose_since(since, 0, 0), Choice::Reached(2));
}

#[test]
fn request_waits_while_others_are_taking_the_last_slots() {
    let mut broker = Broker::new(1);
    broker.read(&Table::default());
    assert_eq!(broker.choose(0, 0), Choice::Take(0, None));
    assert_eq!(broker.choose(0, 0), Choice::Wait);
    assert!(broker.view.release(0));
    assert_eq!(broker.choose(0, 0), Choice::Take(0, None));
}

#[test]
fn slot_of_an_ended_allocation_is_taken_as_it_was_read() {
    let mut table = Table::with([0]);
    table.end(0);
    let mut broker = Broker::new(1);
    broker.read(&table);
    assert_eq!(broker.choose(0, 0), Choice::Take(0, Some(allocation(1))));
}

#[test]
fn unreadable_slot_counts_as_taken() {
    let mut broker = Broker::new(2);
    let since = broker.tick();
    let began = broker.tick();
    let stored = BTreeMap::from([(0, StoredSlot::Unreadable)]);
    broker.view.begin_read();
    broker
        .view
        .end_read(began, stored, &AllocationStates::default());
    assert_eq!(broker.choose(0, 0), Choice::Take(1, None));
    broker.view.took(1, allocation(1));
    broker.view.release(1);
    assert_eq!(broker.choose_since(since, 0, 0), Choice::Reached(2));
}

#[test]
fn allocations_without_a_slot_count() {
    let mut broker = Broker::new(3);
    let since = broker.tick();
    broker.read(&Table::with([0]));
    assert_eq!(broker.choose_since(since, 2, 0), Choice::Reached(3));
    assert_eq!(broker.choose_since(since, 5, 0), Choice::Reached(6));
    assert_eq!(broker.choose(1, 0), Choice::Take(1, None));
}

#[test]
fn ended_allocation_is_not_read_again() {
    let mut table = Table::with([0, 1]);
    table.end(0);
    let mut broker = Broker::new(3);
    broker.read(&table);
    let stored = table.stored();
    let unknown = |view: &View| view.unknown(&stored).cloned().collect::<Vec<_>>();
    assert_eq!(unknown(&broker.view), [allocation(2)]);
    // Another broker has taken the slot again.
    table.allocate(0);
    let stored = table.stored();
    assert_eq!(broker.view.unknown(&stored).count(), 2);
}

#[test]
fn outcome_of_an_attempt_is_newer_than_a_read_that_was_in_progress() {
    let mut broker = Broker::new(2);
    broker.read(&Table::default());
    let mut table = Table::default();
    broker.view.begin_read();
    let (began, read) = (broker.tick(), table.clone());
    assert_eq!(broker.choose(0, 0), Choice::Take(0, None));
    broker.view.took(0, table.allocate(0));
    broker.view.release(0);
    broker.view.end_read(began, read.stored(), &read.states());
    assert_eq!(broker.choose(0, 0), Choice::Take(1, None));
}

#[test]
fn slots_are_read_again_some_time_after_another_broker_was_seen() {
    let mut broker = Broker::new(3);
    broker.read(&Table::default());
    assert_eq!(broker.choose(0, 0), Choice::Take(0, None));
    let other = StoredSlot::Taken(allocation(1));
    broker.view.found(0, Some(other));
    broker.view.release(0);
    assert_eq!(broker.choose(0, 0), Choice::Take(1, None));
    broker.view.release(1);
    broker.now += Duration::from_secs(11);
    assert!(matches!(broker.choose(0, 0), Choice::Read(_)));
    broker.read(&Table::with([0]));
    assert_eq!(broker.choose(0, 0), Choice::Take(1, None));
}

#[test]
fn slots_are_read_again_while_a_new_quota_settles_and_once_after() {
    let mut broker = Broker::new(3);
    broker.read(&Table::default());
    broker.now += Duration::from_hours(24);
    assert_eq!(broker.choose(0, 0), Choice::Take(0, None));
    broker.quota = Quota { max: 2, policy: 2 };
    for age in [0, 6, 6] {
        broker.now += Duration::from_secs(age);
        assert!(matches!(broker.choose(0, 0), Choice::Read(_)), "{age}");
        broker.read(&Table::default());
        assert_eq!(broker.choose(0, 0), Choice::Take(1, None));
        broker.view.release(1);
    }
    broker.now += SETTLING;
    assert!(matches!(broker.choose(0, 0), Choice::Read(_)));
    broker.read(&Table::default());
    broker.now += Duration::from_hours(24);
    assert_eq!(broker.choose(0, 0), Choice::Take(1, None));
}

#[test]
fn read_that_began_before_an_attempt_tells_that_the_allocation_it_found_has_ended() {
    let mut table = Table::with([0]);
    table.end(0);
    let mut broker = Broker::new(1);
    broker.read(&table);
    assert!(matches!(broker.choose(0, 0), Choice::Take(0, _)));
    let by_another_broker = table.allocate(0);
    table.end(0);
    let (since, began) = (broker.tick(), broker.tick());
    broker.view.begin_read();
    let stored = StoredSlot::Taken(by_another_broker.clone());
    broker.view.found(0, Some(stored));
    broker.view.release(0);
    let (slots, states) = (table.stored(), table.states());
    broker.view.end_read(began, slots, &states);
    let free = Choice::Take(0, Some(by_another_broker));
    assert_eq!(broker.choose_since(since, 0, 0), free);
}

#[test]
fn equal_quota_of_another_policy_settles_as_a_new_one() {
    let mut broker = Broker::new(1);
    broker.read(&Table::default());
    broker.now += Duration::from_hours(24);
    broker.quota.policy = 3;
    assert!(matches!(broker.choose(0, 0), Choice::Read(_)));
}

#[test]
fn request_of_an_earlier_policy_does_not_bring_its_quota_back() {
    let mut broker = Broker::new(3);
    let earlier = broker.quota;
    broker.quota = Quota { max: 1, policy: 2 };
    broker.choose(0, 0);
    broker.read(&Table::with([0]));
    let now = broker.tick();
    let oldest = broker.view.oldest_read(earlier, now);
    assert!(broker.view.read().is_some_and(|read| read >= oldest));
    let since = broker.view.read().unwrap();
    let choice = broker.view.choose(since, oldest, 0, now, |_| 0);
    assert_eq!(choice, Choice::Reached(1));
}

/// A step of one of two brokers, or of a holder.
#[derive(Clone, Debug)]
enum Step {
    BeginRead(usize),
    EndRead(usize),
    Reserve(usize, usize),
    /// A broker makes the attempt of its oldest reservation, or only drops it.
    Attempt(usize, bool),
    End(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let broker = 0..2_usize;
    let step = prop_oneof![
        1 => broker.clone().prop_map(Step::BeginRead),
        1 => broker.clone().prop_map(Step::EndRead),
        3 => (broker.clone(), 0..16_usize).prop_map(|(broker, choice)| Step::Reserve(broker, choice)),
        3 => (broker, prop::bool::weighted(0.9)).prop_map(|(broker, is_made)| Step::Attempt(broker, is_made)),
        2 => (0..16_usize).prop_map(Step::End),
    ];
    collection::vec(step, 0..150)
}

/// The progress of one of two brokers.
struct Running {
    broker: Broker,
    /// The read in progress.
    read: Option<(Instant, Table)>,
    reserved: Vec<(u32, Option<AllocationRef>)>,
}

impl Running {
    fn attempt(&mut self, table: &mut Table, is_made: bool) {
        if self.reserved.is_empty() {
            return;
        }
        let (slot, leftover) = self.reserved.remove(0);
        let view = &mut self.broker.view;
        if !is_made {
            // The request ended before.
        } else if table.slots.get(&slot) == leftover.as_ref() {
            view.took(slot, table.allocate(slot));
        } else {
            view.found(slot, table.slots.get(&slot).cloned().map(StoredSlot::Taken));
        }
        view.release(slot);
    }
}

proptest! {
    /// At first the slots may have any numbers, also beyond the quota, which was lowered.
    #[test]
    fn two_brokers_never_exceed_the_quota_and_use_it_wholly(
        max in 1..6_u32, first in collection::btree_set(0..9_u32, 0..9), steps in steps(),
    ) {
        let mut table = Table::with(first);
        let mut brokers = [(), ()].map(|()| {
            let mut broker = Broker::new(max);
            broker.read(&table);
            Running { broker, read: None, reserved: Vec::new() }
        });
        let mut before = table.going_on.len();
        let limit = usize::try_from(max).unwrap();
        for step in steps {
            match step {
                Step::BeginRead(n) => {
                    let running = &mut brokers[n];
                    running.broker.view.begin_read();
                    running.read = Some((running.broker.tick(), table.clone()));
                }
                Step::EndRead(n) => {
                    // The sandboxes are read after the slots.
                    if let Some((began, read)) = brokers[n].read.take() {
                        brokers[n].broker.view.end_read(began, read.stored(), &table.states());
                    }
                }
                Step::Reserve(n, choice) => {
                    if let Choice::Take(slot, leftover) = brokers[n].broker.choose(0, choice) {
                        brokers[n].reserved.push((slot, leftover));
                    }
                }
                Step::Attempt(n, is_made) => brokers[n].attempt(&mut table, is_made),
                Step::End(choice) => {
                    let slot = table.slots.keys().nth(choice % table.slots.len().max(1)).copied();
                    if let Some(slot) = slot {
                        table.end(slot);
                    }
                }
            }
            let held = table.going_on.len();
            prop_assert!(held <= before.max(limit), "{held} held, {before} before");
            before = held;
        }
        let [mut running, _] = brokers;
        while !running.reserved.is_empty() {
            running.attempt(&mut table, true);
        }
        let since = running.broker.tick();
        running.broker.read(&table);
        let choice = running.broker.choose_since(since, 0, 0);
        if table.going_on.len() < limit {
            prop_assert!(matches!(choice, Choice::Take(..)), "{choice:?}");
        } else {
            prop_assert_eq!(choice, Choice::Reached(u64::try_from(table.going_on.len()).unwrap()));
        }
    }
}
