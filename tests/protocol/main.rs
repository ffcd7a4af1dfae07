//! A model of the protocol that explores every interleaving: of three clients, two sandboxes and all jobs, and of refill.
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
mod leases;
mod model;
mod promise;
mod protocol;
mod quota;
mod refill;
mod state;
mod step;

use std::{collections::BTreeSet, time::Instant};

use explorer::{Model, explore};
use promise::Condition;
use protocol::Protocol;
use quota::Slots;
use refill::Refill;
use state::{Claim, Item, LONG_GONE, State};
use step::{Part, Step};

/// The initial states of the pool: a full one, one that a sync will fill, one from a service without tombstones, and one
/// with a leftover claim of the first pair.
fn pools() -> Vec<State> {
    [
        ([Item::Available, Item::Available], None),
        ([Item::Available, Item::Absent], None),
        ([Item::Available, Item::UsedAndStale], None),
        (
            [Item::Available, Item::Available],
            Some(Claim::to(LONG_GONE)),
        ),
    ]
    .map(|(items, claim)| State::with(items, claim))
    .into()
}

/// The initial states of leases: an allocation of the first pair that may be replaced, one that was replaced as often as
/// the lab allows, and none.
fn leases() -> Vec<State> {
    let held = [Item::Allocated(0), Item::Available];
    let replaced = Claim {
        is_at_maximum: true,
        ..Claim::to(0)
    };
    vec![
        State::with(held, Some(Claim::to(0))),
        State::with(held, Some(replaced)),
        State::with([Item::Available, Item::Available], None),
    ]
}

/// The initial states of a lab with a quota: without allocations, with one that was made before, and above its quota.
fn quotas() -> Vec<quota::State> {
    vec![
        quota::State::with(0, 2),
        quota::State::with(1, 2),
        quota::State::with(2, 1),
    ]
}

/// The initial states of refill: pools without creations, with a target and with a largest total.
fn refills() -> Vec<refill::State> {
    vec![refill::State::with(1, false), refill::State::with(1, true)]
}

/// Explores the states that can be reached from each of `initial`, and returns the kinds of steps taken.
fn keeps_every_promise<M: Model>(model: &M, initial: Vec<M::State>) -> BTreeSet<&'static str> {
    let began = Instant::now();
    let mut taken = BTreeSet::new();
    let mut states = 0;
    for initial in initial {
        let explored = explore(model, initial);
        if let Some(broken) = explored.broken {
            panic!("{broken}");
        }
        states += explored.states;
        taken.extend(explored.taken);
    }
    println!("{states} states in {:?}", began.elapsed());
    taken
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "scripts/check-model runs it with optimisation"
)]
fn every_interleaving_keeps_every_promise() {
    let mut taken = keeps_every_promise(&Protocol::of(Part::Pool, None), pools());
    taken.extend(keeps_every_promise(
        &Protocol::of(Part::Leases, None),
        leases(),
    ));
    assert_eq!(
        taken.len(),
        Step::KINDS,
        "not every kind of step was taken: {taken:?}"
    );
    let taken = keeps_every_promise(&Slots::of(None), quotas());
    assert_eq!(
        taken.len(),
        Slots::KINDS,
        "not every kind of step was taken: {taken:?}"
    );
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "scripts/check-model runs it with optimisation"
)]
fn every_interleaving_of_refill_keeps_every_promise() {
    let taken = keeps_every_promise(&Refill::of(None), refills());
    assert_eq!(
        taken.len(),
        Refill::KINDS,
        "not every kind of step was taken: {taken:?}"
    );
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "scripts/check-model runs it with optimisation"
)]
fn refill_breaks_a_promise_without_any_one_condition() {
    for condition in Condition::OF_REFILL {
        breaks(condition, &Refill::of(Some(condition)), refills());
    }
}

/// Asserts that a promise breaks if the model has all conditions but one.
fn breaks<M: Model>(condition: Condition, model: &M, initial: Vec<M::State>) {
    let broken = initial
        .into_iter()
        .find_map(|initial| explore(model, initial).broken);
    let broken = broken.unwrap_or_else(|| panic!("no promise breaks without {condition:?}"));
    println!(
        "without {condition:?}: {} ({} steps)",
        broken.promise,
        broken.steps.len()
    );
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "scripts/check-model runs it with optimisation"
)]
fn a_promise_breaks_without_any_one_condition() {
    for condition in Condition::OF_POOL {
        breaks(
            condition,
            &Protocol::of(Part::Pool, Some(condition)),
            pools(),
        );
    }
    for condition in Condition::OF_LEASES {
        breaks(
            condition,
            &Protocol::of(Part::Leases, Some(condition)),
            leases(),
        );
    }
    for condition in Condition::OF_QUOTAS {
        breaks(condition, &Slots::of(Some(condition)), quotas());
    }
}
