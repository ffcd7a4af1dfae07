//! Tests of the checker: for each rule a history that breaks it and the nearest one that does not.

mod actions;
mod answers;
mod builders;
mod holding;
mod leases;
mod none_left;
mod quota;
mod refill;
mod replacement;
mod states;
mod table;

use std::time::Instant;

use self::builders::{at, done, found, get, new, pending, table as table_read};
use super::{
    super::event::{Event, EventKind},
    Promise, check, printed, shortest,
};

/// Asserts that these events, and no others, prove that the history breaks the promise, and that the shortest part of a
/// longer history has no needless event.
#[track_caller]
fn violates<const N: usize>(promise: Promise, proof: &[usize], history: &[Event; N]) {
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
        let caller = format!("other-caller-{n}");
        let mut allocated = new(&caller, &sandbox, 2);
        if let EventKind::Allocate { lab, .. } = &mut allocated {
            *lab = None;
        }
        longer.push(at(2, 3, allocated));
        longer.push(at(4, 5, get(&caller, &sandbox, found("allocated", 2))));
    }
    let violation = check(&longer).expect_err("no violation in the longer history");
    let short = shortest(&longer, &violation);
    assert!(short.len() <= N, "{}", printed(&short));
    let violation = check(&short).expect_err("no violation in the shortest part");
    assert_eq!(violation.promise, promise, "{}", printed(&short));
}

#[track_caller]
fn accepts<const N: usize>(history: &[Event; N]) {
    if let Err(violation) = check(history) {
        panic!("{violation}\n{}", printed(history));
    }
}

#[test]
fn history_is_printed_one_line_per_event() {
    let history = [
        at(0, 1, new("p", "s", 0)),
        at(2, 3, done("p", "s", 2)),
        at(4, 5, table_read([pending("s", "p", 0, 0)])),
    ];
    let text = printed(&history);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("2000..3000     p release(s) -> done at 1795000002"),
        "{text}"
    );
}

#[test]
fn twenty_thousand_events_are_checked_within_seconds() {
    let mut history = Vec::new();
    for n in 0..5_000 {
        let (caller, sandbox) = (format!("caller-{}", n % 50), format!("sandbox-{n}"));
        let second = i64::try_from(10 * n).unwrap();
        let begin = 10 * n;
        history.extend([
            at(begin, begin + 1, new(&caller, &sandbox, second)),
            at(
                begin + 2,
                begin + 3,
                get(&caller, &sandbox, found("allocated", second)),
            ),
            at(begin + 4, begin + 5, done(&caller, &sandbox, second + 4)),
            at(
                begin + 6,
                begin + 7,
                table_read([pending(&sandbox, &caller, second, 0)]),
            ),
        ]);
    }
    let start = Instant::now();
    assert_eq!(check(&history), Ok(()));
    let elapsed = start.elapsed();
    assert!(elapsed.as_secs() < 5, "{elapsed:?}");
}
