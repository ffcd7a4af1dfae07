//! The circuit breaker.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::{
    clock::{Clock, UnixSeconds},
    csp::http::MAX_RETRY_AFTER,
    domain::BreakerState,
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

impl BreakerConfig {
    /// Returns the longest time that the breaker stays open after a failure.
    #[must_use]
    pub fn longest_open(&self) -> Duration {
        self.timeout.max(MAX_RETRY_AFTER)
    }
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
/// Circuit breakers on crates.io read the system clock, which a test cannot advance. This one uses a [`Clock`], and of
/// that the monotonic time, so that a correction of the clock neither extends nor shortens the open phase.
#[derive(Debug)]
pub struct Breaker {
    name: &'static str,
    config: BreakerConfig,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// `None` if closed.
    open_until: Option<End>,
    /// Whether a probe has been admitted that has not reported its result.
    is_probing: bool,
    openings: u64,
}

/// The end of the open phase, after which probes are admitted.
#[derive(Clone, Copy, Debug)]
struct End {
    monotonic: Duration,
    /// For other processes.
    wall: UnixSeconds,
}

impl Breaker {
    /// Creates a closed breaker; `name` is that of the service.
    #[must_use]
    pub fn new(name: &'static str, config: BreakerConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            config,
            clock,
            state: Mutex::default(),
        }
    }

    /// Returns the state, for other processes.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        let state = self.lock();
        BreakerState {
            failures: state.failures,
            open_until: state.open_until.map(|end| end.wall),
            openings: state.openings,
        }
    }

    /// Replaces the state by one that another process has determined.
    pub fn set_state(&self, state: BreakerState) {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let longest = self.config.longest_open();
        *self.lock() = State {
            failures: state.failures,
            open_until: state.open_until.map(|wall| End {
                monotonic: monotonic + wall.due_in(now, longest),
                wall,
            }),
            is_probing: false,
            openings: state.openings,
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn end_after(&self, span: Duration) -> End {
        End {
            monotonic: self.clock.monotonic() + span,
            wall: self.clock.now() + span,
        }
    }

    /// Decides whether a call may be made. The result of the call must be reported. If a probe never reports, the next
    /// one is admitted after the configured time-out.
    pub fn admit(&self) -> BreakerDecision {
        let monotonic = self.clock.monotonic();
        let mut state = self.lock();
        match state.open_until {
            None => BreakerDecision::Allowed,
            Some(end) if monotonic < end.monotonic => {
                let remaining = end.monotonic.saturating_sub(monotonic);
                BreakerDecision::Refused(self.clock.now() + remaining)
            }
            Some(_) => {
                state.open_until = Some(self.end_after(self.config.timeout));
                state.is_probing = true;
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
        let mut state = self.lock();
        state.failures = 0;
        state.open_until = None;
        state.is_probing = false;
    }

    /// Reports a transient failure of a call, with the `Retry-After` of the answer.
    pub fn failed(&self, retry_after: Option<Duration>) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= self.config.threshold || state.open_until.is_some() {
            let pause = self.config.timeout.max(retry_after.unwrap_or_default());
            // Further failures of a batch extend the open phase.
            let opens = state.open_until.is_none() || state.is_probing;
            state.open_until = Some(self.end_after(pause));
            state.is_probing = false;
            if !opens {
                return;
            }
            state.openings = state.openings.saturating_add(1);
            tracing::warn!(
                service = self.name,
                failures = state.failures,
                seconds = pause.as_secs(),
                "circuit breaker opened"
            );
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
        (Arc::clone(&clock), Breaker::new("csp", config, clock))
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

    #[test]
    fn correction_of_the_clock_does_not_change_the_open_phase() {
        for wrong_by in [86_400, -86_400] {
            let (clock, breaker) = breaker();
            let right = clock.now();
            clock.set(UnixSeconds(right.0 + wrong_by));
            for _ in 0..3 {
                breaker.failed(None);
            }
            clock.set(right);
            assert_eq!(breaker.admit(), BreakerDecision::Refused(UnixSeconds(1060)));
            clock.advance(Duration::from_mins(1));
            assert_eq!(breaker.admit(), BreakerDecision::Probe);
        }
    }

    #[test]
    fn another_process_continues_with_the_state() {
        let (_clock, failing) = breaker();
        failing.failed(None);
        failing.failed(None);
        let (_clock, next) = breaker();
        next.set_state(failing.state());
        assert_eq!(next.admit(), BreakerDecision::Allowed);
        next.failed(None);
        next.failed(None);
        assert_eq!(
            next.state().openings,
            1,
            "a further failure of the batch is no further opening"
        );

        let (later, probing) = breaker();
        later.advance(Duration::from_secs(20));
        probing.set_state(next.state());
        assert_eq!(
            probing.admit(),
            BreakerDecision::Refused(UnixSeconds(1060)),
            "40 seconds are left"
        );
        later.advance(Duration::from_secs(40));
        assert_eq!(probing.admit(), BreakerDecision::Probe);
        probing.failed(None);
        assert_eq!(probing.state().openings, 2);

        let (_clock, corrected) = breaker();
        corrected.set_state(BreakerState {
            open_until: Some(UnixSeconds(1000 + 86_400)),
            ..failing.state()
        });
        assert_eq!(
            corrected.admit(),
            BreakerDecision::Probe,
            "the other clock was a day ahead"
        );
    }
}
