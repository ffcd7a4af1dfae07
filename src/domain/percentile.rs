//! The percentile of measured times.

use std::time::Duration;

/// Returns the 95th percentile of `times` by the nearest rank: one of them. `None` without any.
#[must_use]
pub(super) fn percentile_95(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    let rank = (times.len() * 95).div_ceil(100);
    times.get(rank.checked_sub(1)?).copied()
}
