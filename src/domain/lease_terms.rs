//! Lease terms: the duration of an allocation and its grace period.

use std::time::Duration;

/// The duration and grace period of new allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Duration, in hours.
    pub lab_duration_hours: u32,
    /// How long after the end of the duration the holder may still release the sandbox.
    pub grace: Duration,
}

/// Converts the duration of an allocation from hours.
#[must_use]
pub fn lab_duration(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}
