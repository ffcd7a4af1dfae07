//! Exponential backoff with full jitter: pause `n` is uniform in `0..=min(max, base * 2^n)`, so that requests that
//! conflicted once spread out before they retry.

use std::{sync::Mutex, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::shared::lock;

/// The bounds of exponential backoff.
#[derive(Clone, Copy, Debug)]
pub struct BackoffConfig {
    /// The longest first pause.
    pub base: Duration,
    /// The longest pause of any attempt.
    pub max: Duration,
}

/// A source of pauses between attempts.
#[derive(Debug)]
pub struct Backoff {
    bounds: BackoffConfig,
    rng: Mutex<SmallRng>,
}

impl Backoff {
    /// Creates a backoff within `bounds` whose jitter is seeded with `seed`.
    #[must_use]
    pub fn new(bounds: BackoffConfig, seed: u64) -> Self {
        Self {
            bounds,
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// Returns the pause after attempt number `attempt`, counted from 0.
    pub fn pause(&self, attempt: u32) -> Duration {
        let bound = self
            .bounds
            .base
            .saturating_mul(2_u32.saturating_pow(attempt))
            .min(self.bounds.max);
        lock(&self.rng).random_range(Duration::ZERO..=bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_maximum() {
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
