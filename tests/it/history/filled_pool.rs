//! The pool that refill fills: its entry in the policy, and its accounts.

use std::time::Duration;

use rand::{rngs::SmallRng, seq::IndexedRandom};
use sandbox_broker::csp::simulator::{AccountDelays, Settings, Simulator};
use serde_json::{Value, json};

/// The name prefix of the pool.
pub(super) const POOL: &str = "fill-";
/// Its targets.
const TARGETS: [usize; 3] = [2, 4, 6];
const MAX_TOTAL: usize = 400;
/// The first account never gets usable, and every so many later.
const UNUSABLE_EVERY: usize = 5;
/// More than an epoch creates.
const LAST_NUMBER: usize = 2000;
const LISTED_AFTER: Duration = Duration::from_millis(200);
pub(super) const USABLE_AFTER: Duration = Duration::from_millis(400);
/// How long a run waits for requests of an earlier one: longer than the 5 s for the write before a request and the request,
/// which takes less than a second here.
pub(super) const SETTLE: Duration = Duration::from_secs(6);
/// Returns a pool of a policy, with some target.
pub(super) fn some_pool(rng: &mut SmallRng) -> (usize, Value) {
    let target = *TARGETS.choose(rng).unwrap();
    let entry = json!({
        "name_prefix": POOL,
        "target_available": target,
        "max_total": MAX_TOTAL,
        "create": { "description": "history" },
    });
    (target, entry)
}

pub(super) fn is_usable(name: &str) -> bool {
    let number = name
        .rsplit('r')
        .next()
        .and_then(|number| number.parse::<usize>().ok());
    number.is_none_or(|number| number % UNUSABLE_EVERY != 1)
}

/// Returns whether the account is one of the pool. Nobody hides or renames one before refill knows that it exists.
pub(super) fn is_of_pool(name: &str) -> bool {
    name.starts_with(POOL)
}

/// Lets new accounts be listed and usable late, and some never usable.
pub(super) fn configure(simulator: &Simulator) {
    let unusable = (1..LAST_NUMBER).step_by(UNUSABLE_EVERY);
    simulator.configure(Settings {
        listing_delay: LISTED_AFTER,
        usable_delay: USABLE_AFTER,
        accounts: vec![AccountDelays {
            names: unusable
                .map(|number| format!("{POOL}r{number:06}"))
                .collect(),
            usable_delay: Some(Duration::from_hours(24 * 365)),
            ..AccountDelays::default()
        }],
        ..Settings::default()
    });
}
