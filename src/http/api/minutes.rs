//! The minutes of allocations and extensions in requests.

use std::{ops::RangeInclusive, time::Duration};

use crate::domain::{LONGEST_DURATION, SHORTEST_DURATION};

/// The minutes that a request can ask for.
pub(super) const MINUTES: RangeInclusive<u64> =
    SHORTEST_DURATION.as_secs() / 60..=LONGEST_DURATION.as_secs() / 60;

/// Converts minutes; `None` if they are not among [`MINUTES`].
pub(super) fn span(minutes: u64) -> Option<Duration> {
    MINUTES
        .contains(&minutes)
        .then(|| Duration::from_mins(minutes))
}
