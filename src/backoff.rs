//! Exponential back-off with full jitter: pause n is a random part of min(max, base * 2^n), so that requests that
//! collided once do not collide again.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// The bounds of exponential back-off.
#[derive(Clone, Copy, Debug)]
pub struct BackoffConfig {
    /// The bound of the first pause.
    pub base: Duration,
    /// The bound of every pause.
    pub max: Duration,
}

/// Chooses pauses.
#[derive(Debug)]
pub struct Backoff {
    bounds: BackoffConfig,
    rng: Mutex<SmallRng>,
}

impl Backoff {
    /// Pauses within `bounds`; `seed` decides the jitter.
    #[must_use]
    pub fn new(bounds: BackoffConfig, seed: u64) -> Self {
        Self {
            bounds,
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// The pause before attempt number `attempt`, counted from 0.
    pub fn pause(&self, attempt: u32) -> Duration {
        let bound = self
            .bounds
            .base
            .saturating_mul(2_u32.saturating_pow(attempt))
            .min(self.bounds.max);
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random_range(Duration::ZERO..=bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_bound_and_no_further() {
        let bounds = BackoffConfig {
            base: Duration::from_millis(10),
            max: Duration::from_millis(100),
        };
        let backoff = Backoff::new(bounds, 1);
        let longest = |attempt| (0..1000).map(|_| backoff.pause(attempt)).max().unwrap();
        assert!(longest(0) <= Duration::from_millis(10));
        assert!(longest(2) > Duration::from_millis(30) && longest(2) <= Duration::from_millis(40));
        assert!(
            longest(60) > Duration::from_millis(90) && longest(60) <= Duration::from_millis(100)
        );
    }
}
