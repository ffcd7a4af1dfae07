//! How hard CSP may be pressed: a pace that gives way to trouble, and a breaker that stops pressing altogether.
//!
//! The breakers on crates.io read the machine's clock themselves, so a test could not play through a quarter of an
//! hour of trouble; this one asks the [`Clock`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::{Clock, UnixSeconds};

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// So many failures in a row open it.
    pub threshold: u32,
    /// How long it stays open before it lets one call try.
    pub timeout: Duration,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerDecision {
    /// Any number of them.
    Allowed,
    /// This one, to see whether the other side is well again.
    Probe,
    /// None before this time.
    Refused(UnixSeconds),
}

/// A circuit breaker: after so many failures in a row, no calls for a while; then one at a time until one succeeds.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Open until then; after that, one call at a time may try.
    open_until: Option<UnixSeconds>,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            config,
            clock,
            state: Mutex::default(),
        }
    }

    /// How it stands, in one word.
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a call may be made. A probe that never reports back costs one more time-out, not the service.
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

    /// Whether calls are refused, or only probes admitted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lock().open_until.is_some()
    }

    /// A call got a proper answer.
    pub fn succeeded(&self) {
        *self.lock() = State::default();
    }

    /// A call failed in a way that may pass; the other side may have said for how long.
    pub fn failed(&self, retry_after: Option<Duration>) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= self.config.threshold || state.open_until.is_some() {
            let pause = self.config.timeout.max(retry_after.unwrap_or_default());
            state.open_until = Some(self.clock.now() + pause);
        }
    }
}

/// The fastest that deletions may go.
#[derive(Clone, Copy, Debug)]
pub struct PaceConfig {
    /// Deletions that may be under way at once.
    pub batch: usize,
    /// The pause after so many.
    pub batch_delay: Duration,
    /// The pause between two of a batch.
    pub item_delay: Duration,
}

/// A pace that halves on trouble and recovers slowly, never above what is configured.
#[derive(Debug)]
pub struct Pace {
    config: PaceConfig,
    /// The part of the configured pace that is kept now.
    share: f64,
}

const SLOWEST_SHARE: f64 = 1.0 / 64.0;
const RECOVERY_STEP: f64 = 0.1;

impl Pace {
    /// The configured pace.
    #[must_use]
    pub const fn new(config: PaceConfig) -> Self {
        Self { config, share: 1.0 }
    }

    /// How many deletions may be started at once.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a batch is a small positive number"
    )]
    pub fn batch(&self) -> usize {
        ((self.config.batch as f64 * self.share) as usize).max(1)
    }

    /// The pause between two deletions of a batch.
    #[must_use]
    pub const fn item_delay(&self) -> Duration {
        self.config.item_delay
    }

    /// The pause after a batch.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a batch is a small positive number"
    )]
    pub fn delay(&self) -> Duration {
        let of_a_full_batch = self.batch() as f64 / self.config.batch.max(1) as f64;
        self.config
            .batch_delay
            .mul_f64(of_a_full_batch / self.share)
    }

    /// A batch went without trouble.
    pub fn speed_up(&mut self) {
        self.share = (self.share + RECOVERY_STEP).min(1.0);
    }

    /// A batch met trouble.
    pub fn slow_down(&mut self) {
        self.share = (self.share / 2.0).max(SLOWEST_SHARE);
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
    fn it_opens_after_so_many_failures_in_a_row() {
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
    fn after_its_time_it_admits_one_probe_at_a_time_until_one_succeeds() {
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
    fn it_stays_open_for_as_long_as_it_was_asked_to() {
        let (_clock, breaker) = breaker();
        for _ in 0..3 {
            breaker.failed(Some(Duration::from_mins(5)));
        }
        assert_eq!(breaker.admit(), BreakerDecision::Refused(UnixSeconds(1300)));
    }

    fn pace() -> Pace {
        Pace::new(PaceConfig {
            batch: 10,
            batch_delay: Duration::from_secs(2),
            item_delay: Duration::ZERO,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn per_second(pace: &Pace) -> f64 {
        pace.batch() as f64 / pace.delay().as_secs_f64()
    }

    #[test]
    fn trouble_halves_the_pace_and_success_raises_it_slowly_to_the_configured_one() {
        let mut pace = pace();
        assert!((per_second(&pace) - 5.0).abs() < 1e-9);
        pace.slow_down();
        assert!((per_second(&pace) - 2.5).abs() < 1e-9);
        for _ in 0..10 {
            pace.slow_down();
        }
        assert!((per_second(&pace) - 5.0 / 64.0).abs() < 1e-9);
        pace.speed_up();
        assert!(per_second(&pace) < 1.0);
        for _ in 0..100 {
            pace.speed_up();
        }
        assert!((per_second(&pace) - 5.0).abs() < 1e-9);
    }
}
