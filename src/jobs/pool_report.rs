//! The result of a count of the pool.

use crate::domain::{PoolSnapshot, PoolStatus};

/// A count of the sandboxes, and what it means for operators.
#[derive(Clone, Debug)]
pub(super) struct PoolReport {
    /// The sandboxes by status.
    pub(super) snapshot: PoolSnapshot,
    /// The pools of the policy, ordered by name prefix.
    pub(super) pools: Vec<PoolStatus>,
    /// The sandboxes that are available, or will be in time.
    pub(super) expected: u64,
    /// The sandboxes that checks have quarantined in the last hour, as far as this process has seen it.
    pub(super) quarantined_by_checks: u64,
}
