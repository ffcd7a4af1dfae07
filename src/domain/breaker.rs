//! The state of a circuit breaker, which processes share through the companion table.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerState {
    /// The number of consecutive failures.
    pub failures: u32,
    /// End of the open phase, after which probes are admitted; `None` if the breaker is closed.
    pub open_until: Option<UnixSeconds>,
    /// The number of times that the breaker has opened, in all processes.
    pub openings: u64,
}

/// The phase of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerPhase {
    /// Calls are made.
    Closed,
    /// No calls are made for a while.
    Open,
    /// One call at a time is made as a probe.
    HalfOpen,
}

impl BreakerPhase {
    /// Every phase.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Returns the name used in the API and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl BreakerState {
    /// Returns the phase at `now` of a breaker that opens for at most `longest`.
    #[must_use]
    pub fn phase(&self, now: UnixSeconds, longest: Duration) -> BreakerPhase {
        match self.open_until {
            None => BreakerPhase::Closed,
            Some(until) if until.due_in(now, longest).is_zero() => BreakerPhase::HalfOpen,
            Some(_) => BreakerPhase::Open,
        }
    }

    /// Combines this state with `theirs`, both changed from `base`. If both have changed, the later end and the
    /// higher count are kept.
    #[must_use]
    pub fn merged(self, base: Self, theirs: Self) -> Self {
        if self == base {
            return theirs;
        }
        let own = self.openings.saturating_sub(base.openings);
        let openings = theirs.openings.saturating_add(own);
        if theirs == base {
            return Self { openings, ..self };
        }
        Self {
            failures: self.failures.max(theirs.failures),
            open_until: self.open_until.max(theirs.open_until),
            openings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn open(failures: u32, until: i64, openings: u64) -> BreakerState {
        BreakerState {
            failures,
            open_until: Some(UnixSeconds(until)),
            openings,
        }
    }

    #[test]
    fn breaker_that_a_wrong_clock_opened_for_a_day_is_half_open() {
        let now = UnixSeconds(1_000_000);
        let phase = |state: BreakerState| state.phase(now, HOUR);
        assert_eq!(phase(BreakerState::default()), BreakerPhase::Closed);
        assert_eq!(phase(open(5, 1_000_060, 1)), BreakerPhase::Open);
        assert_eq!(phase(open(5, 1_000_000, 1)), BreakerPhase::HalfOpen);
        assert_eq!(phase(open(5, 1_086_400, 1)), BreakerPhase::HalfOpen);
    }

    #[test]
    fn more_cautious_state_holds_if_both_have_changed() {
        let base = open(5, 100, 3);
        let closed = BreakerState {
            openings: 3,
            ..BreakerState::default()
        };
        assert_eq!(closed.merged(base, base), closed);
        assert_eq!(base.merged(base, closed), closed);
        assert_eq!(closed.merged(base, open(6, 160, 4)), open(6, 160, 4));
        assert_eq!(
            open(7, 170, 4).merged(base, open(6, 160, 4)),
            open(7, 170, 5)
        );
    }

    #[test]
    fn any_stored_number_of_openings_is_merged() {
        let merged = open(7, 170, 4).merged(open(5, 100, 3), open(6, 160, u64::MAX));
        assert_eq!(merged.openings, u64::MAX);
    }
}
