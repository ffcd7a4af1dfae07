//! The state of a pool of the policy: whether it has what it should have, and if not, why.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::{NamePrefix, PoolCounts, PoolTarget, PoolTerms, RefillPace};
use crate::clock::UnixSeconds;

/// A creation is not late before this time: the monitor counts once a minute, and a run may wait for the one before.
const LATE_AT_LEAST: Duration = Duration::from_mins(10);

/// The creations of a pool, as refill has recorded them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefillProgress {
    /// Creations under way: the pool has no sandbox of theirs yet.
    pub under_way: u64,
    /// When the oldest creation began whose sandbox is not available yet.
    pub oldest: Option<UnixSeconds>,
    /// Since when fewer sandboxes than its target have been available.
    pub below_since: Option<UnixSeconds>,
    /// Why no more accounts are requested; `None` if they are.
    pub refusal: Option<Refusal>,
    /// The 95th percentile of the time from a creation until its sandbox is available; `None` before there are enough.
    pub time_to_available: Option<Duration>,
}

/// Why no accounts are created for a pool: an answer of CSP, until it accepts one again, or an item that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// CSP's message, or the fault of the item.
    pub reason: String,
    /// When CSP refused first.
    pub since: Option<UnixSeconds>,
}

/// The state of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    /// Nothing creates sandboxes for it.
    Watched,
    /// It has as many available sandboxes as it should have.
    Full,
    /// Sandboxes are being created, or soon will be: after the pause, if refill is paused.
    Filling,
    /// It has been below its target for longer than a creation takes.
    Late,
    /// No accounts are created for it, because CSP refuses to, or because an item of its refill is unreadable.
    Stopped,
    /// It is below its target, but may have no more sandboxes.
    AtMaximum,
}

impl PoolState {
    /// Returns the name used in the API and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watched => "watched",
            Self::Full => "full",
            Self::Filling => "filling",
            Self::Late => "late",
            Self::Stopped => "stopped",
            Self::AtMaximum => "at_maximum",
        }
    }
}

/// A pool of the policy, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// The beginning of the names of its sandboxes.
    pub name_prefix: NamePrefix,
    /// How many sandboxes should be available now, and for the schedules ahead.
    pub target: PoolTarget,
    /// How many should be available without a schedule.
    pub target_available: u32,
    /// How many sandboxes there may be in all.
    pub max_total: Option<u32>,
    /// Whether the policy states how sandboxes are created.
    pub is_created: bool,
    /// Its sandboxes, by status.
    pub counts: PoolCounts,
    /// Its creations; `None` if nothing creates sandboxes for it.
    pub refill: Option<RefillProgress>,
    /// Its state.
    pub state: PoolState,
    /// The reason of the state, for operators.
    pub reason: Option<String>,
    /// Since when it has been in this state, as far as that is known.
    pub since: Option<UnixSeconds>,
    /// Since when it has been late. A pool can be late and stopped.
    pub late_since: Option<UnixSeconds>,
    /// Whether more is missing than one run of refill begins, or anything while no creation is under way.
    pub is_waiting: bool,
}

/// The facts from which the state of a pool follows.
#[derive(Clone, Debug)]
pub struct PoolFacts<'a> {
    /// Its terms in the policy.
    pub terms: &'a PoolTerms,
    /// How many sandboxes should be available.
    pub target: PoolTarget,
    /// Its sandboxes, by status.
    pub counts: PoolCounts,
    /// Its creations; `None` if nothing creates sandboxes for it.
    pub refill: Option<RefillProgress>,
    /// For how long more has been missing than one run of refill begins. Measured by a clock that does not jump.
    pub waited: Duration,
    /// Whether an operator has paused refill.
    pub is_paused: bool,
}

impl PoolStatus {
    /// Returns the status of a pool at `now`. `pace` is that of refill; `assumed` is the time from a creation until its
    /// sandbox is available, where it has not been measured.
    #[must_use]
    pub fn at(now: UnixSeconds, facts: PoolFacts<'_>, pace: RefillPace, assumed: Duration) -> Self {
        let PoolFacts {
            terms,
            refill,
            is_paused,
            ..
        } = facts;
        let mut status = Self {
            name_prefix: terms.name_prefix.clone(),
            target: facts.target,
            target_available: terms.target_available,
            max_total: terms.max_total,
            is_created: terms.create.is_some(),
            counts: facts.counts,
            refill,
            state: PoolState::Watched,
            reason: None,
            since: None,
            late_since: None,
            is_waiting: false,
        };
        if let Some(refill) = status.refill.clone() {
            let takes = refill.time_to_available.unwrap_or(assumed);
            // As long as creations begin, the next run begins what it can.
            let has_begun = status.supply() > status.counts.available;
            let next_run = if has_begun { pace.batch.into() } else { 0 };
            status.is_waiting = status.not_begun() > next_run;
            status.late_since = status.late_since(&refill, facts.waited, pace, takes, now);
            let (state, reason, since) = status.judge(refill, takes);
            let reason = reason.or_else(|| {
                let is_held_up = is_paused && state == PoolState::Filling;
                is_held_up.then(|| "refill is paused".to_owned())
            });
            (status.state, status.reason, status.since) = (state, reason, since);
        }
        status
    }

    /// Returns the state, its reason and its begin.
    fn judge(
        &self,
        refill: RefillProgress,
        takes: Duration,
    ) -> (PoolState, Option<String>, Option<UnixSeconds>) {
        let (counts, goal) = (&self.counts, u64::from(self.target.goal));
        if counts.available >= goal {
            return (PoolState::Full, None, None);
        }
        // A refused creation is under way until CSP accepts it.
        let refusal = refill
            .refusal
            .filter(|_| self.available_or_provisioning() < goal);
        if let Some(Refusal { reason, since }) = refusal {
            return (PoolState::Stopped, Some(reason), since);
        }
        if let Some(since) = self.late_since {
            let reason = match refill.oldest {
                Some(oldest) => format!(
                    "a creation takes {}, and the oldest that is under way began at {}",
                    minutes(takes),
                    oldest.iso()
                ),
                None => "more sandboxes are missing than runs of refill begin to create".to_owned(),
            };
            return (PoolState::Late, Some(reason), Some(since));
        }
        if self.room() == Some(0) && self.supply() < goal {
            let reason = format!(
                "{} sandboxes exist or are being created, and max_total permits no more",
                self.in_use() + refill.under_way
            );
            return (PoolState::AtMaximum, Some(reason), refill.below_since);
        }
        (PoolState::Filling, None, refill.below_since)
    }

    /// Returns since when the pool has been late. Sandboxes are allocated and replaced all the time, so a pool with
    /// traffic is below its target all the time: it is late if a creation takes longer than it should, or if more has
    /// been missing for that long than one run can begin.
    fn late_since(
        &self,
        refill: &RefillProgress,
        waited: Duration,
        pace: RefillPace,
        takes: Duration,
        now: UnixSeconds,
    ) -> Option<UnixSeconds> {
        let target = u64::from(self.target.target);
        let missing = target.saturating_sub(self.counts.available);
        if missing == 0 {
            return None;
        }
        let permitted = pace.time_to_create(missing, takes).max(LATE_AT_LEAST);
        let waiting_since = self.is_waiting.then_some(now - waited);
        let begun = refill.oldest.into_iter().chain(waiting_since).min()?;
        let late = begun + permitted;
        (late < now).then_some(late)
    }

    /// Returns how many sandboxes are missing without a creation, as far as there may be more.
    fn not_begun(&self) -> u64 {
        let missing = u64::from(self.target.target).saturating_sub(self.supply());
        self.room().map_or(missing, |room| room.min(missing))
    }

    /// Returns the available sandboxes and those whose accounts are not known to be usable yet.
    const fn available_or_provisioning(&self) -> u64 {
        self.counts.available + self.counts.provisioning
    }

    /// Returns the sandboxes that are available or will be without a further creation.
    fn supply(&self) -> u64 {
        self.available_or_provisioning() + self.under_way()
    }

    /// Returns the sandboxes that count for `max_total`.
    #[must_use]
    pub const fn in_use(&self) -> u64 {
        self.counts.total() - self.counts.stale
    }

    /// Returns how many more creations `max_total` permits; `None` without it.
    fn room(&self) -> Option<u64> {
        let max = u64::from(self.max_total?);
        Some(max.saturating_sub(self.in_use() + self.under_way()))
    }

    /// Returns the creations under way.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.refill.as_ref().map_or(0, |refill| refill.under_way)
    }

    /// Returns whether no accounts are created for the pool although it lacks some.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state == PoolState::Stopped
    }
}

/// Returns how many sandboxes are available or will be in time: `available` ones, and those that are being created or
/// checked, except in pools that are late or stopped.
#[must_use]
pub fn expected_available(counts: &PoolCounts, pools: &[PoolStatus]) -> u64 {
    let (mut warming, mut doubtful) = (counts.provisioning, 0);
    for pool in pools {
        if pool.late_since.is_some() || pool.is_stopped() {
            doubtful += pool.counts.provisioning;
        } else {
            warming += pool.under_way();
        }
    }
    counts.available + warming.saturating_sub(doubtful)
}

/// Formats a duration in whole minutes.
fn minutes(span: Duration) -> String {
    match span.as_secs().div_ceil(60).max(1) {
        1 => "1 minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests;
