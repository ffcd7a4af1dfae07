//! The figures of one measurement, and the medians of several.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The figures of one measurement.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub per_second: f64,
    pub p50_us: f64,
    pub p95_us: f64,
    pub p99_us: f64,
    /// CPU time per call, of the SDK's or of the broker's process.
    pub cpu_us: f64,
    /// The peak of resident memory.
    pub resident_mib: f64,
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The percentiles of latencies in microseconds, by nearest rank; 0 if there are none. Sorts the latencies.
pub fn percentiles(latencies: &mut [u64]) -> Outcome {
    latencies.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        reason = "no latency is 2^52 microseconds"
    )]
    let at = |percent: usize| {
        let rank = (latencies.len() * percent).div_ceil(100);
        latencies
            .get(rank.saturating_sub(1))
            .map_or(0.0, |latency| *latency as f64)
    };
    Outcome {
        p50_us: at(50),
        p95_us: at(95),
        p99_us: at(99),
        ..Outcome::default()
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of each figure.
pub fn medians(outcomes: &[Outcome]) -> Outcome {
    let of = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure).collect());
    Outcome {
        per_second: of(|outcome| outcome.per_second),
        p50_us: of(|outcome| outcome.p50_us),
        p95_us: of(|outcome| outcome.p95_us),
        p99_us: of(|outcome| outcome.p99_us),
        cpu_us: of(|outcome| outcome.cpu_us),
        resident_mib: of(|outcome| outcome.resident_mib),
    }
}
