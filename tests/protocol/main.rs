//! A model of the allocation protocol that explores every interleaving of three clients, two sandboxes and all jobs.
//!
//! A state is the table, the local state of each request, and the writes in flight. A step is one atomic operation of the
//! table, as the broker makes it. Where the broker's knowledge may be outdated, the model lets it be arbitrarily wrong:
//! every sandbox is a candidate at any time, every change of a job is tried at any time, an allocation is overdue whenever
//! that matters, and a write may arrive late and more than once. So the promises rest only on the conditions of the
//! writes. The model also shows that a promise breaks without any one of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic fails the test, also in its helpers"
)]
#![allow(missing_docs, unreachable_pub, reason = "no crate depends on this one")]

mod changes;
mod explorer;
mod model;
mod promise;
mod state;
mod step;

use std::{collections::BTreeSet, time::Instant};

use explorer::explore;
use model::Protocol;
use promise::Condition;
use state::{Item, LONG_GONE, State};
use step::Step;

/// The initial states: a full pool, one that a sync will fill, one from a service without tombstones, and one with a
/// leftover claim of the first pair.
const INITIAL: [([Item; 2], Option<u8>); 4] = [
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
    for (items, claim) in INITIAL {
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
        "not every kind of step was taken: {taken:?}"
    );
}

#[test]
fn a_promise_breaks_without_any_one_condition() {
    for condition in Condition::ALL {
        let protocol = Protocol::without(condition);
        let broken = INITIAL
            .into_iter()
            .find_map(|(items, claim)| explore(&protocol, State::with(items, claim)).broken);
        let broken = broken.unwrap_or_else(|| panic!("no promise breaks without {condition:?}"));
        println!(
            "without {condition:?}: {} ({} steps)",
            broken.promise,
            broken.steps.len()
        );
    }
}
