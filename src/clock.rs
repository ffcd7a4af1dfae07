//! Time, passed as a [`Clock`] so that tests can set it: the wall clock for times that are stored or shown, a monotonic
//! clock for waiting within a process.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A point in time as whole seconds since 1970-01-01 UTC, the unit of every time in the table and the API.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[schema(value_type = i64, example = 1_774_000_000_i64)]
#[serde(transparent)]
pub struct UnixSeconds(pub i64);

/// The largest difference between two clocks that is considered normal, as in AWS's check of signatures. A stored time
/// that lies further ahead was written by a clock that was wrong.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_mins(5);

impl UnixSeconds {
    /// The time of an event that does not happen: after all others.
    pub const NEVER: Self = Self(i64::MAX);

    /// Returns this time, stored as one that had passed, unless it lies further ahead of `now` than
    /// [`MAX_CLOCK_SKEW`].
    #[must_use]
    pub fn if_credible(self, now: Self) -> Option<Self> {
        (self <= now + MAX_CLOCK_SKEW).then_some(self)
    }

    /// Returns this time for a text that people read: `2026-11-27T22:12:00Z`. A time beyond the year 9999 is in seconds.
    #[must_use]
    pub fn iso(self) -> String {
        Timestamp::from_second(self.0).map_or_else(|_| self.to_string(), |time| time.to_string())
    }

    /// Returns the time from `now` until this time, stored as one at most `longest` ahead. Zero if the time has passed,
    /// and if it lies further ahead: then the clock that determined it was wrong, and the time counts as due.
    #[must_use]
    pub fn due_in(self, now: Self, longest: Duration) -> Duration {
        let ahead = Duration::from_secs(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0));
        if ahead > longest + MAX_CLOCK_SKEW {
            Duration::ZERO
        } else {
            ahead
        }
    }
}

impl Add<Duration> for UnixSeconds {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(whole_seconds(span)))
    }
}

impl Sub<Duration> for UnixSeconds {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(whole_seconds(span)))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn whole_seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

/// A source of the current time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the current time. It jumps when the clock is corrected, so nothing in a process waits for it.
    fn now(&self) -> UnixSeconds;

    /// Returns the current time in milliseconds since 1970-01-01 UTC, for records whose order matters.
    fn now_ms(&self) -> i64 {
        self.now().0.saturating_mul(1000)
    }

    /// Returns the time since a fixed point in the past, which differs between processes. It never goes back, and no
    /// correction of the clock changes it.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Returns the time since 1970-01-01 UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the system clock"
)]
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

impl Clock for SystemClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(whole_seconds(since_epoch()))
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        ORIGIN.elapsed()
    }
}

/// A clock for tests, which changes only through its methods.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    /// In seconds.
    monotonic: AtomicI64,
}

impl ManualClock {
    /// Creates a clock that shows `start`.
    #[must_use]
    pub const fn new(start: UnixSeconds) -> Self {
        Self {
            now: AtomicI64::new(start.0),
            monotonic: AtomicI64::new(0),
        }
    }

    /// Lets the whole seconds of `span` pass.
    pub fn advance(&self, span: Duration) {
        self.now.fetch_add(whole_seconds(span), Ordering::SeqCst);
        self.monotonic
            .fetch_add(whole_seconds(span), Ordering::SeqCst);
    }

    /// Sets the clock to `now`, as an operator or a time service does, while no time passes.
    pub fn set(&self, now: UnixSeconds) {
        self.now.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.monotonic.load(Ordering::SeqCst).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_absurdly_far_ahead_counts_as_due() {
        let (now, hour) = (UnixSeconds(100_000), Duration::from_hours(1));
        let due_in = |at| UnixSeconds(at).due_in(now, hour);
        assert_eq!(due_in(99_999), Duration::ZERO);
        assert_eq!(due_in(100_060), Duration::from_mins(1));
        assert_eq!(due_in(103_600), hour);
        assert_eq!(due_in(100_000 + 86_400), Duration::ZERO);
        assert_eq!(due_in(i64::MAX), Duration::ZERO);
    }

    #[test]
    fn past_time_that_lies_ahead_is_not_credible() {
        let now = UnixSeconds(100_000);
        for (at, is_credible) in [
            (0, true),
            (100_000, true),
            (100_300, true),
            (100_301, false),
        ] {
            assert_eq!(
                UnixSeconds(at).if_credible(now).is_some(),
                is_credible,
                "{at}"
            );
        }
    }
}
