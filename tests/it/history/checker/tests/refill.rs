//! Refill and checks: one account for a name, as many as are wanted, none forgotten, and none allocated that is not usable.

use super::{
    super::{super::event::EventKind, Promise},
    accepts,
    builders::{
        acted, at, available, created, done, hidden, new, ordered, ordered_as, pool_set,
        provisioning, set_aside, table, table_with,
    },
    violates,
};

#[test]
fn account_is_created_once_under_a_name() {
    let first = at(0, 1, ordered("s"));
    let second = |name| at(2, 3, ordered_as("t", name, true));
    violates(
        Promise::CreatedOnce,
        &[0, 1],
        &[first.clone(), second("lab-s")],
    );
    accepts(&[first, second("lab-t")]);
}

#[test]
fn no_more_accounts_are_created_than_wanted() {
    let history = |target, between| {
        [
            at(0, 1, pool_set(target)),
            at(2, 3, ordered("s")),
            at(4, 5, between),
            at(6, 7, ordered("t")),
            at(8, 9, table([provisioning("s")])),
        ]
    };
    let nothing = || table([]);
    violates(Promise::Wanted, &[1, 3, 4], &history(1, nothing()));
    accepts(&history(2, nothing()));
    // A larger target was set by then, even if it is no longer in force.
    accepts(&history(1, pool_set(2)));
    // A sandbox that is aside does not count.
    let quarantined = acted("s", "quarantine", "quarantined", None, None);
    accepts(&history(1, quarantined));
    accepts(&history(1, hidden("s")));
    accepts(&history(1, EventKind::ListsBroken));
    // The first one may have been used by then.
    accepts(&[
        at(0, 1, pool_set(1)),
        at(2, 3, ordered("s")),
        at(4, 5, new("p", "s", 4)),
        at(6, 7, ordered("t")),
    ]);
    // It is still new after the second one was created.
    violates(
        Promise::Wanted,
        &[1, 2, 3],
        &[
            at(0, 1, pool_set(1)),
            at(2, 3, ordered("s")),
            at(4, 5, ordered("t")),
            at(6, 7, new("p", "s", 6)),
        ],
    );
}

#[test]
fn new_sandbox_is_allocated_only_if_its_account_is_usable() {
    let history = |is_usable| {
        [
            at(0, 1, ordered_as("s", "lab-s", is_usable)),
            at(2, 3, new("p", "s", 2)),
        ]
    };
    violates(Promise::Usable, &[0, 1], &history(false));
    accepts(&history(true));
}

#[test]
fn sandbox_that_a_check_has_set_aside_is_not_allocated() {
    let aside = at(2, 3, table([set_aside("s")]));
    let first = at(0, 1, ordered_as("s", "lab-s", true));
    let held = at(6, 7, new("p", "s", 6));
    violates(
        Promise::SetAside,
        &[1, 2],
        &[first.clone(), aside.clone(), held.clone()],
    );
    let restored = acted("s", "restore", "available", None, None);
    accepts(&[first.clone(), aside, at(4, 5, restored), held.clone()]);
    accepts(&[first, at(2, 6, table([set_aside("s")])), held]);
}

#[test]
fn check_sets_aside_only_accounts_that_are_not_usable() {
    let history = |account, between| {
        [
            at(0, 1, account),
            at(2, 3, table([available("s")])),
            at(4, 5, between),
            at(6, 7, table([set_aside("s")])),
        ]
    };
    let nothing = || table([]);
    violates(
        Promise::SetAside,
        &[1, 3],
        &history(created("s", "lab-s"), nothing()),
    );
    violates(
        Promise::SetAside,
        &[1, 3],
        &history(ordered("s"), nothing()),
    );
    accepts(&history(ordered_as("s", "lab-s", false), nothing()));
    accepts(&history(created("s", "lab-s"), hidden("s")));
    accepts(&[
        at(0, 1, ordered("s")),
        at(2, 3, table([provisioning("s")])),
        at(6, 7, table([set_aside("s")])),
    ]);
}

#[test]
fn no_creation_is_forgotten() {
    let settled = |open: &[&str]| EventKind::Creations {
        open: open.iter().map(|name| (*name).to_owned()).collect(),
    };
    violates(
        Promise::NotForgotten,
        &[0],
        &[at(0, 1, settled(&["lab-r000001 attempted"]))],
    );
    let history = |table| {
        [
            at(0, 1, ordered("s")),
            at(2, 3, settled(&[])),
            at(4, 5, table),
        ]
    };
    violates(Promise::NotForgotten, &[0, 1, 2], &history(table([])));
    violates(
        Promise::NotForgotten,
        &[0, 1, 2],
        &history(table([provisioning("s")])),
    );
    accepts(&history(table([available("s")])));
    accepts(&history(table([set_aside("s")])));
    accepts(&history(table_with([], [], ["s"])));
    accepts(&[
        at(0, 1, ordered("s")),
        at(1, 2, new("p", "s", 1)),
        at(2, 3, done("p", "s", 2)),
        at(3, 4, super::builders::deleted("s")),
        at(5, 6, settled(&[])),
        at(7, 8, table([])),
    ]);
}
