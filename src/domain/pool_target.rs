//! The targets of the pools: how many sandboxes should be available, now and for the schedules ahead.

use std::{cmp::Reverse, time::Duration};

use super::PoolTerms;
use crate::clock::UnixSeconds;

/// The target of a pool from one time to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledTarget {
    /// When it begins.
    pub from: UnixSeconds,
    /// When it ends: its first second that is no part of it.
    pub to: UnixSeconds,
    /// How many sandboxes should be available.
    pub target_available: u32,
    /// How long before `from` their creation begins; `None` if as long as it takes.
    pub lead: Option<Duration>,
}

/// How fast refill creates sandboxes, all pools together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefillPace {
    /// The creations of one run at most.
    pub batch: u32,
    /// The time from one run to the next.
    pub interval: Duration,
}

/// A pool with the facts that its target depends on.
#[derive(Clone, Copy, Debug)]
pub struct PoolSupply<'a> {
    /// Its terms in the policy.
    pub terms: &'a PoolTerms,
    /// Its available sandboxes. Those that are being created do not count: the lead of a schedule would otherwise become
    /// shorter with each creation, and end before they are available.
    pub available: u64,
    /// The time from the creation of a sandbox until it is available.
    pub time_to_available: Duration,
}

/// The target of a pool at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolTarget {
    /// How many sandboxes should be available now; 0 if the policy states no target.
    pub target: u32,
    /// How many sandboxes there should be, available or being created. More than `target` in the lead of a schedule.
    pub goal: u32,
    /// The schedule that states the goal, in force or ahead; `None` if the pool itself does.
    pub schedule: Option<ScheduledTarget>,
}

/// The order in which pools take turns: the smallest goes first. The time when the sandbox is missing, the earliest if it
/// is missing now; then the part of the target that is missing.
pub type Urgency = (UnixSeconds, Reverse<u64>);

impl RefillPace {
    /// Returns the time from the first of `count` creations until the last sandbox is available. The first run may begin
    /// an interval later.
    #[must_use]
    pub fn time_to_create(self, count: u64, time_to_available: Duration) -> Duration {
        let runs = count.div_ceil(u64::from(self.batch.max(1)));
        let runs = u32::try_from(runs).unwrap_or(u32::MAX);
        time_to_available.saturating_add(self.interval.saturating_mul(runs))
    }
}

impl ScheduledTarget {
    /// Returns whether it is in force at `now`.
    #[must_use]
    pub fn is_in_force(&self, now: UnixSeconds) -> bool {
        self.from <= now && now < self.to
    }
}

impl PoolTarget {
    /// Returns the targets of all pools at `now`, in their order. `pace` is `None` if nothing creates sandboxes: then only
    /// stated leads count.
    ///
    /// Of the schedules in force, the largest target replaces that of the pool. A schedule ahead counts once its lead has
    /// begun. Pools share the pace, so the lead is long enough for everything that all of them miss by then.
    #[must_use]
    pub fn at(now: UnixSeconds, pools: &[PoolSupply<'_>], pace: Option<RefillPace>) -> Vec<Self> {
        Self::until(now, pools, pace).0
    }

    /// Returns the targets of all pools at `now`, and the earliest time at which one may grow beyond the available
    /// sandboxes of its pool while none is allocated; `None` if none will.
    pub(super) fn until(
        now: UnixSeconds,
        pools: &[PoolSupply<'_>],
        pace: Option<RefillPace>,
    ) -> (Vec<Self>, Option<UnixSeconds>) {
        let mut targets: Vec<_> = pools
            .iter()
            .map(|pool| Self::in_force(now, pool.terms))
            .collect();
        let mut missing: Vec<u64> = pools
            .iter()
            .zip(&targets)
            .map(|(pool, target)| pool.missing(target.target))
            .collect();
        let mut all_missing: u64 = missing.iter().sum();
        let mut next = None;
        let mut ahead: Vec<(usize, ScheduledTarget)> = Vec::new();
        for (index, pool) in pools.iter().enumerate() {
            for schedule in &pool.terms.schedules {
                if pool.missing(schedule.target_available) > 0 {
                    next = earlier(next, [schedule.from], now);
                }
                // The target of the pool itself is in force again.
                if pool.missing(pool.terms.target_available) > 0 {
                    next = earlier(next, [schedule.to], now);
                }
                if schedule.from > now {
                    ahead.push((index, *schedule));
                }
            }
        }
        ahead.sort_by_key(|(_, schedule)| schedule.from);
        for at_once in ahead.chunk_by(|(_, a), (_, b)| a.from == b.from) {
            for (index, schedule) in at_once {
                let misses = pools[*index].missing(schedule.target_available);
                all_missing += misses.saturating_sub(missing[*index]);
                missing[*index] = missing[*index].max(misses);
            }
            for (index, schedule) in at_once {
                let (pool, target) = (&pools[*index], &mut targets[*index]);
                let begins = schedule.from - pool.lead(schedule, all_missing, pace);
                if pools[*index].missing(schedule.target_available) > 0 {
                    next = earlier(next, [begins], now);
                }
                if begins <= now && schedule.target_available > target.goal {
                    target.goal = schedule.target_available;
                    target.schedule = Some(*schedule);
                }
            }
        }
        (targets, next)
    }

    /// Returns the target of a pool at `now`, without regard to schedules ahead.
    #[must_use]
    pub fn in_force(now: UnixSeconds, terms: &PoolTerms) -> Self {
        let schedules = terms.schedules.iter().filter(|s| s.is_in_force(now));
        let schedule = schedules.max_by_key(|s| s.target_available).copied();
        let target = schedule.map_or(terms.target_available, |s| s.target_available);
        Self {
            target,
            goal: target,
            schedule,
        }
    }

    /// Returns the turn of a pool with `supply` sandboxes, available or being created; `None` if it misses none.
    #[must_use]
    pub fn urgency(&self, supply: u64) -> Option<Urgency> {
        let (goal, due) = if supply < self.target.into() {
            (self.target, UnixSeconds(i64::MIN))
        } else {
            let due = self.schedule.map_or(UnixSeconds::NEVER, |s| s.from);
            (self.goal, due)
        };
        let missing = u64::from(goal).checked_sub(supply).filter(|n| *n > 0)?;
        Some((due, Reverse(missing * 1_000_000 / u64::from(goal))))
    }
}

impl PoolSupply<'_> {
    /// Returns how many sandboxes have to be created for a target.
    fn missing(&self, target: u32) -> u64 {
        if self.terms.create.is_none() {
            return 0;
        }
        u64::from(target).saturating_sub(self.available)
    }

    /// Returns the lead of a schedule, by whose begin the pools miss so many sandboxes.
    fn lead(&self, schedule: &ScheduledTarget, missing: u64, pace: Option<RefillPace>) -> Duration {
        let pace = pace.filter(|_| self.terms.create.is_some());
        let needed = || pace.map(|pace| pace.time_to_create(missing, self.time_to_available));
        schedule.lead.or_else(needed).unwrap_or_default()
    }
}

/// Returns the earliest of the times that are after `now`.
fn earlier(
    earliest: Option<UnixSeconds>,
    times: impl IntoIterator<Item = UnixSeconds>,
    now: UnixSeconds,
) -> Option<UnixSeconds> {
    let ahead = times.into_iter().filter(|at| *at > now);
    earliest.into_iter().chain(ahead).min()
}

#[cfg(test)]
mod tests;
