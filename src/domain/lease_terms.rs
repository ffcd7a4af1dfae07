//! How long allocations last.

use std::time::Duration;

/// How long an allocation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Hours until a new allocation expires.
    pub lab_duration_hours: u32,
    /// How long after that its holder may still give it back.
    pub grace: Duration,
}

/// The length of an allocation of so many hours.
#[must_use]
pub fn lab_duration(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}
