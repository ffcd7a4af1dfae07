//! Lease terms: the duration of an allocation and its grace period.

use std::time::Duration;

use crate::clock::UnixSeconds;

/// The shortest duration that an allocation can have.
pub const SHORTEST_DURATION: Duration = Duration::from_mins(1);

/// The longest duration that a request or the policy can state, and the longest time from now until the end of an
/// extended allocation.
pub const LONGEST_DURATION: Duration = Duration::from_hours(30 * 24);

/// The duration of the FastAPI service's allocations, in hours, where its `LAB_DURATION_HOURS` is not set.
pub const FASTAPI_LAB_DURATION_HOURS: u32 = 48;

/// The durations of allocations, and their grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The duration of new allocations, in hours.
    pub lab_duration_hours: u32,
    /// The duration of inherited allocations, in hours: those that the FastAPI service made, which state no end.
    pub inherited_hours: u32,
    /// How long after the end of the duration the holder may still release the sandbox.
    pub grace: Duration,
}

impl LeaseTerms {
    /// Returns whether the duration of inherited allocations is the FastAPI service's default, because
    /// `LAB_DURATION_HOURS` is not set. Otherwise, all allocations have the same duration.
    #[must_use]
    pub const fn is_inherited_duration_assumed(self) -> bool {
        self.inherited_hours != self.lab_duration_hours
    }
}

/// Converts the duration of an allocation from hours.
#[must_use]
pub fn lab_duration(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}

/// Returns the duration of an allocation in hours, rounded up.
#[must_use]
pub fn whole_hours(start: UnixSeconds, end: UnixSeconds) -> u32 {
    let seconds = u64::try_from(end.0.saturating_sub(start.0)).unwrap_or(0);
    u32::try_from(seconds.div_ceil(3600)).unwrap_or(u32::MAX)
}
