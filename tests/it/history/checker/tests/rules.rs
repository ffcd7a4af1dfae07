//! For each rule a history that breaks it, and the nearest one that does not.

use std::time::Duration;

use super::super::{
    super::event::{Allocated, ClaimRow, Event, Got, Grant, Released, Row, What},
    Promise, check, printed, shortest,
};

const T0: i64 = 1_795_000_000;
const HOURS_4: i64 = 4 * 3600;
const GRACE: i64 = 1800;

/// `what` between two moments in seconds.
fn at(began: u64, ended: u64, what: What) -> Event {
    Event {
        began: Duration::from_secs(began),
        ended: Duration::from_secs(ended),
        what,
    }
}

fn grant(sandbox: &str, allocated_at: i64) -> Grant {
    Grant {
        sandbox: sandbox.into(),
        name: format!("lab-{sandbox}"),
        external_id: format!("identity/accounts/{sandbox}"),
        allocated_at,
        expires_at: allocated_at + HOURS_4,
    }
}

fn allocate(caller: &str, answer: Allocated) -> What {
    What::Allocate {
        caller: caller.into(),
        key: caller.into(),
        prefix: None,
        answer,
    }
}

fn new(caller: &str, sandbox: &str, second: i64) -> What {
    allocate(caller, Allocated::New(grant(sandbox, T0 + second)))
}

fn again(caller: &str, sandbox: &str, second: i64) -> What {
    allocate(caller, Allocated::Again(grant(sandbox, T0 + second)))
}

fn none_left(caller: &str) -> What {
    allocate(caller, Allocated::NoneLeft)
}

fn lost(caller: &str) -> What {
    allocate(caller, Allocated::Unknown("reset".into()))
}

fn release(caller: &str, sandbox: &str, answer: Released) -> What {
    What::Release {
        caller: caller.into(),
        sandbox: sandbox.into(),
        answer,
    }
}

fn done(caller: &str, sandbox: &str, second: i64) -> What {
    let answer = Released::Done {
        deletion_requested_at: T0 + second,
    };
    release(caller, sandbox, answer)
}

fn get(caller: &str, sandbox: &str, answer: Got) -> What {
    What::Get {
        caller: caller.into(),
        sandbox: sandbox.into(),
        answer,
    }
}

fn is(status: &str, second: i64) -> Got {
    Got::Is {
        status: status.into(),
        allocated_at: T0 + second,
        expires_at: T0 + second + HOURS_4,
    }
}

fn free(sandbox: &str) -> Row {
    Row {
        sandbox: sandbox.into(),
        name: format!("lab-{sandbox}"),
        external_id: format!("identity/accounts/{sandbox}"),
        status: "available".into(),
        caller: None,
        key: None,
        allocated_at: 0,
        deletion_retry_count: 0,
    }
}

fn held(sandbox: &str, caller: &str, second: i64) -> Row {
    Row {
        status: "allocated".into(),
        caller: Some(caller.into()),
        key: Some(caller.into()),
        allocated_at: T0 + second,
        ..free(sandbox)
    }
}

fn leaving(sandbox: &str, caller: &str, second: i64, deletion_retry_count: u64) -> Row {
    Row {
        status: "pending_deletion".into(),
        deletion_retry_count,
        ..held(sandbox, caller, second)
    }
}

fn claim(caller: &str, sandbox: &str, second: i64) -> ClaimRow {
    ClaimRow {
        caller: caller.into(),
        key: caller.into(),
        sandbox: sandbox.into(),
        allocated_at: T0 + second,
    }
}

fn table<const N: usize>(sandboxes: [Row; N]) -> What {
    table_with(sandboxes, [], [])
}

fn table_with<const N: usize, const M: usize, const L: usize>(
    sandboxes: [Row; N],
    claims: [ClaimRow; M],
    tombstones: [&str; L],
) -> What {
    What::Table {
        sandboxes: sandboxes.into(),
        claims: claims.into(),
        tombstones: tombstones.map(Into::into).into(),
    }
}

fn clock(from: i64, to: i64) -> What {
    What::Clock {
        from: T0 + from,
        to: T0 + to,
    }
}

fn made(sandbox: &str, name: &str) -> What {
    What::AccountMade {
        sandbox: sandbox.into(),
        name: name.into(),
        external_id: format!("identity/accounts/{sandbox}"),
    }
}

fn hidden(sandbox: &str) -> What {
    What::AccountHidden {
        sandbox: sandbox.into(),
    }
}

fn renamed(sandbox: &str, name: &str) -> What {
    What::AccountRenamed {
        sandbox: sandbox.into(),
        name: name.into(),
    }
}

fn deleted(sandbox: &str) -> What {
    What::AccountDeleted {
        external_id: format!("identity/accounts/{sandbox}"),
    }
}

fn job(name: &str) -> What {
    What::Job {
        name: name.into(),
        report: None,
    }
}

/// The history is wrong in this way, by these events and no others; and a needless event more does not show in the
/// shortest.
#[track_caller]
fn wrong<const N: usize>(promise: Promise, proof: &[usize], history: &[Event; N]) {
    let violation = check(history).expect_err(&printed(history));
    assert_eq!(
        (violation.promise, violation.events.as_slice()),
        (promise, proof),
        "{violation}\n{}",
        printed(history)
    );
    let mut longer = history.to_vec();
    for n in 0..50 {
        let sandbox = format!("other-{n}");
        let caller = format!("nobody-{n}");
        longer.push(at(2, 3, new(&caller, &sandbox, 2)));
        longer.push(at(4, 5, get(&caller, &sandbox, is("allocated", 2))));
    }
    let violation = check(&longer).expect_err("still wrong");
    let short = shortest(&longer, &violation);
    assert!(short.len() <= N, "{}", printed(&short));
    let again = check(&short).expect_err("the shortest is wrong too");
    assert_eq!(again.promise, promise, "{}", printed(&short));
}

#[track_caller]
fn right<const N: usize>(history: &[Event; N]) {
    if let Err(violation) = check(history) {
        panic!("{violation}\n{}", printed(history));
    }
}

#[test]
fn a_sandbox_has_one_holder() {
    let first = at(0, 1, new("p", "s", 0));
    wrong(
        Promise::OneHolder,
        &[0, 1],
        &[first.clone(), at(0, 2, new("q", "s", 0))],
    );
    wrong(
        Promise::OneHolder,
        &[0, 1],
        &[first.clone(), at(0, 2, new("p", "s", 0))],
    );
    wrong(
        Promise::OneHolder,
        &[0, 1],
        &[first.clone(), at(0, 2, table([held("s", "q", 0)]))],
    );
    let mut other_key = again("p", "s", 0);
    if let What::Allocate { key, .. } = &mut other_key {
        *key = "another".into();
    }
    wrong(
        Promise::OneHolder,
        &[0, 1],
        &[first.clone(), at(2, 3, other_key)],
    );
    right(&[
        first,
        at(0, 2, again("p", "s", 0)),
        at(3, 4, table([held("s", "p", 0)])),
    ]);
}

#[test]
fn a_used_sandbox_is_never_handed_out_again() {
    let first = at(0, 1, new("p", "s", 0));
    wrong(
        Promise::NeverAgain,
        &[0, 1],
        &[first.clone(), at(2, 3, new("p", "s", 0))],
    );
    wrong(
        Promise::NeverAgain,
        &[0, 1],
        &[at(0, 1, again("p", "s", 0)), at(2, 3, new("p", "s", 0))],
    );
    // The answer to the first came late.
    right(&[at(0, 1, again("p", "s", 0)), at(0, 3, new("p", "s", 0))]);
    right(&[at(0, 1, table([free("s")])), at(2, 3, new("p", "s", 2))]);
}

#[test]
fn a_pair_holds_one_sandbox() {
    let first = at(0, 1, new("p", "a", 0));
    let second = at(5, 6, new("p", "b", 5));
    wrong(
        Promise::OneSandbox,
        &[0, 1],
        &[first.clone(), second.clone()],
    );
    // Another caller's release is no reason, and neither is one that was refused or came later.
    for excuse in [
        at(2, 3, done("q", "c", 2)),
        at(2, 3, release("p", "a", Released::NotOwner)),
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
        release("p", "a", Released::Unknown("reset".into())),
        clock(2, 2 + HOURS_4 + GRACE),
    ] {
        right(&[first.clone(), at(2, 3, excuse), second.clone()]);
    }
    // Its time alone is not enough, its grace is to be over too.
    wrong(
        Promise::OneSandbox,
        &[0, 2],
        &[first.clone(), at(2, 3, clock(2, HOURS_4 + 60)), second],
    );
    // The second may have been allocated first.
    right(&[
        at(0, 9, new("p", "a", 5)),
        at(1, 2, new("p", "b", 1)),
        at(3, 4, done("p", "b", 3)),
    ]);
    // Time alone passes too.
    let late = u64::try_from(HOURS_4 + GRACE).unwrap();
    right(&[first, at(late, late + 1, new("p", "b", HOURS_4 + GRACE))]);
}

#[test]
fn a_hold_that_is_seen_after_another_began_makes_two() {
    // The release took effect, or did not; that the sandbox is still held afterwards shows that it did not.
    let unknown = release("p", "a", Released::Unknown("reset".into()));
    wrong(
        Promise::OneSandbox,
        &[0, 2, 3],
        &[
            at(0, 1, new("p", "a", 0)),
            at(2, 3, unknown.clone()),
            at(4, 5, new("p", "b", 4)),
            at(6, 7, get("p", "a", is("allocated", 0))),
        ],
    );
    right(&[
        at(0, 1, new("p", "a", 0)),
        at(2, 3, unknown),
        at(4, 6, new("p", "b", 4)),
        at(5, 7, get("p", "a", is("allocated", 0))),
    ]);
}

#[test]
fn two_items_of_a_pair_are_wrong_only_if_they_are_of_one_moment() {
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
    right(&history);
    let violation = check(&[at(0, 1, What::Calm), at(2, 3, both)]).unwrap_err();
    assert_eq!(violation.events, [0, 1]);
    assert!(matches!(
        violation.promise,
        Promise::OneSandbox | Promise::Table
    ));
    wrong(
        Promise::OneSandbox,
        &[0, 1],
        &[
            at(0, 1, What::Calm),
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
fn none_left_means_that_none_is_left() {
    let before = at(0, 1, table([free("s")]));
    let told = at(10, 11, none_left("p"));
    let after = at(12, 13, table([free("s")]));
    wrong(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[before.clone(), told.clone(), after.clone()],
    );
    wrong(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[before.clone(), told.clone(), at(12, 13, new("q", "s", 12))],
    );
    right(&[before.clone(), told.clone()]);
    right(&[before.clone(), told.clone(), at(11, 13, table([free("s")]))]);
    right(&[at(4, 6, table([free("s")])), told.clone(), after.clone()]);
    right(&[
        before.clone(),
        at(2, 3, hidden("s")),
        told.clone(),
        after.clone(),
    ]);
    right(&[before.clone(), told.clone(), at(11, 13, new("q", "s", 11))]);
}

#[test]
fn none_left_is_about_the_prefix() {
    let told = |prefix: &str| {
        at(
            10,
            11,
            What::Allocate {
                caller: "p".into(),
                key: "p".into(),
                prefix: Some(prefix.into()),
                answer: Allocated::NoneLeft,
            },
        )
    };
    let before = at(0, 1, table([free("s")]));
    let after = at(12, 13, table([free("s")]));
    wrong(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[before.clone(), told("lab-"), after.clone()],
    );
    right(&[before.clone(), told("class-"), after.clone()]);
    right(&[
        before,
        at(2, 3, renamed("s", "class-s")),
        told("lab-"),
        after,
    ]);
}

#[test]
fn in_the_calm_what_was_not_given_is_available() {
    let calm = at(0, 1, What::Calm);
    let look = at(2, 3, table([free("s")]));
    let told = at(20, 21, none_left("p"));
    wrong(
        Promise::NoneLeft,
        &[0, 1, 2],
        &[calm.clone(), look.clone(), told.clone()],
    );
    right(&[
        calm.clone(),
        look.clone(),
        at(10, 11, new("q", "s", 10)),
        told.clone(),
    ]);
    right(&[look.clone(), at(4, 5, What::Calm), told.clone()]);
    right(&[at(0, 1, table([free("s")])), told]);
}

#[test]
fn a_retry_gets_what_its_pair_holds() {
    let first = at(0, 1, new("p", "s", 0));
    wrong(
        Promise::Replay,
        &[0, 1],
        &[first.clone(), at(2, 3, none_left("p"))],
    );
    wrong(
        Promise::Replay,
        &[1, 2],
        &[
            first.clone(),
            at(2, 3, done("p", "s", 2)),
            at(4, 5, again("p", "s", 0)),
        ],
    );
    right(&[first.clone(), at(1, 3, none_left("p"))]);
    right(&[first.clone(), at(2, 3, none_left("q"))]);
    right(&[
        first.clone(),
        at(2, 3, lost("p")),
        at(4, 5, again("p", "s", 0)),
    ]);
    right(&[
        first.clone(),
        at(2, 3, done("p", "s", 2)),
        at(4, 5, none_left("p")),
    ]);
    right(&[
        first,
        at(2, 4, done("p", "s", 3)),
        at(3, 5, again("p", "s", 0)),
    ]);
}

#[test]
fn all_that_is_told_of_an_allocation_agrees() {
    let first = at(1, 2, new("p", "s", 0));
    let told = |change: fn(&mut Grant)| {
        let mut grant = grant("s", T0);
        change(&mut grant);
        at(3, 4, allocate("p", Allocated::Again(grant)))
    };
    for other in [
        told(|grant| grant.allocated_at += 1),
        told(|grant| grant.expires_at += 1),
        told(|grant| grant.name.push('x')),
        told(|grant| grant.external_id.push('x')),
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
        wrong(Promise::Agreement, &[0, 1], &[first.clone(), other]);
    }
    right(&[
        first.clone(),
        told(|_| ()),
        at(3, 4, table([held("s", "p", 0)])),
    ]);
    wrong(
        Promise::Agreement,
        &[0, 1],
        &[at(0, 1, made("s", "another-name")), first.clone()],
    );
    wrong(
        Promise::Agreement,
        &[0, 1],
        &[
            at(0, 0, made("s", "another-name")),
            first.clone(),
            at(3, 4, renamed("s", "lab-s")),
        ],
    );
    right(&[
        at(0, 0, made("s", "another-name")),
        at(1, 1, renamed("s", "lab-s")),
        at(2, 2, renamed("s", "a-third-name")),
        first.clone(),
    ]);
    let mut elsewhere = made("s", "lab-s");
    if let What::AccountMade { external_id, .. } = &mut elsewhere {
        external_id.push('x');
    }
    wrong(Promise::Agreement, &[0, 1], &[at(0, 1, elsewhere), first]);
}

#[test]
fn a_new_sandbox_has_the_prefix_that_was_asked_for() {
    let asked = |prefix: &str, answer: Allocated| What::Allocate {
        caller: "p".into(),
        key: "p".into(),
        prefix: Some(prefix.into()),
        answer,
    };
    let new = |prefix| at(0, 1, asked(prefix, Allocated::New(grant("s", T0))));
    wrong(Promise::Agreement, &[0], &[new("class-")]);
    // A retry may ask for another.
    right(&[
        new("lab-"),
        at(2, 3, asked("class-", Allocated::Again(grant("s", T0)))),
    ]);
}

#[test]
fn a_sandbox_never_goes_back() {
    let first = at(0, 1, new("p", "s", 0));
    let released = at(2, 3, done("p", "s", 2));
    for (back, proof) in [
        (get("p", "s", is("allocated", 0)), [1, 2]),
        (table([held("s", "p", 0)]), [1, 2]),
        (table([free("s")]), [1, 2]),
    ] {
        wrong(
            Promise::States,
            &proof,
            &[first.clone(), released.clone(), at(4, 5, back.clone())],
        );
        if !matches!(back, What::Table { .. }) {
            right(&[first.clone(), released.clone(), at(3, 5, back)]);
        }
    }
    wrong(
        Promise::States,
        &[0, 1],
        &[first.clone(), at(4, 5, table([free("s")]))],
    );
    right(&[at(0, 4, new("p", "s", 0)), at(3, 5, table([free("s")]))]);
    right(&[
        first,
        released,
        at(4, 5, table([leaving("s", "p", 0, 0)])),
        at(6, 7, get("p", "s", Got::NotFound)),
    ]);
}

#[test]
fn a_sandbox_leaves_its_holder_for_a_reason() {
    let first = at(0, 1, new("p", "s", 0));
    let gone = at(4, 5, table([leaving("s", "p", 0, 0)]));
    wrong(Promise::States, &[0, 1], &[first.clone(), gone.clone()]);
    wrong(
        Promise::States,
        &[0, 1],
        &[
            first.clone(),
            at(4, 5, get("p", "s", is("pending_deletion", 0))),
        ],
    );
    let unknown = release("p", "s", Released::Unknown("reset".into()));
    right(&[first.clone(), at(2, 9, unknown), gone.clone()]);
    right(&[first, at(2, 3, clock(2, HOURS_4 + GRACE)), gone]);
}

#[test]
fn a_release_answers_truly() {
    let first = at(0, 1, new("p", "s", 0));
    let answered = |caller: &str, answer| at(2, 3, release(caller, "s", answer));
    for answer in [Released::NotOwner, Released::NotFound, Released::Expired] {
        wrong(
            Promise::Release,
            &[0, 1],
            &[first.clone(), answered("p", answer)],
        );
    }
    wrong(
        Promise::Release,
        &[0, 1],
        &[first.clone(), at(2, 3, done("q", "s", 2))],
    );
    wrong(Promise::Release, &[0], &[at(2, 3, done("q", "s", 2))]);
    wrong(
        Promise::Release,
        &[1, 2],
        &[
            first.clone(),
            at(2, 3, done("p", "s", 2)),
            at(4, 5, done("p", "s", 4)),
        ],
    );
    right(&[first.clone(), answered("q", Released::NotOwner)]);
    right(&[
        at(0, 2, new("p", "s", 0)),
        answered("p", Released::NotOwner),
    ]);
    right(&[at(0, 1, lost("q")), at(2, 3, done("q", "s", 2))]);
    right(&[
        first.clone(),
        at(2, 3, done("p", "s", 2)),
        at(4, 5, done("p", "s", 2)),
    ]);
    right(&[
        first.clone(),
        at(1, 2, clock(1, HOURS_4 + GRACE)),
        answered("p", Released::Expired),
    ]);
    // Deleted, still listed by CSP, and given back a second time.
    right(&[
        first.clone(),
        at(2, 3, done("p", "s", 2)),
        at(4, 5, deleted("s")),
        at(6, 7, done("p", "s", 6)),
    ]);
    // The first attempt of the call gave it back, a cleanup removed it, the second did not find it.
    right(&[
        first,
        at(2, 9, release("p", "s", Released::NotFound)),
        at(3, 4, deleted("s")),
    ]);
}

#[test]
fn a_look_answers_truly() {
    let first = at(0, 1, new("p", "s", 0));
    let look = |caller: &str, answer| at(2, 3, get(caller, "s", answer));
    for (caller, answer) in [
        ("p", Got::NotOwner),
        ("p", Got::NotFound),
        ("q", is("allocated", 0)),
        ("p", is("allocated", 1)),
    ] {
        wrong(
            Promise::Get,
            &[0, 1],
            &[first.clone(), look(caller, answer)],
        );
    }
    wrong(Promise::Get, &[0], &[look("q", is("allocated", 0))]);
    wrong(
        Promise::Get,
        &[1],
        &[at(0, 1, lost("q")), look("q", is("available", 0))],
    );
    right(&[first.clone(), look("q", Got::NotOwner)]);
    right(&[first.clone(), look("p", is("allocated", 0))]);
    right(&[at(0, 2, new("p", "s", 0)), look("p", Got::NotOwner)]);
    right(&[at(0, 1, lost("q")), look("q", is("allocated", 0))]);
    right(&[first, at(1, 2, done("p", "s", 1)), look("p", Got::NotFound)]);
}

#[test]
fn only_what_nobody_holds_is_deleted() {
    let first = at(0, 1, new("p", "s", 0));
    wrong(
        Promise::Deletion,
        &[0, 1],
        &[first.clone(), at(2, 3, deleted("s"))],
    );
    wrong(
        Promise::Deletion,
        &[1],
        &[at(0, 1, made("s", "lab-s")), at(2, 3, deleted("s"))],
    );
    wrong(
        Promise::Deletion,
        &[0, 1],
        &[
            first.clone(),
            at(2, 3, deleted("s")),
            at(4, 5, done("p", "s", 4)),
        ],
    );
    right(&[
        first.clone(),
        at(2, 5, done("p", "s", 4)),
        at(3, 6, deleted("s")),
    ]);
    right(&[
        first,
        at(2, 3, clock(2, HOURS_4 + GRACE)),
        at(4, 5, deleted("s")),
    ]);
    right(&[
        at(0, 1, made("s", "lab-s")),
        at(0, 1, lost("p")),
        at(2, 3, deleted("s")),
    ]);
    right(&[
        at(0, 1, made("s", "lab-s")),
        at(1, 1, table([leaving("s", "p", 0, 0)])),
        at(2, 3, deleted("s")),
    ]);
}

#[test]
fn the_items_of_the_table_fit_together() {
    let look = |rows: [Row; 1], claims: &[ClaimRow], gone: &[&str]| What::Table {
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
            ..free("s")
        },
    ] {
        wrong(Promise::Table, &[0], &[at(0, 1, table([broken]))]);
    }
    let calm = at(2, 2, What::Calm);
    for claims in [
        vec![],
        vec![claim("q", "s", 0)],
        vec![claim("p", "t", 0)],
        vec![claim("p", "s", 1)],
    ] {
        let table = look([held("s", "p", 0)], &claims, &[]);
        wrong(
            Promise::Table,
            &[0, 1],
            &[calm.clone(), at(3, 4, table.clone())],
        );
        // The claim was read before the sandbox.
        right(&[at(1, 4, table), calm.clone()]);
    }
    let first = at(0, 1, new("p", "s", 0));
    let released = at(1, 2, done("p", "s", 1));
    wrong(
        Promise::Table,
        &[0, 2, 3],
        &[
            first.clone(),
            released.clone(),
            calm.clone(),
            at(3, 4, look([free("t")], &[], &[])),
        ],
    );
    right(&[
        first.clone(),
        released,
        calm.clone(),
        at(3, 4, look([free("t")], &[], &["s"])),
    ]);
    right(&[
        first,
        calm,
        at(3, 4, look([held("s", "p", 0)], &[claim("p", "s", 0)], &[])),
    ]);
}

#[test]
fn attempts_at_a_deletion_are_counted() {
    let history = |between: What| {
        [
            at(0, 1, new("p", "s", 0)),
            at(1, 2, done("p", "s", 1)),
            at(3, 4, table([leaving("s", "p", 0, 2)])),
            at(4, 5, between),
            at(6, 7, table([leaving("s", "p", 0, 1)])),
        ]
    };
    wrong(Promise::Table, &[2, 4], &history(job("cleanup")));
    right(&history(job("cleanup?retry_failed=true")));
    right(&history(deleted("s")));
}

#[test]
fn in_the_calm_every_call_has_an_answer() {
    let calm = at(1, 1, What::Calm);
    let answers = [
        lost("p"),
        release("p", "s", Released::Unknown("reset".into())),
        get("p", "s", Got::Unknown("reset".into())),
    ];
    for lost in answers {
        wrong(
            Promise::Calm,
            &[0, 1],
            &[calm.clone(), at(2, 3, lost.clone())],
        );
        right(&[at(0, 3, lost), calm.clone()]);
    }
}

#[test]
fn a_history_is_printed_a_line_an_event() {
    let history = [
        at(0, 1, new("p", "s", 0)),
        at(2, 3, done("p", "s", 2)),
        at(4, 5, table([leaving("s", "p", 0, 0)])),
    ];
    let text = printed(&history);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("2000..3000     p release(s) -> done at 1795000002"),
        "{text}"
    );
}
