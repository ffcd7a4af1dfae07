//! The report of a run.

use serde::Serialize;
use utoipa::ToSchema;

use crate::jobs::run::{Report, ReportStatus};

/// The most pools in a report, which is part of the run's record and of a log event.
const MAX_POOLS: usize = 50;

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "completed", "plan": false, "created": 3, "adopted": 0, "failed": 0, "unanswered": 0, "dropped": 0,
    "pools": [{
        "name_prefix": "lab-adventure", "target": 50, "goal": 50, "available": 41, "provisioning": 4, "under_way": 2,
        "total": 60, "max_total": 120, "wanted": 3, "creations": 3, "look_ups": 0, "drops": 0
    }],
    "duration_ms": 4180
}))]
pub(crate) struct RefillReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Whether the run was a plan: it has called nothing and changed nothing, and reports what a run would do.
    pub plan: bool,
    /// Accounts created.
    pub created: usize,
    /// Accounts found that an earlier request had created.
    pub adopted: usize,
    /// Creations that CSP refused.
    pub failed: usize,
    /// Requests without a clear answer. A later run looks for their accounts.
    pub unanswered: usize,
    /// Creations dropped, because they are no longer wanted or their accounts are gone.
    pub dropped: usize,
    /// The pools that miss sandboxes or are stopped, then the others; at most 50.
    pub pools: Vec<PoolRefill>,
    /// The number of pools that are not in `pools`.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub other_pools: usize,
    /// Why the run ended before all its work was done: CSP, or a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

/// One pool in the report of a run: its state when the run last read it, and what the run did since, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PoolRefill {
    /// The name prefix of the pool.
    pub name_prefix: String,
    /// How many sandboxes should be available now.
    pub target: u32,
    /// How many there should be, available or being created: more than `target` before a schedule begins.
    pub goal: u32,
    /// Sandboxes that can be allocated.
    pub available: u64,
    /// Sandboxes whose accounts are not known to be usable yet.
    pub provisioning: u64,
    /// Accounts that were asked for, or are about to be, and have no sandbox yet.
    pub under_way: u64,
    /// The sandboxes in all, without the stale ones.
    pub total: u64,
    /// How many there may be in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_total: Option<u32>,
    /// How many accounts the pool wants, with those that are under way without being known to exist.
    pub wanted: u64,
    /// Creations that the run began or went on with.
    pub creations: u64,
    /// Accounts that the run looked up because no sync lists them, or because an earlier run got no answer.
    pub look_ups: u64,
    /// Creations that the run dropped.
    pub drops: u64,
    /// Why the run did no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether CSP's answers, or an unreadable item, have stopped the creation of accounts.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub stopped: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the field by reference"
)]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the field by reference"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl RefillReport {
    /// Replaces the pools: those that need attention come first.
    pub(super) fn set_pools(&mut self, mut pools: Vec<PoolRefill>) {
        pools.sort_by_key(|pool| (!pool.stopped, pool.wanted == 0));
        self.other_pools = pools.len().saturating_sub(MAX_POOLS);
        pools.truncate(MAX_POOLS);
        self.pools = pools;
    }
}

impl Report for RefillReport {
    fn status(&self) -> ReportStatus {
        self.status
    }

    fn pause(&mut self, reason: String) {
        self.status = ReportStatus::Paused;
        self.stopped = Some(reason);
    }

    fn processed(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("created", self.created),
            ("adopted", self.adopted),
            ("failed", self.failed),
            ("dropped", self.dropped),
        ]
    }
}
