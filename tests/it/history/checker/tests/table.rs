//! The consistency of the table.

use super::{
    super::{
        super::event::{ClaimRow, EventKind, Row},
        Promise,
    },
    accepts,
    builders::{at, available, claim, deleted, done, held, job, new, pending, table},
    violates,
};

#[test]
fn items_of_the_table_are_consistent() {
    let read = |rows: [Row; 1], claims: &[ClaimRow], gone: &[&str]| EventKind::Table {
        sandboxes: rows.into(),
        claims: claims.into(),
        tombstones: gone.iter().map(|id| (*id).to_owned()).collect(),
    };
    for broken in [
        Row {
            caller: None,
            ..held("s", "p", 0)
        },
        Row {
            key: None,
            ..held("s", "p", 0)
        },
        Row {
            allocated_at: 0,
            ..held("s", "p", 0)
        },
        Row {
            status: "lost".into(),
            ..available("s")
        },
    ] {
        violates(Promise::Table, &[0], &[at(0, 1, table([broken]))]);
    }
    let calm = at(2, 2, EventKind::Calm);
    for claims in [
        vec![],
        vec![claim("q", "s", 0)],
        vec![claim("p", "t", 0)],
        vec![claim("p", "s", 1)],
    ] {
        let table = read([held("s", "p", 0)], &claims, &[]);
        violates(
            Promise::Table,
            &[0, 1],
            &[calm.clone(), at(3, 4, table.clone())],
        );
        // The claim was read before the sandbox.
        accepts(&[at(1, 4, table), calm.clone()]);
    }
    let first = at(0, 1, new("p", "s", 0));
    let released = at(1, 2, done("p", "s", 1));
    violates(
        Promise::Table,
        &[0, 2, 3],
        &[
            first.clone(),
            released.clone(),
            calm.clone(),
            at(3, 4, read([available("t")], &[], &[])),
        ],
    );
    accepts(&[
        first.clone(),
        released,
        calm.clone(),
        at(3, 4, read([available("t")], &[], &["s"])),
    ]);
    accepts(&[
        first,
        calm,
        at(3, 4, read([held("s", "p", 0)], &[claim("p", "s", 0)], &[])),
    ]);
}

#[test]
fn deletion_attempts_only_grow() {
    let history = |between: EventKind| {
        [
            at(0, 1, new("p", "s", 0)),
            at(1, 2, done("p", "s", 1)),
            at(3, 4, table([pending("s", "p", 0, 2)])),
            at(4, 5, between),
            at(6, 7, table([pending("s", "p", 0, 1)])),
        ]
    };
    violates(Promise::Table, &[2, 4], &history(job("cleanup")));
    accepts(&history(job("cleanup?retry_failed=true")));
    accepts(&history(deleted("s")));
}
