//! The forecast: how many sandboxes each pool will have available at a time ahead, if none is allocated before.
//!
//! It follows refill run by run: pools below their target take turns, as [`PoolTarget`] says, within the pace that they
//! share.

mod simulation;

use std::{collections::BTreeMap, time::Duration};

use self::simulation::Simulation;
#[cfg(doc)]
use super::PoolTarget;
use super::{PoolTerms, RefillPace, ScheduledTarget};
use crate::clock::UnixSeconds;

/// How far ahead a forecast may be.
pub const LONGEST_FORECAST: Duration = Duration::from_hours(90 * 24);
/// How long after the time of the forecast a pool is still followed, to find out when it reaches its target.
const LATEST: Duration = Duration::from_hours(7 * 24);

/// A change of a pool that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolChange {
    /// A sandbox is deleted, or no longer listed by CSP. Its place below `max_total` is free.
    Gone,
    /// A sandbox that takes too long to become usable is set aside.
    GivenUp,
    /// A sandbox that is being created becomes available.
    Usable,
    /// A sandbox becomes available again after a quarantine.
    Returned,
    /// A sandbox becomes available whose creation is itself a part of the forecast.
    Created,
}

/// The expected changes of a pool, and how often each happens at a time.
pub type PoolChanges = BTreeMap<(UnixSeconds, PoolChange), u64>;

/// A pool as it is now.
#[derive(Clone, Debug)]
pub struct PoolOutlook {
    /// Its terms in the policy.
    pub terms: PoolTerms,
    /// Its available sandboxes.
    pub available: u64,
    /// Its sandboxes that are not usable yet, and the creations under way.
    pub warming: u64,
    /// Its sandboxes, in any status but `stale`, and the creations under way.
    pub total: u64,
    /// Its expected changes.
    pub changes: PoolChanges,
    /// The time from the creation of a sandbox until it is available.
    pub time_to_available: Duration,
    /// When sandboxes can become available at the earliest: later than now if syncs and checks are paused.
    pub usable_from: UnixSeconds,
    /// When refill can create sandboxes at the earliest, or why it does not.
    pub creates_from: Result<UnixSeconds, String>,
}

/// The forecast of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolForecast {
    /// Its target at the time of the forecast.
    pub target: u32,
    /// The schedule that states it.
    pub schedule: Option<ScheduledTarget>,
    /// The sandboxes that will be available.
    pub available: u64,
    /// Those of them that are not available now, but exist or are being created.
    pub arriving: u64,
    /// Those of them that refill has yet to create.
    pub created: u64,
    /// The sandboxes that will not be usable yet.
    pub warming: u64,
    /// The sandboxes that there will be, in any status but `stale`.
    pub total: u64,
    /// Why the target will not be reached; `None` if it will.
    pub shortfall: Option<Shortfall>,
}

/// A target that will not be reached in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// How many sandboxes are missing.
    pub missing: u64,
    /// Why, as a sentence.
    pub reason: String,
    /// When the target will be reached, if it will within a week.
    pub reached_at: Option<UnixSeconds>,
}

/// Returns the forecast of each pool for the time `at`, which is `now` or later. `pace` is `None` if nothing creates
/// sandboxes.
#[must_use]
pub fn forecast(
    now: UnixSeconds,
    at: UnixSeconds,
    pools: &[PoolOutlook],
    pace: Option<RefillPace>,
) -> Vec<PoolForecast> {
    let mut simulation = Simulation::new(now, pools, pace);
    simulation.advance(at);
    let mut forecasts = simulation.forecasts(at);
    let reached = simulation.reach(&forecasts, at + LATEST);
    for (forecast, reached_at) in forecasts.iter_mut().zip(reached) {
        if let Some(shortfall) = &mut forecast.shortfall {
            shortfall.reached_at = reached_at;
        }
    }
    forecasts
}

#[cfg(test)]
mod tests;
