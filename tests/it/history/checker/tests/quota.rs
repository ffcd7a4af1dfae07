//! Quotas: a lab holds at most the largest that may be obeyed, and is not refused below it.

use super::{
    super::{
        super::event::{AllocateAnswer, EventKind},
        Promise, check,
    },
    accepts,
    builders::{allocate, at, available, done, found, get, new, policy, replaced, replayed, table},
    violates,
};

fn lab_full(caller: &str) -> EventKind {
    allocate(caller, AllocateAnswer::LabFull)
}

#[test]
fn lab_holds_at_most_its_quota() {
    let quota = at(0, 1, policy(Some(1), 3));
    let first = at(20, 21, new("p", "a", 20));
    let second = at(22, 23, new("q", "b", 22));
    violates(
        Promise::Quota,
        &[1, 2],
        &[quota.clone(), first.clone(), second.clone()],
    );
    accepts(&[at(0, 1, policy(Some(2), 3)), first.clone(), second.clone()]);
    accepts(&[at(0, 1, policy(None, 3)), first.clone(), second.clone()]);
    accepts(&[first.clone(), second.clone()]);
    // The first one may have been released before.
    accepts(&[
        quota.clone(),
        first.clone(),
        at(22, 24, done("p", "a", 22)),
        at(22, 23, new("q", "b", 22)),
    ]);
    // An allocation whose answer was lost counts as soon as a replay shows it.
    violates(
        Promise::Quota,
        &[1, 2],
        &[quota, at(20, 21, replayed("p", "a", 20)), second],
    );
}

#[test]
fn earlier_quota_may_be_obeyed_for_a_while_and_later_allocations_count() {
    let first = at(20, 21, new("p", "a", 20));
    let second = at(25, 26, new("q", "b", 25));
    let lowered = at(22, 23, policy(Some(1), 3));
    accepts(&[
        at(0, 1, policy(Some(2), 3)),
        first.clone(),
        lowered.clone(),
        second.clone(),
    ]);
    // More than the lowered quota, but allocated before it: only a new allocation is wrong.
    accepts(&[
        at(0, 1, policy(Some(2), 3)),
        first.clone(),
        second.clone(),
        lowered.clone(),
        at(40, 41, get("p", "a", found("allocated", 20))),
    ]);
    violates(
        Promise::Quota,
        &[1, 3],
        &[
            at(0, 1, policy(Some(2), 3)),
            first,
            lowered,
            at(45, 46, new("r", "c", 45)),
        ],
    );
}

#[test]
fn replacement_is_no_further_allocation_of_its_lab() {
    let quota = at(0, 1, policy(Some(1), 3));
    let first = at(20, 21, new("p", "a", 20));
    let second = at(22, 23, replaced("p", "a", "b", 22));
    accepts(&[quota.clone(), first.clone(), second.clone()]);
    violates(
        Promise::Quota,
        &[2, 3],
        &[quota, first, second, at(24, 25, new("q", "c", 24))],
    );
}

#[test]
fn lab_is_refused_only_at_its_quota() {
    let refused = at(30, 31, lab_full("q"));
    violates(Promise::Quota, &[0], std::array::from_ref(&refused));
    violates(
        Promise::Quota,
        &[1],
        &[at(0, 1, policy(None, 3)), refused.clone()],
    );
    let quota = at(0, 1, policy(Some(1), 3));
    accepts(&[quota.clone(), refused.clone()]);
    // In the calm phase the history shows every allocation.
    let calm = at(20, 20, EventKind::Calm);
    let none = at(21, 22, table([available("c")]));
    let history = [quota.clone(), calm.clone(), none.clone(), refused.clone()];
    let violation = check(&history).unwrap_err();
    assert_eq!(
        (violation.promise, violation.events),
        (Promise::Quota, vec![1, 2, 3])
    );
    accepts(&[
        quota.clone(),
        calm.clone(),
        none,
        at(25, 26, new("p", "a", 25)),
        refused.clone(),
    ]);
    // A pair that holds a sandbox gets it.
    violates(
        Promise::Replay,
        &[1, 2],
        &[quota, at(20, 21, new("q", "a", 20)), refused],
    );
}
