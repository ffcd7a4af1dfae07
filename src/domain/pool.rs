//! The pool as figures: counts by status, and samples of its past.

use std::time::Duration;

use crate::clock::UnixSeconds;

/// How many sandboxes there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// [`Status::Available`].
    pub available: u64,
    /// [`Status::Allocated`].
    pub allocated: u64,
    /// [`Status::PendingDeletion`].
    pub pending_deletion: u64,
    /// [`Status::Stale`].
    pub stale: u64,
    /// [`Status::DeletionFailed`].
    pub deletion_failed: u64,
}

impl PoolCounts {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.available + self.allocated + self.pending_deletion + self.stale + self.deletion_failed
    }
}

/// The period that one sample covers.
pub const SAMPLE_SPAN: Duration = Duration::from_mins(5);
/// How long samples are kept.
pub const SAMPLE_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Allocations and releases in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Sandboxes that were allocated.
    pub allocations: u64,
    /// Allocations that ended, by release or by expiry.
    pub releases: u64,
}

/// The pool during one [`SAMPLE_SPAN`] of its past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When the period began.
    pub at: UnixSeconds,
    /// The last count in the period.
    pub counts: PoolCounts,
    /// Allocations and releases in the period, of all brokers.
    pub flow: Flow,
}
