//! The time left of a lease. It is measured, because the clocks of this machine and of the broker may differ.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::clock::UnixSeconds;

/// A clock that goes on while the machine sleeps, as the lease does, and that no correction of the time changes.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
/// On macOS and other systems, the monotonic clock is such a clock.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// How often the clock is read during a wait. Timers of the runtime do not count the time in which the machine sleeps.
const TICK: Duration = Duration::from_secs(15);

/// Returns the time since a fixed point in the past.
pub(super) fn now() -> Duration {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// Waits for a span by [`now`], during which the machine may sleep.
pub(super) async fn wait(span: Duration) {
    let end = now() + span;
    loop {
        let left = end.saturating_sub(now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(TICK)).await;
    }
}

/// Converts times of the broker to those of [`now`].
#[derive(Clone, Copy, Debug)]
pub(super) struct BrokerTime {
    allocated_at: UnixSeconds,
    /// When the request that allocated the sandbox was sent, by [`now`]: at `allocated_at` or before.
    sent: Duration,
}

impl BrokerTime {
    pub(super) const fn new(allocated_at: UnixSeconds, sent: Duration) -> Self {
        Self { allocated_at, sent }
    }

    /// Returns a lower bound of the time left until `end`.
    pub(super) fn left(self, end: UnixSeconds, now: Duration) -> Duration {
        let span = end.0.saturating_sub(self.allocated_at.0);
        let span = Duration::from_secs(u64::try_from(span).unwrap_or(0));
        span.saturating_sub(now.saturating_sub(self.sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_counts_from_the_request_and_not_from_the_time_of_day() {
        let (sent, minute) = (Duration::from_secs(1_000), Duration::from_mins(1));
        // The broker's clock is years behind.
        let time = BrokerTime::new(UnixSeconds(5_000), sent);
        let left = |seconds: i64, now| time.left(UnixSeconds(5_000 + seconds), now);
        assert_eq!(left(1_800, sent), 30 * minute);
        assert_eq!(left(1_800, sent + 10 * minute), 20 * minute);
        // The machine slept past the end.
        assert_eq!(left(1_800, sent + 50 * minute), Duration::ZERO);
        assert_eq!(left(-10, sent), Duration::ZERO);
        assert_eq!(time.left(UnixSeconds(i64::MIN), sent), Duration::ZERO);
        assert!(time.left(UnixSeconds::NEVER, sent) > 1_000_000 * minute);
    }

    #[test]
    fn clock_goes_forward() {
        let before = now();
        assert!(now() >= before && !before.is_zero());
    }
}
