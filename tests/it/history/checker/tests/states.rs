//! The state machine, and deletions from CSP.

use super::{
    super::{
        super::event::{EventKind, GetAnswer, ReleaseAnswer},
        Promise,
    },
    accepts,
    builders::{
        GRACE, HOURS_4, advance, at, available, created, deleted, done, found, get, held, lost,
        new, pending, release, table,
    },
    violates,
};

#[test]
fn sandbox_never_goes_back_to_an_earlier_state() {
    let first = at(0, 1, new("p", "s", 0));
    let released = at(2, 3, done("p", "s", 2));
    for (back, proof) in [
        (get("p", "s", found("allocated", 0)), [1, 2]),
        (table([held("s", "p", 0)]), [1, 2]),
        (table([available("s")]), [1, 2]),
    ] {
        violates(
            Promise::States,
            &proof,
            &[first.clone(), released.clone(), at(4, 5, back.clone())],
        );
        if !matches!(back, EventKind::Table { .. }) {
            accepts(&[first.clone(), released.clone(), at(3, 5, back)]);
        }
    }
    violates(
        Promise::States,
        &[0, 1],
        &[first.clone(), at(4, 5, table([available("s")]))],
    );
    accepts(&[
        at(0, 4, new("p", "s", 0)),
        at(3, 5, table([available("s")])),
    ]);
    accepts(&[
        first,
        released,
        at(4, 5, table([pending("s", "p", 0, 0)])),
        at(6, 7, get("p", "s", GetAnswer::NotFound)),
    ]);
}

#[test]
fn sandbox_is_retired_for_a_reason() {
    let first = at(0, 1, new("p", "s", 0));
    let retired = at(4, 5, table([pending("s", "p", 0, 0)]));
    violates(Promise::Lease, &[0, 1], &[first.clone(), retired.clone()]);
    violates(
        Promise::Lease,
        &[0, 1],
        &[
            first.clone(),
            at(4, 5, get("p", "s", found("pending_deletion", 0))),
        ],
    );
    let unknown = release("p", "s", ReleaseAnswer::Unknown("reset".into()));
    accepts(&[first.clone(), at(2, 9, unknown), retired.clone()]);
    accepts(&[first, at(2, 3, advance(2, HOURS_4 + GRACE)), retired]);
}

#[test]
fn only_accounts_of_retired_sandboxes_are_deleted() {
    let first = at(0, 1, new("p", "s", 0));
    violates(
        Promise::Deletion,
        &[0, 1],
        &[first.clone(), at(2, 3, deleted("s"))],
    );
    violates(
        Promise::Deletion,
        &[1],
        &[at(0, 1, created("s", "lab-s")), at(2, 3, deleted("s"))],
    );
    violates(
        Promise::Deletion,
        &[0, 1],
        &[
            first.clone(),
            at(2, 3, deleted("s")),
            at(4, 5, done("p", "s", 4)),
        ],
    );
    accepts(&[
        first.clone(),
        at(2, 5, done("p", "s", 4)),
        at(3, 6, deleted("s")),
    ]);
    accepts(&[
        first,
        at(2, 3, advance(2, HOURS_4 + GRACE)),
        at(4, 5, deleted("s")),
    ]);
    accepts(&[
        at(0, 1, created("s", "lab-s")),
        at(0, 1, lost("p")),
        at(2, 3, deleted("s")),
    ]);
    accepts(&[
        at(0, 1, created("s", "lab-s")),
        at(1, 1, table([pending("s", "p", 0, 0)])),
        at(2, 3, deleted("s")),
    ]);
}
