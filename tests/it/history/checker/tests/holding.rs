//! Allocations: one holder, one sandbox per pair, answers that agree, and replays.

use super::{
    super::{
        super::event::{AllocateAnswer, EventKind, Grant, ReleaseAnswer, Row},
        Promise, check,
    },
    accepts,
    builders::{
        GRACE, HOURS_4, T0, advance, allocate, at, available, claim, created, done, found, get,
        grant, held, lost, new, none_left, pending, release, renamed, replayed, table, table_with,
    },
    violates,
};

#[test]
fn sandbox_has_one_holder() {
    let first = at(0, 1, new("p", "s", 0));
    violates(
        Promise::OneHolder,
        &[0, 1],
        &[first.clone(), at(0, 2, new("q", "s", 0))],
    );
    violates(
        Promise::OneHolder,
        &[0, 1],
        &[first.clone(), at(0, 2, new("p", "s", 0))],
    );
    violates(
        Promise::OneHolder,
        &[0, 1],
        &[first.clone(), at(0, 2, table([held("s", "q", 0)]))],
    );
    let mut other_key = replayed("p", "s", 0);
    if let EventKind::Allocate { key, .. } = &mut other_key {
        *key = "another".into();
    }
    violates(
        Promise::OneHolder,
        &[0, 1],
        &[first.clone(), at(2, 3, other_key)],
    );
    accepts(&[
        first,
        at(0, 2, replayed("p", "s", 0)),
        at(3, 4, table([held("s", "p", 0)])),
    ]);
}

#[test]
fn used_sandbox_is_never_allocated_again() {
    let first = at(0, 1, new("p", "s", 0));
    violates(
        Promise::NeverReused,
        &[0, 1],
        &[first.clone(), at(2, 3, new("p", "s", 0))],
    );
    violates(
        Promise::NeverReused,
        &[0, 1],
        &[at(0, 1, replayed("p", "s", 0)), at(2, 3, new("p", "s", 0))],
    );
    // The first event shows the allocation before the second one ended.
    accepts(&[at(0, 1, replayed("p", "s", 0)), at(0, 3, new("p", "s", 0))]);
    accepts(&[
        at(0, 1, table([available("s")])),
        at(2, 3, new("p", "s", 2)),
    ]);
}

#[test]
fn pair_holds_one_sandbox() {
    let first = at(0, 1, new("p", "a", 0));
    let second = at(5, 6, new("p", "b", 5));
    violates(
        Promise::OneSandbox,
        &[0, 1],
        &[first.clone(), second.clone()],
    );
    // A release by another caller, one that was refused and one that came later do not excuse the second sandbox.
    for excuse in [
        at(2, 3, done("q", "c", 2)),
        at(2, 3, release("p", "a", ReleaseAnswer::NotOwner)),
        at(7, 8, done("p", "a", 7)),
    ] {
        let history = [first.clone(), excuse, second.clone()];
        let violation = check(&history).unwrap_err();
        assert!(
            matches!(violation.promise, Promise::OneSandbox | Promise::Release),
            "{violation}"
        );
    }
    for excuse in [
        done("p", "a", 2),
        release("p", "a", ReleaseAnswer::Unknown("reset".into())),
        advance(2, 2 + HOURS_4 + GRACE),
    ] {
        accepts(&[first.clone(), at(2, 3, excuse), second.clone()]);
    }
    // The grace period has to be over, too.
    violates(
        Promise::OneSandbox,
        &[0, 2],
        &[first.clone(), at(2, 3, advance(2, HOURS_4 + 60)), second],
    );
    // The second may have been allocated first.
    accepts(&[
        at(0, 9, new("p", "a", 5)),
        at(1, 2, new("p", "b", 1)),
        at(3, 4, done("p", "b", 3)),
    ]);
    // Time passes without an advanced clock, too.
    let late = u64::try_from(HOURS_4 + GRACE).unwrap();
    accepts(&[first, at(late, late + 1, new("p", "b", HOURS_4 + GRACE))]);
}

#[test]
fn hold_seen_after_another_one_began_overlaps_it() {
    // The release may have taken effect; that the sandbox is held afterwards shows that it did not.
    let unknown = release("p", "a", ReleaseAnswer::Unknown("reset".into()));
    violates(
        Promise::OneSandbox,
        &[0, 2, 3],
        &[
            at(0, 1, new("p", "a", 0)),
            at(2, 3, unknown.clone()),
            at(4, 5, new("p", "b", 4)),
            at(6, 7, get("p", "a", found("allocated", 0))),
        ],
    );
    accepts(&[
        at(0, 1, new("p", "a", 0)),
        at(2, 3, unknown),
        at(4, 6, new("p", "b", 4)),
        at(5, 7, get("p", "a", found("allocated", 0))),
    ]);
}

#[test]
fn two_items_of_a_pair_are_a_violation_only_at_one_moment() {
    let both = table_with(
        [held("a", "p", 0), held("b", "p", 4)],
        [claim("p", "b", 4)],
        [],
    );
    let history = [
        at(0, 1, new("p", "a", 0)),
        at(2, 3, done("p", "a", 2)),
        at(1, 9, both.clone()),
        at(4, 5, new("p", "b", 4)),
    ];
    accepts(&history);
    let violation = check(&[at(0, 1, EventKind::Calm), at(2, 3, both)]).unwrap_err();
    assert_eq!(violation.events, [0, 1]);
    assert!(matches!(
        violation.promise,
        Promise::OneSandbox | Promise::Table
    ));
    violates(
        Promise::OneSandbox,
        &[0, 1],
        &[
            at(0, 1, EventKind::Calm),
            at(
                2,
                3,
                table_with(
                    [held("a", "p", 0), held("b", "p", 0)],
                    [claim("p", "b", 0), claim("p", "a", 0)],
                    [],
                ),
            ),
        ],
    );
}

#[test]
fn retry_returns_the_sandbox_that_its_pair_holds() {
    let first = at(0, 1, new("p", "s", 0));
    violates(
        Promise::Replay,
        &[0, 1],
        &[first.clone(), at(2, 3, none_left("p"))],
    );
    violates(
        Promise::Replay,
        &[1, 2],
        &[
            first.clone(),
            at(2, 3, done("p", "s", 2)),
            at(4, 5, replayed("p", "s", 0)),
        ],
    );
    accepts(&[first.clone(), at(1, 3, none_left("p"))]);
    accepts(&[first.clone(), at(2, 3, none_left("q"))]);
    accepts(&[
        first.clone(),
        at(2, 3, lost("p")),
        at(4, 5, replayed("p", "s", 0)),
    ]);
    accepts(&[
        first.clone(),
        at(2, 3, done("p", "s", 2)),
        at(4, 5, none_left("p")),
    ]);
    accepts(&[
        first,
        at(2, 4, done("p", "s", 3)),
        at(3, 5, replayed("p", "s", 0)),
    ]);
}

#[test]
fn all_answers_about_an_allocation_agree() {
    let first = at(1, 2, new("p", "s", 0));
    let refused = |change: fn(&mut Grant)| {
        let mut grant = grant("s", T0);
        change(&mut grant);
        at(3, 4, allocate("p", AllocateAnswer::Replayed(grant)))
    };
    for other in [
        refused(|grant| grant.allocated_at += 1),
        refused(|grant| grant.expires_at += 1),
        refused(|grant| grant.name.push('x')),
        refused(|grant| grant.external_id.push('x')),
        at(3, 4, table([held("s", "p", 1)])),
        at(
            3,
            4,
            table([Row {
                name: "x".into(),
                ..held("s", "p", 0)
            }]),
        ),
    ] {
        violates(Promise::Agreement, &[0, 1], &[first.clone(), other]);
    }
    accepts(&[
        first.clone(),
        refused(|_| ()),
        at(3, 4, table([held("s", "p", 0)])),
    ]);
    violates(
        Promise::Agreement,
        &[0, 1],
        &[at(0, 1, created("s", "another-name")), first.clone()],
    );
    violates(
        Promise::Agreement,
        &[0, 1],
        &[
            at(0, 0, created("s", "another-name")),
            first.clone(),
            at(3, 4, renamed("s", "lab-s")),
        ],
    );
    accepts(&[
        at(0, 0, created("s", "another-name")),
        at(1, 1, renamed("s", "lab-s")),
        at(2, 2, renamed("s", "a-third-name")),
        first.clone(),
    ]);
    let mut elsewhere = created("s", "lab-s");
    if let EventKind::AccountCreated { external_id, .. } = &mut elsewhere {
        external_id.push('x');
    }
    violates(Promise::Agreement, &[0, 1], &[at(0, 1, elsewhere), first]);
}

#[test]
fn new_sandbox_has_the_requested_prefix() {
    let request = |prefix: &str, answer: AllocateAnswer| EventKind::Allocate {
        caller: "p".into(),
        key: "p".into(),
        lab: None,
        prefix: Some(prefix.into()),
        minutes: None,
        answer,
    };
    let new = |prefix| at(0, 1, request(prefix, AllocateAnswer::New(grant("s", T0))));
    violates(Promise::Agreement, &[0], &[new("class-")]);
    // A retry may request another prefix.
    accepts(&[
        new("lab-"),
        at(
            2,
            3,
            request("class-", AllocateAnswer::Replayed(grant("s", T0))),
        ),
    ]);
}

#[test]
fn sandbox_seen_only_after_its_retirement_does_not_overlap_a_later_one() {
    accepts(&[
        at(0, 1, table([pending("a", "p", 0, 0)])),
        at(2, 3, new("p", "b", 2)),
    ]);
}

#[test]
fn advances_of_the_clock_add_up() {
    let term = HOURS_4 + GRACE;
    accepts(&[
        at(0, 1, new("p", "a", 0)),
        at(2, 3, advance(2, 2 + HOURS_4)),
        at(3, 4, advance(3 + HOURS_4, 3 + term)),
        at(5, 6, new("p", "b", 5 + term)),
    ]);
}

#[test]
fn clock_that_is_ahead_of_the_others_stays_ahead_when_all_advance() {
    let term = HOURS_4 + GRACE;
    accepts(&[
        // A broker whose clock is ten seconds ahead made the allocation.
        at(0, 1, new("p", "a", 10)),
        at(2, 3, advance(2, 2 + term)),
        at(5, 6, new("p", "b", 15 + term)),
    ]);
}
