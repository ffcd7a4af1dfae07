//! `NoneLeft`.

use super::{
    super::{
        super::event::{AllocateAnswer, EventKind},
        Promise,
    },
    accepts,
    builders::{at, available, hidden, new, none_left, renamed, table},
    violates,
};

#[test]
fn none_left_means_that_no_sandbox_is_available() {
    let before = at(0, 1, table([available("s")]));
    let refused = at(10, 11, none_left("p"));
    let after = at(12, 13, table([available("s")]));
    violates(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[before.clone(), refused.clone(), after.clone()],
    );
    violates(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[
            before.clone(),
            refused.clone(),
            at(12, 13, new("q", "s", 12)),
        ],
    );
    accepts(&[before.clone(), refused.clone()]);
    accepts(&[
        before.clone(),
        refused.clone(),
        at(11, 13, table([available("s")])),
    ]);
    accepts(&[
        at(4, 6, table([available("s")])),
        refused.clone(),
        after.clone(),
    ]);
    accepts(&[
        before.clone(),
        at(2, 3, hidden("s")),
        refused.clone(),
        after.clone(),
    ]);
    accepts(&[
        before.clone(),
        refused.clone(),
        at(11, 13, new("q", "s", 11)),
    ]);
}

#[test]
fn none_left_is_about_the_requested_prefix() {
    let refused = |prefix: &str| {
        at(
            10,
            11,
            EventKind::Allocate {
                caller: "p".into(),
                key: "p".into(),
                lab: None,
                prefix: Some(prefix.into()),
                minutes: None,
                answer: AllocateAnswer::NoneLeft,
            },
        )
    };
    let before = at(0, 1, table([available("s")]));
    let after = at(12, 13, table([available("s")]));
    violates(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[before.clone(), refused("lab-"), after.clone()],
    );
    accepts(&[before.clone(), refused("class-"), after.clone()]);
    accepts(&[
        before,
        at(2, 3, renamed("s", "class-s")),
        refused("lab-"),
        after,
    ]);
}

#[test]
fn sandbox_not_allocated_in_the_calm_phase_stays_available() {
    let calm = at(0, 1, EventKind::Calm);
    let read = at(2, 3, table([available("s")]));
    let refused = at(20, 21, none_left("p"));
    violates(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[calm.clone(), read.clone(), refused.clone()],
    );
    accepts(&[
        calm.clone(),
        read.clone(),
        at(10, 11, new("q", "s", 10)),
        refused.clone(),
    ]);
    accepts(&[read.clone(), at(4, 5, EventKind::Calm), refused.clone()]);
    accepts(&[at(0, 1, table([available("s")])), refused]);
}
