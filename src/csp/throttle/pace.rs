//! The pace of deletions.

use std::time::Duration;

/// The maximum pace of deletions.
#[derive(Clone, Copy, Debug)]
pub struct PaceConfig {
    /// The size of a batch.
    pub batch: usize,
    /// The pause after a batch.
    pub batch_delay: Duration,
    /// The pause between two deletions of a batch.
    pub item_delay: Duration,
}

/// The pace of deletions. It halves on failures and recovers in small steps up to the configured maximum.
#[derive(Debug)]
pub struct Pace {
    config: PaceConfig,
    /// The current fraction of the maximum pace.
    share: f64,
}

const SLOWEST_SHARE: f64 = 1.0 / 64.0;
const RECOVERY_STEP: f64 = 0.1;

impl Pace {
    /// Creates a pace at its maximum.
    #[must_use]
    pub const fn new(config: PaceConfig) -> Self {
        Self { config, share: 1.0 }
    }

    /// Returns the fraction of the maximum pace, for other processes.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// Continues at a fraction of the maximum pace that another process has reached.
    pub const fn set_share(&mut self, share: f64) {
        self.share = share.clamp(SLOWEST_SHARE, 1.0);
    }

    /// Returns the size of the next batch.
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

    /// Returns the pause between two deletions of a batch.
    #[must_use]
    pub const fn item_delay(&self) -> Duration {
        self.config.item_delay
    }

    /// Returns the pause after a batch.
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

    /// Raises the pace after a batch without failures.
    pub fn speed_up(&mut self) {
        self.share = (self.share + RECOVERY_STEP).min(1.0);
    }

    /// Halves the pace after a batch with a failure.
    pub fn slow_down(&mut self) {
        self.share = (self.share / 2.0).max(SLOWEST_SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn pace_halves_on_failures_and_recovers_slowly_to_the_maximum() {
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
