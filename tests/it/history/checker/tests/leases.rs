//! Extensions by the holder: an allocation is held until its last end (F).

use super::{
    super::{super::event::ExtendAnswer, Promise},
    accepts,
    builders::{
        GRACE, HOURS_4, T0, advance, allocate, at, done, extend, extended, found, get, grant, lost,
        new, pending, release, table,
    },
    violates,
};
use crate::history::event::{AllocateAnswer, EventKind, ReleaseAnswer};

const HOUR: i64 = 3600;

#[test]
fn allocation_that_its_holder_extended_is_held_until_its_last_end() {
    let first = at(0, 1, new("p", "a", 0));
    let longer = at(2, 3, extended("p", "a", 5 * HOUR));
    let later = at(4, 5, advance(4, HOURS_4 + GRACE + 60));
    let retired = at(6, 7, table([pending("a", "p", 0, 0)]));
    accepts(&[first.clone(), later.clone(), retired.clone()]);
    violates(
        Promise::Lease,
        &[0, 3],
        &[
            first.clone(),
            longer.clone(),
            later.clone(),
            retired.clone(),
        ],
    );
    let over = at(5, 5, advance(5, 5 * HOUR + GRACE + 60));
    accepts(&[first.clone(), longer.clone(), over, retired.clone()]);
    // A second sandbox, and an answer that it has expired, contradict the extension, too.
    violates(
        Promise::OneSandbox,
        &[0, 1, 3],
        &[
            first.clone(),
            longer.clone(),
            later.clone(),
            at(6, 7, new("p", "b", HOURS_4 + GRACE + 62)),
        ],
    );
    violates(
        Promise::Release,
        &[1, 3],
        &[
            first.clone(),
            longer.clone(),
            later.clone(),
            at(6, 7, release("p", "a", ReleaseAnswer::Expired)),
        ],
    );
    // An extension without an answer may not have been made.
    let unknown = at(
        2,
        3,
        extend("p", "a", ExtendAnswer::Unknown("reset".into())),
    );
    accepts(&[first, unknown, later, retired]);
}

#[test]
fn end_that_an_extension_answered_is_never_moved_back() {
    let first = at(0, 1, new("p", "a", 0));
    let longer = at(2, 3, extended("p", "a", 6 * HOUR));
    violates(
        Promise::Agreement,
        &[1, 2],
        &[
            first.clone(),
            longer.clone(),
            at(4, 5, extended("p", "a", 5 * HOUR)),
        ],
    );
    violates(
        Promise::Get,
        &[1, 2],
        &[
            first.clone(),
            longer.clone(),
            at(4, 5, get("p", "a", found("allocated", 0))),
        ],
    );
    let unknown = at(
        2,
        3,
        extend("p", "a", ExtendAnswer::Unknown("reset".into())),
    );
    let mut grant = grant("a", T0);
    grant.expires_at = T0 + 6 * HOUR;
    let shown = at(4, 5, allocate("p", AllocateAnswer::Replayed(grant)));
    accepts(&[first.clone(), unknown, shown.clone()]);
    accepts(&[first.clone(), longer, shown.clone()]);
    violates(
        Promise::Agreement,
        &[0, 2],
        &[
            first,
            at(2, 3, extend("p", "a", ExtendAnswer::Limit)),
            shown,
        ],
    );
}

#[test]
fn extension_reaches_the_time_that_was_asked_for_or_the_maximum_of_the_lab() {
    let first = at(0, 1, new("p", "a", 0));
    let later = at(2, 3, advance(2, HOURS_4));
    // It asks for an hour, and the maximum is eight.
    violates(
        Promise::Lease,
        &[2],
        &[
            first.clone(),
            later.clone(),
            at(4, 5, extended("p", "a", HOURS_4 + HOUR - 60)),
        ],
    );
    accepts(&[
        first.clone(),
        later,
        at(4, 5, extended("p", "a", HOURS_4 + HOUR)),
    ]);
    let at_the_end = at(2, 3, advance(2, 2 * HOURS_4 - HOUR / 2));
    accepts(&[first, at_the_end, at(4, 5, extended("p", "a", 2 * HOURS_4))]);
}

#[test]
fn answer_to_an_extension_is_true() {
    let first = at(0, 1, new("p", "s", 0));
    let answered = |caller: &str, answer| at(2, 3, extend(caller, "s", answer));
    for answer in [
        ExtendAnswer::NotOwner,
        ExtendAnswer::NotFound,
        ExtendAnswer::Ended,
    ] {
        violates(
            Promise::Lease,
            &[0, 1],
            &[first.clone(), answered("p", answer)],
        );
    }
    violates(
        Promise::Lease,
        &[0, 1],
        &[first.clone(), at(2, 3, extended("q", "s", HOURS_4))],
    );
    violates(Promise::Lease, &[0], &[answered("q", ExtendAnswer::Limit)]);
    accepts(&[first.clone(), answered("q", ExtendAnswer::NotOwner)]);
    accepts(&[at(0, 1, lost("q")), answered("q", ExtendAnswer::Limit)]);
    accepts(&[
        first.clone(),
        at(1, 2, done("p", "s", 1)),
        answered("p", ExtendAnswer::Ended),
    ]);
    accepts(&[
        first,
        at(1, 2, advance(1, HOURS_4 + GRACE)),
        answered("p", ExtendAnswer::Ended),
    ]);
    let calm = at(1, 1, EventKind::Calm);
    violates(
        Promise::Calm,
        &[0, 1],
        &[calm, answered("p", ExtendAnswer::Unknown("reset".into()))],
    );
}

#[test]
fn allocation_lasts_at_most_as_long_as_requested() {
    let request = |minutes| EventKind::Allocate {
        caller: "p".into(),
        key: "p".into(),
        lab: None,
        prefix: None,
        minutes: Some(minutes),
        answer: AllocateAnswer::New(grant("s", T0)),
    };
    violates(Promise::Agreement, &[0], &[at(0, 1, request(239))]);
    accepts(&[at(0, 1, request(240))]);
}
