//! The pools of the policy in the overview.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    clock::UnixSeconds,
    domain::{PoolState, PoolStatus, ScheduledTarget},
    jobs::RefillMode,
};

/// A pool of the policy. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PoolBody {
    /// The beginning of the names of its sandboxes.
    pub name_prefix: String,
    /// Whether refill creates accounts for it: `off`, also if the policy does not state how; `plan`, refill only reports
    /// what it would do; `on`.
    pub mode: &'static str,
    /// Its state. `watched`: nothing creates accounts for it. `full`: it has its target. `filling`: accounts are being
    /// created, or soon will be. `late`: it has been below its target for longer than a creation takes. `stopped`: CSP
    /// refuses to create accounts. `at_maximum`: it is below its target, but `max_total` permits no more.
    pub state: PoolState,
    /// The reason of the state, for operators; `null` if there is nothing to say.
    pub reason: Option<String>,
    /// Since when it has been in this state; for `filling` and `at_maximum`, since when it has been below its target.
    /// `null` if that is not known.
    pub since: Option<UnixSeconds>,
    /// How many sandboxes should be available now, or for a schedule whose lead has begun.
    pub target: u32,
    /// How many should be available without a schedule.
    pub target_available: u32,
    /// The schedule that states `target`; `null` if none does.
    pub schedule: Option<PoolScheduleBody>,
    /// Available for allocation.
    pub available: u64,
    /// Not known to be usable yet.
    pub provisioning: u64,
    /// Accounts that are being created, and are no sandboxes yet.
    pub under_way: u64,
    /// Held by callers.
    pub allocated: u64,
    /// Set aside by operators or by a check.
    pub quarantined: u64,
    /// All that count for `max_total`: those in every status but `stale`.
    pub total: u64,
    /// How many there may be in all; `null` without a limit.
    pub max_total: Option<u32>,
    /// How long a creation takes until its sandbox is available, in seconds: the 95th percentile of the last ones; `null`
    /// if there were too few.
    pub time_to_available_sec: Option<u64>,
}

/// A schedule of a pool, in force or ahead.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct PoolScheduleBody {
    /// Its begin, in Unix seconds.
    pub from: UnixSeconds,
    /// Its end, in Unix seconds.
    pub to: UnixSeconds,
    /// How many sandboxes should be available.
    pub target_available: u32,
}

impl PoolBody {
    /// Creates the body of a pool; `mode` is that of refill.
    pub(super) fn new(pool: PoolStatus, mode: RefillMode) -> Self {
        let mode = if pool.is_created {
            mode
        } else {
            RefillMode::Off
        };
        Self {
            mode: mode.as_str(),
            state: pool.state,
            since: pool.since,
            target: pool.target.goal,
            target_available: pool.target_available,
            schedule: pool.target.schedule.map(Into::into),
            available: pool.counts.available,
            provisioning: pool.counts.provisioning,
            under_way: pool.under_way(),
            allocated: pool.counts.allocated,
            quarantined: pool.counts.quarantined,
            total: pool.in_use(),
            max_total: pool.max_total,
            time_to_available_sec: pool
                .refill
                .and_then(|refill| refill.time_to_available)
                .map(|time| time.as_secs()),
            name_prefix: pool.name_prefix.to_string(),
            reason: pool.reason,
        }
    }
}

impl From<ScheduledTarget> for PoolScheduleBody {
    fn from(schedule: ScheduledTarget) -> Self {
        Self {
            from: schedule.from,
            to: schedule.to,
            target_available: schedule.target_available,
        }
    }
}
