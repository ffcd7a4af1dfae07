//! Histories of a broker that is right because it does one thing after another: none of them is a violation, and each
//! is one as soon as it is corrupted.

mod corruption;
mod reference;

use std::time::Instant;

use super::super::{check, printed, shortest};
use corruption::Corruption;
use reference::Reference;

const HISTORIES: u64 = 150;

#[test]
fn no_history_of_a_right_broker_is_a_violation() {
    for seed in 0..HISTORIES {
        let history = Reference::history(seed, 250);
        if let Err(violation) = check(&history) {
            let part = shortest(&history, &violation);
            panic!("seed {seed}: {violation}\n{}", printed(&part));
        }
    }
}

#[test]
fn every_corruption_of_a_history_is_noticed() {
    for corruption in Corruption::ALL {
        let mut noticed = 0;
        for seed in 0..HISTORIES / 3 {
            let mut history = Reference::history(seed, 120);
            let Some(promise) = corruption.corrupt(&mut history) else {
                continue;
            };
            let violation =
                check(&history).expect_err(&format!("seed {seed}: {corruption:?} went unnoticed"));
            assert_eq!(
                violation.promise, promise,
                "seed {seed}, {corruption:?}: {violation}"
            );
            let part = shortest(&history, &violation);
            let text = printed(&part);
            let again = check(&part).expect_err(&text);
            assert_eq!(again.promise, promise, "seed {seed}: {text}");
            assert!(part.len() < history.len() / 2, "seed {seed}: {text}");
            noticed += 1;
        }
        assert!(noticed >= 20, "{corruption:?} was tried {noticed} times");
    }
}

#[test]
fn twenty_thousand_events_are_checked_in_a_moment() {
    let history = Reference::history(7, 20_000);
    assert!(history.len() > 20_000, "{} events", history.len());
    let began = Instant::now();
    assert_eq!(check(&history), Ok(()));
    let took = began.elapsed();
    assert!(took.as_secs() < 5, "{took:?}");
    println!("{} events in {took:?}", history.len());
}
