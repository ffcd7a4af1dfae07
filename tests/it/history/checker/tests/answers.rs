//! Answers to releases and reads.

use super::{
    super::{
        super::event::{EventKind, GetAnswer, ReleaseAnswer},
        Promise,
    },
    accepts,
    builders::{
        GRACE, HOURS_4, advance, at, deleted, done, found, get, lost, new, pause_ordered, paused,
        release,
    },
    violates,
};

#[test]
fn allocations_are_refused_as_paused_only_while_they_are() {
    violates(Promise::Paused, &[0], &[at(2, 3, paused("p"))]);
    violates(
        Promise::Paused,
        &[1],
        &[at(0, 1, pause_ordered("sync")), at(2, 3, paused("p"))],
    );
    violates(
        Promise::Paused,
        &[1, 2],
        &[
            at(0, 1, pause_ordered("allocations")),
            at(2, 2, EventKind::Calm),
            at(3, 4, paused("p")),
        ],
    );
    let ordered = at(0, 1, pause_ordered("allocations"));
    accepts(&[ordered.clone(), at(2, 3, paused("p"))]);
    // The pair holds a sandbox, so it is to get it.
    violates(
        Promise::Replay,
        &[1, 2],
        &[
            ordered.clone(),
            at(1, 2, new("p", "s", 1)),
            at(3, 4, paused("p")),
        ],
    );
    // An earlier attempt of the refused call took effect.
    accepts(&[ordered, at(2, 3, paused("q")), at(4, 5, done("q", "s", 4))]);
}

#[test]
fn answer_to_a_release_is_true() {
    let first = at(0, 1, new("p", "s", 0));
    let answered = |caller: &str, answer| at(2, 3, release(caller, "s", answer));
    for answer in [
        ReleaseAnswer::NotOwner,
        ReleaseAnswer::NotFound,
        ReleaseAnswer::Expired,
    ] {
        violates(
            Promise::Release,
            &[0, 1],
            &[first.clone(), answered("p", answer)],
        );
    }
    violates(
        Promise::Release,
        &[0, 1],
        &[first.clone(), at(2, 3, done("q", "s", 2))],
    );
    violates(Promise::Release, &[0], &[at(2, 3, done("q", "s", 2))]);
    violates(
        Promise::Release,
        &[1, 2],
        &[
            first.clone(),
            at(2, 3, done("p", "s", 2)),
            at(4, 5, done("p", "s", 4)),
        ],
    );
    accepts(&[first.clone(), answered("q", ReleaseAnswer::NotOwner)]);
    accepts(&[
        at(0, 2, new("p", "s", 0)),
        answered("p", ReleaseAnswer::NotOwner),
    ]);
    accepts(&[at(0, 1, lost("q")), at(2, 3, done("q", "s", 2))]);
    accepts(&[
        first.clone(),
        at(2, 3, done("p", "s", 2)),
        at(4, 5, done("p", "s", 2)),
    ]);
    accepts(&[
        first.clone(),
        at(1, 2, advance(1, HOURS_4 + GRACE)),
        answered("p", ReleaseAnswer::Expired),
    ]);
    // Deleted, reinstated because CSP still listed it, and released a second time.
    accepts(&[
        first.clone(),
        at(2, 3, done("p", "s", 2)),
        at(4, 5, deleted("s")),
        at(6, 7, done("p", "s", 6)),
    ]);
    // The first attempt of the call released it, a cleanup removed it, and the second attempt did not find it.
    accepts(&[
        first,
        at(2, 9, release("p", "s", ReleaseAnswer::NotFound)),
        at(3, 4, deleted("s")),
    ]);
}

#[test]
fn answer_to_a_read_is_true() {
    let first = at(0, 1, new("p", "s", 0));
    let read = |caller: &str, answer| at(2, 3, get(caller, "s", answer));
    for (caller, answer) in [
        ("p", GetAnswer::NotOwner),
        ("p", GetAnswer::NotFound),
        ("q", found("allocated", 0)),
        ("p", found("allocated", 1)),
    ] {
        violates(
            Promise::Get,
            &[0, 1],
            &[first.clone(), read(caller, answer)],
        );
    }
    violates(Promise::Get, &[0], &[read("q", found("allocated", 0))]);
    violates(
        Promise::Get,
        &[1],
        &[at(0, 1, lost("q")), read("q", found("available", 0))],
    );
    accepts(&[first.clone(), read("q", GetAnswer::NotOwner)]);
    accepts(&[first.clone(), read("p", found("allocated", 0))]);
    accepts(&[at(0, 2, new("p", "s", 0)), read("p", GetAnswer::NotOwner)]);
    accepts(&[at(0, 1, lost("q")), read("q", found("allocated", 0))]);
    accepts(&[
        first,
        at(1, 2, done("p", "s", 1)),
        read("p", GetAnswer::NotFound),
    ]);
}

#[test]
fn every_call_in_the_calm_phase_is_answered() {
    let calm = at(1, 1, EventKind::Calm);
    let answers = [
        lost("p"),
        release("p", "s", ReleaseAnswer::Unknown("reset".into())),
        get("p", "s", GetAnswer::Unknown("reset".into())),
    ];
    for lost in answers {
        violates(
            Promise::Calm,
            &[0, 1],
            &[calm.clone(), at(2, 3, lost.clone())],
        );
        accepts(&[at(0, 3, lost), calm.clone()]);
    }
}
