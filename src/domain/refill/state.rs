//! The state of a pool's refill, which runs share.

use std::time::Duration;

use crate::{clock::UnixSeconds, domain::percentile::percentile_95};

/// The number of measured times below which their percentile says nothing.
const FEWEST_TIMES: usize = 5;
/// The time between two attempts to create an account in a pool whose refill is stopped.
const PROBE_PAUSE: Duration = Duration::from_mins(15);

/// The state of a pool's refill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefillState {
    /// The number of the last creation.
    pub last_number: u64,
    /// Why no accounts are created; `None` if they are.
    pub stop: Option<RefillStop>,
    /// Since when fewer sandboxes than its target are available.
    pub below_since: Option<UnixSeconds>,
    /// The times from the last request to CSP until the sandbox was available, of up to 100 creations, in no order.
    pub times: Vec<Duration>,
}

/// Why a pool creates no accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefillStop {
    /// CSP's answer.
    pub reason: String,
    /// When the stop began.
    pub since: UnixSeconds,
    /// When one creation is attempted again.
    pub next_attempt_at: UnixSeconds,
    /// The version of the policy under which CSP refused.
    pub policy_version: u32,
}

impl RefillStop {
    /// Returns the stop that an answer of CSP at `now` begins.
    #[must_use]
    pub fn new(reason: String, now: UnixSeconds, policy_version: u32) -> Self {
        Self {
            reason,
            since: now,
            next_attempt_at: now + PROBE_PAUSE,
            policy_version,
        }
    }

    /// Returns the reason and the end of the stop, for the report of a run.
    #[must_use]
    pub fn report_reason(&self) -> String {
        format!(
            "{}; the next attempt is after {}, or at once when an operator starts the job",
            self.reason,
            self.next_attempt_at.iso()
        )
    }

    /// Returns whether one creation may be attempted: after a pause, and at once under another version of the policy.
    #[must_use]
    pub fn admits_probe(&self, now: UnixSeconds, policy_version: u32) -> bool {
        self.policy_version != policy_version
            || self.next_attempt_at.due_in(now, PROBE_PAUSE).is_zero()
    }
}

impl RefillState {
    /// Returns the 95th percentile of the measured times; `None` with too few.
    #[must_use]
    pub fn time_to_available(&self) -> Option<Duration> {
        percentile_95(self.times.clone()).filter(|_| self.times.len() >= FEWEST_TIMES)
    }

    /// Returns `below_since` at `now`, when the pool is below its target, or not. A time that lies ahead was written by a
    /// clock that was wrong.
    #[must_use]
    pub fn below_since(&self, is_below: bool, now: UnixSeconds) -> Option<UnixSeconds> {
        let since = self.below_since.and_then(|since| since.if_credible(now));
        is_below.then(|| since.unwrap_or(now))
    }
}
