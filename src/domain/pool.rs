//! Statistics of the pool: counts by status, and samples over time.

use std::{ops::Sub, time::Duration};

use super::Status;
use crate::clock::UnixSeconds;

/// The number of sandboxes in each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Sandboxes whose accounts are not known to be usable yet.
    pub provisioning: u64,
    /// Available sandboxes.
    pub available: u64,
    /// Allocated sandboxes.
    pub allocated: u64,
    /// Sandboxes waiting for their deletion from CSP.
    pub pending_deletion: u64,
    /// Sandboxes that CSP no longer lists.
    pub stale: u64,
    /// Sandboxes whose deletion was abandoned.
    pub deletion_failed: u64,
    /// Sandboxes set aside by operators or by a check.
    pub quarantined: u64,
}

impl PoolCounts {
    /// Returns the size of the pool.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.provisioning
            + self.available
            + self.allocated
            + self.pending_deletion
            + self.stale
            + self.deletion_failed
            + self.quarantined
    }

    /// Sets the number of sandboxes in a status.
    pub const fn set(&mut self, status: Status, count: u64) {
        let field = match status {
            Status::Provisioning => &mut self.provisioning,
            Status::Available => &mut self.available,
            Status::Allocated => &mut self.allocated,
            Status::PendingDeletion => &mut self.pending_deletion,
            Status::DeletionFailed => &mut self.deletion_failed,
            Status::Stale => &mut self.stale,
            Status::Quarantined => &mut self.quarantined,
        };
        *field = count;
    }
}

/// A count of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// The number of sandboxes by status.
    pub counts: PoolCounts,
    /// The number of unreadable items, which only a scan of the whole pool's table counts; `None` before the first
    /// scan.
    pub unreadable: Option<UnreadableCount>,
    /// When the sandboxes were counted.
    pub at: UnixSeconds,
}

impl PoolSnapshot {
    /// Returns the number of unreadable items, as far as it is known.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable.map_or(0, |unreadable| unreadable.count)
    }
}

/// The number of the pool's items that are no valid sandboxes, as counted by the last scan of the pool's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableCount {
    /// The number of items.
    pub count: u64,
    /// When they were counted.
    pub at: UnixSeconds,
}

/// The period that one sample covers.
pub const SAMPLE_SPAN: Duration = Duration::from_mins(5);
/// How long samples are retained.
pub const SAMPLE_RETENTION: Duration = Duration::from_hours(7 * 24);

/// The numbers of allocations and releases in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// New allocations.
    pub allocations: u64,
    /// Retired allocations, by release or expiry.
    pub releases: u64,
}

impl Sub for Flow {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            allocations: self.allocations - other.allocations,
            releases: self.releases - other.releases,
        }
    }
}

/// The pool during one [`SAMPLE_SPAN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Start of the period.
    pub at: UnixSeconds,
    /// The last counts taken in the period.
    pub counts: PoolCounts,
    /// Allocations and releases of all brokers in the period.
    pub flow: Flow,
}
