//! Replacements: the caller holds exactly one sandbox, the old one if it was refused (G).

use super::{
    super::{
        super::event::{EventKind, ExtendAnswer, ReplaceAnswer, Row},
        Promise, check,
    },
    accepts,
    builders::{
        GRACE, HOURS_4, T0, acted, advance, at, available, created, deleted, done, extend,
        extended, found, get, grant, held, lost, new, none_left, pending, policy, replace,
        replaced, replayed, table,
    },
    violates,
};

const HOUR: i64 = 3600;

fn current(caller: &str, old: &str, new: &str, second: i64) -> EventKind {
    replace(caller, old, ReplaceAnswer::Current(grant(new, T0 + second)))
}

fn unknown(caller: &str, old: &str) -> EventKind {
    replace(caller, old, ReplaceAnswer::Unknown("reset".into()))
}

#[test]
fn replacement_takes_the_old_sandbox_and_gives_one_new_one() {
    let first = at(0, 1, new("p", "a", 0));
    let second = at(2, 3, replaced("p", "a", "b", 2));
    let retired = Row {
        replaced_by: Some("b".into()),
        ..pending("a", "p", 0, 0)
    };
    accepts(&[
        first.clone(),
        second.clone(),
        at(4, 5, table([retired.clone(), held("b", "p", 2)])),
        at(6, 7, current("p", "a", "b", 2)),
        at(8, 9, replayed("p", "b", 2)),
        at(10, 11, deleted("a")),
    ]);
    // The old one is still held, or allocated again.
    violates(
        Promise::OneSandbox,
        &[0, 1, 2],
        &[
            first.clone(),
            second.clone(),
            at(4, 5, get("p", "a", found("allocated", 0))),
        ],
    );
    violates(
        Promise::OneHolder,
        &[0, 2],
        &[first.clone(), second.clone(), at(4, 5, new("q", "a", 0))],
    );
    violates(
        Promise::OneHolder,
        &[0, 2],
        &[
            at(0, 1, new("q", "b", 0)),
            at(2, 3, new("p", "a", 2)),
            at(4, 5, replaced("p", "a", "b", 0)),
        ],
    );
    // The new one is not kept.
    violates(
        Promise::Lease,
        &[1, 2],
        &[
            first.clone(),
            second.clone(),
            at(4, 5, table([pending("b", "p", 2, 0)])),
        ],
    );
    // A third one.
    violates(
        Promise::OneSandbox,
        &[1, 2],
        &[first.clone(), second.clone(), at(4, 5, new("p", "c", 4))],
    );
    violates(
        Promise::Replacement,
        &[1],
        &[first.clone(), at(2, 3, current("p", "a", "a", 0))],
    );
    // Its item names another one.
    violates(
        Promise::Replacement,
        &[1, 2],
        &[
            first,
            second,
            at(
                4,
                5,
                table([Row {
                    replaced_by: Some("c".into()),
                    ..retired
                }]),
            ),
        ],
    );
}

#[test]
fn sandbox_is_replaced_once() {
    let first = at(0, 1, new("p", "a", 0));
    let second = at(2, 5, replaced("p", "a", "b", 2));
    violates(
        Promise::Replacement,
        &[1, 2],
        &[
            first.clone(),
            second.clone(),
            at(2, 6, replaced("p", "a", "c", 3)),
        ],
    );
    accepts(&[
        first.clone(),
        second.clone(),
        at(3, 6, current("p", "a", "b", 2)),
    ]);
    // The pair of the new one is that of the old one.
    violates(
        Promise::OneHolder,
        &[1, 2],
        &[first, second, at(6, 7, replayed("q", "b", 2))],
    );
}

#[test]
fn replacement_without_an_answer_may_have_been_made() {
    let first = at(0, 1, new("p", "a", 0));
    let lost = at(2, 3, unknown("p", "a"));
    accepts(&[
        first.clone(),
        lost.clone(),
        at(4, 5, table([pending("a", "p", 0, 0), held("b", "p", 2)])),
        at(6, 7, replayed("p", "b", 2)),
    ]);
    accepts(&[
        first.clone(),
        lost.clone(),
        at(4, 5, get("p", "a", found("allocated", 0))),
    ]);
    violates(
        Promise::Calm,
        &[0, 1],
        &[at(0, 1, EventKind::Calm), at(2, 3, unknown("p", "a"))],
    );
    // One by another caller takes nothing from the holder.
    violates(
        Promise::Lease,
        &[0, 2],
        &[
            first,
            at(2, 3, unknown("q", "a")),
            at(4, 5, table([pending("a", "p", 0, 0)])),
        ],
    );
}

#[test]
fn refused_replacement_leaves_the_old_sandbox() {
    let first = at(0, 1, new("p", "a", 0));
    for answer in [ReplaceAnswer::NoneLeft, ReplaceAnswer::Limit] {
        let refused = at(2, 3, replace("p", "a", answer));
        accepts(&[
            first.clone(),
            refused.clone(),
            at(4, 5, get("p", "a", found("allocated", 0))),
        ]);
        violates(
            Promise::Replacement,
            &[0, 1, 2],
            &[
                first.clone(),
                refused.clone(),
                at(4, 5, table([pending("a", "p", 0, 0)])),
            ],
        );
        violates(
            Promise::OneSandbox,
            &[0, 2],
            &[first.clone(), refused, at(4, 5, new("p", "b", 4))],
        );
    }
}

#[test]
fn repeated_request_is_not_refused_while_its_caller_holds_the_new_sandbox() {
    let first = at(0, 1, new("p", "a", 0));
    let second = at(2, 3, replaced("p", "a", "b", 2));
    for answer in [
        ReplaceAnswer::NoneLeft,
        ReplaceAnswer::Limit,
        ReplaceAnswer::Ended,
        ReplaceAnswer::NotFound,
    ] {
        let again = at(6, 7, replace("p", "a", answer));
        violates(
            Promise::Replacement,
            &[1, 2],
            &[first.clone(), second.clone(), again.clone()],
        );
        if !matches!(
            again.kind,
            EventKind::Replace {
                answer: ReplaceAnswer::Ended,
                ..
            }
        ) {
            continue;
        }
        accepts(&[
            first.clone(),
            second.clone(),
            at(4, 5, done("p", "b", 4)),
            again,
        ]);
    }
}

#[test]
fn overdue_allocation_is_over_for_its_holder_until_an_operator_extends_it() {
    let first = at(0, 1, new("p", "s", 0));
    let overdue = at(2, 3, advance(2, HOURS_4 + GRACE + 60));
    let end = Some(9 * HOUR);
    let extended = |began| {
        let kind = acted("s", "extend", "allocated", Some("p"), end);
        at(began, began + 1, kind)
    };
    for ended in [
        replace("p", "s", ReplaceAnswer::Ended),
        extend("p", "s", ExtendAnswer::Ended),
    ] {
        let ended = at(6, 7, ended);
        accepts(&[first.clone(), overdue.clone(), ended.clone(), extended(8)]);
        let late = [first.clone(), overdue.clone(), extended(4), ended];
        assert!(check(&late).is_err());
    }
}

#[test]
fn answer_to_a_replacement_is_true() {
    let first = at(0, 1, new("p", "s", 0));
    for answer in [
        ReplaceAnswer::NotOwner,
        ReplaceAnswer::NotFound,
        ReplaceAnswer::Ended,
    ] {
        violates(
            Promise::Replacement,
            &[0, 1],
            &[first.clone(), at(2, 3, replace("p", "s", answer))],
        );
    }
    violates(
        Promise::Replacement,
        &[0, 1],
        &[
            first.clone(),
            at(2, 3, replace("q", "s", ReplaceAnswer::NoneLeft)),
        ],
    );
    accepts(&[
        first.clone(),
        at(2, 3, replace("q", "s", ReplaceAnswer::NotOwner)),
    ]);
    violates(
        Promise::Paused,
        &[0],
        &[at(0, 1, replace("p", "s", ReplaceAnswer::Paused))],
    );
    // A sandbox with the name prefix of the allocation is available all the time.
    let there = at(0, 1, table([available("t")]));
    let refused = at(10, 11, replace("p", "s", ReplaceAnswer::NoneLeft));
    let still = at(12, 13, table([available("t")]));
    violates(
        Promise::NoneLeft,
        &[1, 2, 3],
        &[first.clone(), there.clone(), refused.clone(), still.clone()],
    );
    accepts(&[first, there, refused]);
    accepts(&[at(0, 1, lost("p")), at(2, 3, none_left("p")), still]);
}

#[test]
fn answered_extension_holds_until_the_replacement() {
    accepts(&[
        at(0, 1, created("b", "lab-b")),
        at(0, 1, new("p", "a", 0)),
        at(2, 3, extended("p", "a", 5 * 3600)),
        at(4, 5, replaced("p", "a", "b", 4)),
        at(6, 7, extended("p", "b", 5 * 3600)),
    ]);
}

#[test]
fn chain_of_replacements_is_at_most_as_long_as_a_policy_permits() {
    let chain = |max_replacements| {
        [
            at(0, 1, policy(None, max_replacements)),
            at(20, 21, new("p", "a", 20)),
            at(22, 23, replaced("p", "a", "b", 22)),
            at(24, 25, replaced("p", "b", "c", 24)),
        ]
    };
    violates(Promise::Replacement, &[2, 3], &chain(1));
    accepts(&chain(2));
    // Without a policy there are three.
    let [_, a, b, c] = chain(1);
    accepts(&[a, b, c]);
    // The earlier policy is still obeyed for a while.
    let [_, a, b, c] = chain(1);
    accepts(&[
        at(0, 1, policy(None, 2)),
        a,
        b,
        at(23, 24, policy(None, 1)),
        c,
    ]);
}
