//! The pace of the calls that jobs make for many accounts.

use std::time::Duration;

/// A pace: batches of calls, with pauses between them. A job's is configured; [`Pace::of`] slows it down while CSP fails.
#[derive(Clone, Copy, Debug)]
pub struct PaceConfig {
    /// The size of a batch.
    pub batch: usize,
    /// The pause after a batch.
    pub batch_delay: Duration,
    /// The pause between two items of a batch.
    pub item_delay: Duration,
}

/// The fraction of their configured pace at which all jobs call CSP. It halves on failures and recovers in small steps.
#[derive(Debug)]
pub struct Pace {
    share: f64,
}

const SLOWEST_SHARE: f64 = 1.0 / 64.0;
const RECOVERY_STEP: f64 = 0.1;

impl Default for Pace {
    fn default() -> Self {
        Self { share: 1.0 }
    }
}

impl Pace {
    /// Returns the fraction of the configured pace, for other processes.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// Continues at a fraction of the configured pace that another process has reached.
    pub const fn set_share(&mut self, share: f64) {
        self.share = share.clamp(SLOWEST_SHARE, 1.0);
    }

    /// Returns the present pace of a job, from its configured one: smaller batches and, where a batch cannot get smaller,
    /// longer pauses between batches.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a batch is a small positive number"
    )]
    pub fn of(&self, configured: PaceConfig) -> PaceConfig {
        let batch = ((configured.batch as f64 * self.share) as usize).max(1);
        let of_a_full_batch = batch as f64 / configured.batch.max(1) as f64;
        PaceConfig {
            batch,
            batch_delay: configured.batch_delay.mul_f64(of_a_full_batch / self.share),
            item_delay: configured.item_delay,
        }
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

    const CONFIGURED: PaceConfig = PaceConfig {
        batch: 10,
        batch_delay: Duration::from_secs(2),
        item_delay: Duration::ZERO,
    };

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn per_second(pace: &Pace) -> f64 {
        let now = pace.of(CONFIGURED);
        now.batch as f64 / now.batch_delay.as_secs_f64()
    }

    #[test]
    fn pace_halves_on_failures_and_recovers_slowly_to_the_maximum() {
        let mut pace = Pace::default();
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
