//! The protocol itself, in every interleaving: three clients, two sandboxes, and everything that may happen to them.
//!
//! A state is the table, what each request remembers, and the writes that are still on their way. A step is one atomic
//! operation of the table, exactly as the broker makes it. Where the broker's knowledge may be out of date, the model
//! lets it be arbitrarily wrong: every sandbox is a candidate at any time, every change of a job is tried at any time,
//! an allocation is overdue whenever that matters, and a write that was sent may arrive late, and more than once. So
//! what holds here rests on the conditions of the writes and on nothing else. Without any of them something breaks,
//! which the model shows too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, in its helpers too"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody depends on this crate")]

mod explorer;
mod model;
mod promise;
mod state;
mod step;
mod upkeep;

use std::{collections::BTreeSet, time::Instant};

use explorer::explore;
use model::Protocol;
use promise::Condition;
use state::{Item, LONG_GONE, State};
use step::Step;

/// What a pool may begin with: one that a sync is about to fill, one as a service without tombstones left it, and one
/// where the first pair's claim is left over.
const BEGINNINGS: [([Item; 2], Option<u8>); 4] = [
    ([Item::Available, Item::Available], None),
    ([Item::Available, Item::Absent], None),
    ([Item::Available, Item::UsedAndStale], None),
    ([Item::Available, Item::Available], Some(LONG_GONE)),
];

#[test]
fn every_interleaving_keeps_every_promise() {
    let began = Instant::now();
    let mut taken = BTreeSet::new();
    let mut states = 0;
    for (items, claim) in BEGINNINGS {
        let explored = explore(&Protocol::whole(), State::with(items, claim));
        if let Some(broken) = explored.broken {
            panic!("{broken}");
        }
        states += explored.states;
        taken.extend(explored.taken);
    }
    println!("{states} states in {:?}", began.elapsed());
    assert_eq!(
        taken.len(),
        Step::KINDS,
        "each kind of step is taken: {taken:?}"
    );
}

#[test]
fn no_condition_can_be_left_out() {
    for condition in Condition::ALL {
        let protocol = Protocol::without(condition);
        let broken = BEGINNINGS
            .into_iter()
            .find_map(|(items, claim)| explore(&protocol, State::with(items, claim)).broken);
        let broken = broken.unwrap_or_else(|| panic!("{condition:?} is not needed"));
        println!(
            "without {condition:?}: {} ({} steps)",
            broken.promise,
            broken.steps.len()
        );
    }
}
