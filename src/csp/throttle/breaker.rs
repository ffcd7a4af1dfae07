//! The circuit breaker.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::{
    clock::{Clock, UnixSeconds},
    shared::lock,
};

/// The configuration of a circuit breaker.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// The number of consecutive failures that opens it.
    pub threshold: u32,
    /// How long it stays open before it admits a probe.
    pub timeout: Duration,
}

/// The decision of a circuit breaker on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerDecision {
    /// The breaker is closed: any number of calls may be made.
    Allowed,
    /// The breaker is half-open: this one call may be made, to test whether CSP is available again.
    Probe,
    /// The breaker is open: no call may be made before this time.
    Refused(UnixSeconds),
}

/// A circuit breaker. After a number of consecutive failures it rejects all calls for a while; then it admits one probe
/// at a time until one succeeds.
///
/// Circuit breakers on crates.io read the system clock, which a test cannot advance. This one uses a [`Clock`].
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// End of the open state, after which probes are admitted; `None` if closed.
    open_until: Option<UnixSeconds>,
}

impl Breaker {
    /// Creates a closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            config,
            clock,
            state: Mutex::default(),
        }
    }

    /// Returns the value of the metric's `state` label.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let state = self.lock();
        match state.open_until {
            None => "closed",
            Some(until) if self.clock.now() < until => "open",
            Some(_) => "half_open",
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Decides whether a call may be made. The result of the call must be reported. If a probe never reports, the next
    /// one is admitted after the configured time-out.
    pub fn admit(&self) -> BreakerDecision {
        let now = self.clock.now();
        let mut state = self.lock();
        match state.open_until {
            None => BreakerDecision::Allowed,
            Some(until) if now < until => BreakerDecision::Refused(until),
            Some(_) => {
                state.open_until = Some(now + self.config.timeout);
                BreakerDecision::Probe
            }
        }
    }

    /// Returns whether the breaker is open or half-open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lock().open_until.is_some()
    }

    /// Reports that a call succeeded.
    pub fn succeeded(&self) {
        *self.lock() = State::default();
    }

    /// Reports a transient failure of a call, with the `Retry-After` of the answer.
    pub fn failed(&self, retry_after: Option<Duration>) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= self.config.threshold || state.open_until.is_some() {
            let pause = self.config.timeout.max(retry_after.unwrap_or_default());
            state.open_until = Some(self.clock.now() + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn breaker() -> (Arc<ManualClock>, Breaker) {
        let clock = Arc::new(ManualClock::new(UnixSeconds(1000)));
        let config = BreakerConfig {
            threshold: 3,
            timeout: Duration::from_mins(1),
        };
        (Arc::clone(&clock), Breaker::new(config, clock))
    }

    #[test]
    fn breaker_opens_after_consecutive_failures() {
        let (_clock, breaker) = breaker();
        for _ in 0..2 {
            breaker.failed(None);
        }
        breaker.succeeded();
        for _ in 0..2 {
            breaker.failed(None);
        }
        assert_eq!(breaker.admit(), BreakerDecision::Allowed);
        breaker.failed(None);
        assert_eq!(breaker.admit(), BreakerDecision::Refused(UnixSeconds(1060)));
    }

    #[test]
    fn half_open_breaker_admits_one_probe_at_a_time_until_one_succeeds() {
        let (clock, breaker) = breaker();
        for _ in 0..3 {
            breaker.failed(None);
        }
        clock.advance(Duration::from_mins(1));
        assert_eq!(breaker.admit(), BreakerDecision::Probe);
        assert!(matches!(breaker.admit(), BreakerDecision::Refused(_)));
        breaker.failed(None);
        assert!(
            matches!(breaker.admit(), BreakerDecision::Refused(_)),
            "one failed probe is enough"
        );
        clock.advance(Duration::from_mins(1));
        assert_eq!(breaker.admit(), BreakerDecision::Probe);
        breaker.succeeded();
        assert_eq!(breaker.admit(), BreakerDecision::Allowed);
    }

    #[test]
    fn breaker_stays_open_for_the_requested_time() {
        let (_clock, breaker) = breaker();
        for _ in 0..3 {
            breaker.failed(Some(Duration::from_mins(5)));
        }
        assert_eq!(breaker.admit(), BreakerDecision::Refused(UnixSeconds(1300)));
    }
}
