//! The simulation of the pools: the runs of refill, and the changes that are expected.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{PoolChange, PoolChanges, PoolForecast, PoolOutlook, Shortfall};
use crate::{
    clock::UnixSeconds,
    domain::{
        PoolTarget, RefillPace,
        pool_target::{PoolSupply, Urgency},
    },
};

/// How many runs are simulated one by one at most. After as many, two runs are one step; then four, and so on, so that
/// months of creations cost a bounded time.
const STEPS_PER_STRIDE: usize = 500;
/// A step reads every pool and schedule. With many of them, fewer steps are one by one: as many as read so many of them.
const READS_PER_STRIDE: usize = 400_000;
/// How many runs are simulated one by one with any number of pools and schedules.
const MIN_STEPS_PER_STRIDE: usize = 10;
/// The longest step is 2 to the power of so many runs.
const LONGEST_STRIDE: usize = 16;

/// The pools at some time, from which they are advanced.
#[derive(Debug)]
pub(super) struct Simulation<'a> {
    pools: Vec<SimulatedPool<'a>>,
    steps_per_stride: usize,
    pace: Option<RefillPace>,
    /// When refill runs next.
    run_at: UnixSeconds,
    /// The steps so far in which refill has created something, and those in which it has not.
    steps: usize,
    idle_steps: usize,
}

/// A pool at the time of the simulation.
#[derive(Debug)]
struct SimulatedPool<'a> {
    outlook: &'a PoolOutlook,
    available: u64,
    arrived: u64,
    created: u64,
    warming: u64,
    total: u64,
    changes: PoolChanges,
}

impl<'a> Simulation<'a> {
    /// Returns the pools as they are at `now`. The first run of refill begins an interval later.
    pub(super) fn new(
        now: UnixSeconds,
        pools: &'a [PoolOutlook],
        pace: Option<RefillPace>,
    ) -> Self {
        let schedules = pools.iter().map(|outlook| outlook.terms.schedules.len());
        let read = pools.len() + schedules.sum::<usize>();
        let steps = READS_PER_STRIDE / read.max(1);
        let pools = pools.iter().map(|outlook| SimulatedPool {
            outlook,
            available: outlook.available,
            arrived: 0,
            created: 0,
            warming: outlook.warming,
            total: outlook.total,
            changes: outlook.changes.clone(),
        });
        Self {
            pools: pools.collect(),
            steps_per_stride: steps.clamp(MIN_STEPS_PER_STRIDE, STEPS_PER_STRIDE),
            pace,
            run_at: pace.map_or(UnixSeconds::NEVER, |pace| now + pace.interval),
            steps: 0,
            idle_steps: 0,
        }
    }

    /// Advances the pools to the end of the second `until`.
    pub(super) fn advance(&mut self, until: UnixSeconds) {
        while let Some(pace) = self.pace
            && self.run_at <= until
        {
            self.apply_until(self.run_at);
            self.run_at = self.run(self.run_at, pace);
        }
        self.apply_until(until);
    }

    /// Returns when each pool reaches its target of the forecasts; `None` if it does not by `latest`.
    pub(super) fn reach(
        mut self,
        forecasts: &[PoolForecast],
        latest: UnixSeconds,
    ) -> Vec<Option<UnixSeconds>> {
        let mut reached_at = vec![None; self.pools.len()];
        let mut waiting: Vec<usize> = (0..forecasts.len())
            .filter(|pool| forecasts[*pool].shortfall.is_some())
            .collect();
        loop {
            let until = self.run_at.min(latest);
            waiting.retain(|pool| {
                let target = forecasts[*pool].target.into();
                reached_at[*pool] = self.pools[*pool].reach(target, until);
                reached_at[*pool].is_none()
            });
            let Some(pace) = self
                .pace
                .filter(|_| self.run_at <= latest && !waiting.is_empty())
            else {
                break;
            };
            self.apply_until(until);
            self.run_at = self.run(until, pace);
        }
        reached_at
    }

    /// Returns the forecasts for the time `at`, to which the pools have been advanced.
    pub(super) fn forecasts(&self, at: UnixSeconds) -> Vec<PoolForecast> {
        let forecasts = self.pools.iter().map(|pool| {
            let target = PoolTarget::in_force(at, &pool.outlook.terms);
            let missing = u64::from(target.target).saturating_sub(pool.available);
            PoolForecast {
                target: target.target,
                schedule: target.schedule,
                available: pool.available,
                arriving: pool.arrived,
                created: pool.created,
                warming: pool.warming,
                total: pool.total,
                shortfall: (missing > 0).then(|| Shortfall {
                    missing,
                    reason: pool.reason(missing, at, self.pace),
                    reached_at: None,
                }),
            }
        });
        forecasts.collect()
    }

    fn supplies(&self) -> Vec<PoolSupply<'a>> {
        let supplies = self.pools.iter().map(|pool| PoolSupply {
            terms: &pool.outlook.terms,
            available: pool.available,
            time_to_available: pool.outlook.time_to_available,
        });
        supplies.collect()
    }

    fn apply_until(&mut self, until: UnixSeconds) {
        for pool in &mut self.pools {
            pool.apply_until(until);
        }
    }

    /// Returns the next change after which refill may create something that it cannot create now.
    fn next_need(&self) -> UnixSeconds {
        let changes = self.pools.iter().filter_map(SimulatedPool::next_need);
        changes.min().unwrap_or(UnixSeconds::NEVER)
    }

    /// Returns how many runs are one step after so many steps.
    fn stride(&self, steps: usize) -> u32 {
        1 << (steps / self.steps_per_stride).min(LONGEST_STRIDE)
    }

    /// Simulates the next runs of refill, and returns when the one after them is that can create something.
    fn run(&mut self, now: UnixSeconds, pace: RefillPace) -> UnixSeconds {
        let (targets, next) = PoolTarget::until(now, &self.supplies(), self.pace);
        let mut turns: BinaryHeap<Reverse<(Urgency, usize)>> = (0..targets.len())
            .filter_map(|index| self.turn(index, now, &targets))
            .collect();
        if turns.is_empty() {
            let begins = self.pools.iter().filter_map(|pool| {
                let begins = pool.outlook.creates_from.as_ref().ok()?;
                Some(*begins).filter(|begins| *begins > now)
            });
            let next = begins.chain(next).min().unwrap_or(UnixSeconds::NEVER);
            let earliest = now + pace.interval.saturating_mul(self.stride(self.idle_steps));
            self.idle_steps += 1;
            let next = next.min(self.next_need()).max(earliest);
            return next_run(now, next, pace.interval);
        }
        let runs = self.stride(self.steps);
        let (at_most, batch) = (u64::from(runs) * u64::from(pace.batch), pace.batch.max(1));
        let mut created = 0;
        let mut begun_at = now;
        while created < at_most
            && let Some(Reverse((_, index))) = turns.pop()
        {
            let (pool, target) = (&mut self.pools[index], &targets[index]);
            let count = pool.missing(target).min(runs.into()).min(at_most - created);
            created += count;
            // The run that creates the last of them.
            let run = u32::try_from((created - 1) / u64::from(batch)).unwrap_or(u32::MAX);
            begun_at = now + pace.interval.saturating_mul(run);
            pool.create(count, begun_at);
            turns.extend(self.turn(index, now, &targets));
        }
        self.steps += 1;
        begun_at + pace.interval
    }

    /// Returns the turn of a pool in a run at `now`; `None` if refill creates nothing for it.
    fn turn(
        &self,
        index: usize,
        now: UnixSeconds,
        targets: &[PoolTarget],
    ) -> Option<Reverse<(Urgency, usize)>> {
        let pool = &self.pools[index];
        let may_create = pool
            .outlook
            .creates_from
            .as_ref()
            .is_ok_and(|at| *at <= now);
        let urgency = targets[index].urgency(pool.available + pool.warming)?;
        (may_create && pool.room() > 0).then_some(Reverse((urgency, index)))
    }
}

/// Returns the time of the first run at or after `next`; runs follow `now` at this interval.
fn next_run(now: UnixSeconds, next: UnixSeconds, interval: Duration) -> UnixSeconds {
    let interval = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1);
    let runs = (next.0.saturating_sub(now.0) - 1) / interval + 1;
    UnixSeconds(now.0.saturating_add(runs.max(1).saturating_mul(interval)))
}

impl SimulatedPool<'_> {
    /// Returns the next change after which refill may create a sandbox that it cannot create now. A sandbox that becomes
    /// available was expected to, and makes leads shorter, so that nothing is created because of it.
    fn next_need(&self) -> Option<UnixSeconds> {
        let is_full = self.room() == 0;
        let mut changes = self.changes.keys();
        let need = changes.find(|(_, change)| match change {
            PoolChange::GivenUp => true,
            PoolChange::Gone => is_full,
            PoolChange::Usable | PoolChange::Returned | PoolChange::Created => false,
        });
        need.map(|(at, _)| *at)
    }

    /// Applies the changes until so many sandboxes are available, and returns when they are; `None` if they are not by the
    /// end of the second `until`.
    fn reach(&mut self, available: u64, until: UnixSeconds) -> Option<UnixSeconds> {
        while let Some(first) = self.changes.first_entry()
            && first.key().0 <= until
        {
            let ((at, change), count) = first.remove_entry();
            self.apply(change, count);
            if self.available >= available {
                return Some(at);
            }
        }
        None
    }

    /// Returns how many sandboxes may be added.
    fn room(&self) -> u64 {
        let max = self.outlook.terms.max_total.map_or(u64::MAX, u64::from);
        max.saturating_sub(self.total)
    }

    /// Returns how many sandboxes are missing that there is room for.
    fn missing(&self, target: &PoolTarget) -> u64 {
        let missing = u64::from(target.goal).saturating_sub(self.available + self.warming);
        missing.min(self.room())
    }

    /// Creates sandboxes.
    fn create(&mut self, count: u64, at: UnixSeconds) {
        self.warming += count;
        self.total += count;
        let usable_at = at + self.outlook.time_to_available;
        let usable_at = usable_at.max(self.outlook.usable_from);
        *self
            .changes
            .entry((usable_at, PoolChange::Created))
            .or_default() += count;
    }

    fn apply_until(&mut self, until: UnixSeconds) {
        while let Some(first) = self.changes.first_entry()
            && first.key().0 <= until
        {
            let ((_, change), count) = first.remove_entry();
            self.apply(change, count);
        }
    }

    fn apply(&mut self, change: PoolChange, count: u64) {
        match change {
            PoolChange::Gone => self.total = self.total.saturating_sub(count),
            PoolChange::GivenUp => self.warming = self.warming.saturating_sub(count),
            PoolChange::Returned => {
                self.available += count;
                self.arrived += count;
            }
            PoolChange::Usable => {
                self.warming = self.warming.saturating_sub(count);
                self.available += count;
                self.arrived += count;
            }
            PoolChange::Created => {
                self.warming = self.warming.saturating_sub(count);
                self.available += count;
                self.created += count;
            }
        }
    }

    /// Returns why sandboxes are missing at a time.
    fn reason(&self, missing: u64, at: UnixSeconds, pace: Option<RefillPace>) -> String {
        let outlook = self.outlook;
        if self.warming >= missing {
            let seconds = outlook.time_to_available.as_secs();
            return format!(
                "{missing} are being created then: a new sandbox is expected to take {seconds} s."
            );
        }
        match (&outlook.creates_from, outlook.terms.max_total, pace) {
            (Err(reason), ..) => reason.clone(),
            (Ok(from), ..) if *from > at => "Refill is paused until later.".to_owned(),
            (_, Some(max), _) if self.room() == 0 => format!(
                "The pool will have {} sandboxes in all statuses but stale, and its max_total is {max}.",
                self.total
            ),
            (.., Some(RefillPace { batch, interval })) => format!(
                "The time is too short: refill creates at most {batch} sandboxes every {} s, for all pools together.",
                interval.as_secs()
            ),
            (.., None) => "Nothing creates sandboxes.".to_owned(),
        }
    }
}
