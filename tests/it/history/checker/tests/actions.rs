//! Actions of operators: ends of allocations, extensions, quarantine.

use super::{
    super::{
        super::event::{ActAnswer, AllocateAnswer, EventKind, RELEASE_LISTED, ReleaseAnswer},
        Promise,
    },
    accepts,
    builders::{
        GRACE, HOURS_4, T0, acted, advance, allocate, at, available, created, deleted, found, get,
        grant, held, new, none_left, not_acted, pending, release, table,
    },
    violates,
};

const HOUR: i64 = 3600;

fn refused(sandbox: &str, action: &str) -> EventKind {
    not_acted(sandbox, action, ActAnswer::Refused("SANDBOX_STALE".into()))
}

fn unanswered(sandbox: &str, action: &str) -> EventKind {
    not_acted(sandbox, action, ActAnswer::Unknown("reset".into()))
}

/// A replay that shows another end of the allocation.
fn replayed_until(caller: &str, sandbox: &str, end: i64) -> EventKind {
    let mut grant = grant(sandbox, T0);
    grant.expires_at = T0 + end;
    allocate(caller, AllocateAnswer::Replayed(grant))
}

#[test]
fn operator_ends_an_allocation_by_a_release_or_a_quarantine_that_may_have_been_done() {
    let first = at(0, 1, new("p", "a", 0));
    let second = at(5, 6, new("p", "b", 5));
    let ends = [
        ("release", "pending_deletion"),
        (RELEASE_LISTED, "pending_deletion"),
        ("quarantine", "quarantined"),
    ];
    for (action, status) in ends {
        let done = acted("a", action, status, Some("p"), Some(HOURS_4));
        accepts(&[first.clone(), at(2, 3, done), second.clone()]);
        accepts(&[
            first.clone(),
            at(2, 3, unanswered("a", action)),
            second.clone(),
        ]);
        violates(
            Promise::OneSandbox,
            &[0, 2],
            &[
                first.clone(),
                at(2, 3, refused("a", action)),
                second.clone(),
            ],
        );
    }
    violates(
        Promise::OneSandbox,
        &[0, 2],
        &[first, at(2, 3, unanswered("a", "extend")), second],
    );
}

#[test]
fn sandbox_that_a_holder_lost_in_quarantine_never_returns() {
    let first = at(0, 1, new("p", "s", 0));
    let aside = at(
        2,
        3,
        acted("s", "quarantine", "quarantined", Some("p"), Some(HOURS_4)),
    );
    let back = acted("s", "restore", "available", Some("p"), Some(HOURS_4));
    violates(
        Promise::States,
        &[1, 2],
        &[first.clone(), aside.clone(), at(4, 5, back)],
    );
    violates(
        Promise::NeverReused,
        &[1, 2],
        &[first, aside, at(4, 5, new("p", "s", 0))],
    );
    // One that never had a holder does.
    let aside = at(0, 1, acted("s", "quarantine", "quarantined", None, None));
    let back = at(2, 3, acted("s", "restore", "available", None, None));
    accepts(&[aside, back, at(4, 5, new("p", "s", 4))]);
}

#[test]
fn extended_allocation_is_held_until_its_last_end() {
    let first = at(0, 1, new("p", "a", 0));
    let extended = at(
        2,
        3,
        acted("a", "extend", "allocated", Some("p"), Some(9 * HOUR)),
    );
    let later = at(4, 5, advance(4, HOURS_4 + GRACE + 60));
    let second = at(6, 7, new("p", "b", HOURS_4 + GRACE + 62));
    accepts(&[first.clone(), later.clone(), second.clone()]);
    violates(
        Promise::OneSandbox,
        &[0, 1, 3],
        &[first.clone(), extended.clone(), later.clone(), second],
    );
    let retired = at(6, 7, table([pending("a", "p", 0, 0)]));
    accepts(&[first.clone(), later.clone(), retired.clone()]);
    violates(
        Promise::Lease,
        &[0, 3],
        &[
            first.clone(),
            extended.clone(),
            later.clone(),
            retired.clone(),
        ],
    );
    let at_last = at(5, 5, advance(5, 9 * HOUR + GRACE + 60));
    accepts(&[first.clone(), extended.clone(), at_last, retired]);
    let expired = at(6, 7, release("p", "a", ReleaseAnswer::Expired));
    accepts(&[first.clone(), later.clone(), expired.clone()]);
    violates(
        Promise::Release,
        &[1, 3],
        &[first, extended, later, expired],
    );
}

#[test]
fn end_of_an_allocation_changes_only_by_an_extension_and_only_to_a_later_time() {
    let first = at(0, 1, new("p", "s", 0));
    let extended = at(
        2,
        3,
        acted("s", "extend", "allocated", Some("p"), Some(5 * HOUR)),
    );
    let shown = |end: i64| at(4, 5, replayed_until("p", "s", end));
    accepts(&[first.clone(), extended.clone(), shown(5 * HOUR)]);
    accepts(&[
        first.clone(),
        at(2, 3, unanswered("s", "extend")),
        shown(6 * HOUR),
    ]);
    accepts(&[
        first.clone(),
        at(2, 3, unanswered("s", "extend")),
        shown(HOURS_4),
    ]);
    violates(
        Promise::Agreement,
        &[0, 1],
        &[first.clone(), shown(5 * HOUR)],
    );
    violates(
        Promise::Agreement,
        &[0, 2],
        &[
            first.clone(),
            at(2, 3, refused("s", "extend")),
            shown(5 * HOUR),
        ],
    );
    violates(
        Promise::Agreement,
        &[0, 2],
        &[first.clone(), extended.clone(), shown(6 * HOUR)],
    );
    violates(
        Promise::Get,
        &[1, 2],
        &[
            first,
            extended,
            at(4, 5, get("p", "s", found("allocated", 0))),
        ],
    );
}

#[test]
fn listed_allocation_is_not_released_after_an_extension() {
    let first = at(0, 1, new("p", "s", 0));
    let extended = acted("s", "extend", "allocated", Some("p"), Some(9 * HOUR));
    let released = acted("s", RELEASE_LISTED, "pending_deletion", None, Some(HOURS_4));
    let released = at(4, 5, released);
    accepts(&[first.clone(), released.clone()]);
    violates(
        Promise::Agreement,
        &[1, 2],
        &[first.clone(), at(2, 3, extended), released.clone()],
    );
    accepts(&[first, at(2, 3, refused("s", "extend")), released]);
}

#[test]
fn sandbox_that_an_operator_took_out_of_use_need_not_be_offered() {
    let there = at(0, 1, table([available("s")]));
    let refusal = at(20, 21, none_left("p"));
    let still = at(30, 31, table([available("s")]));
    violates(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[there.clone(), refusal.clone(), still.clone()],
    );
    for action in ["quarantine", "delete"] {
        accepts(&[
            there.clone(),
            at(2, 3, unanswered("s", action)),
            refusal.clone(),
            still.clone(),
        ]);
    }
    violates(
        Promise::NoneLeft,
        &[0, 2, 3],
        &[there, at(2, 3, refused("s", "quarantine")), refusal, still],
    );
}

#[test]
fn account_of_a_sandbox_without_a_holder_is_deleted_only_if_an_operator_deleted_it() {
    let made = at(0, 1, created("s", "lab-s"));
    let gone = at(4, 5, deleted("s"));
    violates(
        Promise::Deletion,
        &[2],
        &[made.clone(), at(2, 3, refused("s", "delete")), gone.clone()],
    );
    let done = acted("s", "delete", "pending_deletion", None, None);
    accepts(&[made.clone(), at(2, 3, done), gone.clone()]);
    accepts(&[made, at(2, 3, unanswered("s", "delete")), gone]);
    violates(
        Promise::Deletion,
        &[0, 2],
        &[
            at(0, 1, new("p", "s", 0)),
            at(2, 3, refused("s", "release")),
            at(4, 5, deleted("s")),
        ],
    );
    accepts(&[
        at(0, 1, table([held("s", "p", 0)])),
        at(
            2,
            3,
            acted("s", "release", "pending_deletion", Some("p"), Some(HOURS_4)),
        ),
        at(4, 5, deleted("s")),
    ]);
}
