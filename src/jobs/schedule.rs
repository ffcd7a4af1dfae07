//! The schedule: starts each job on its interval. Brokers share the schedule through the job leases, so that several
//! of them make no more runs than one.

use std::time::Duration;

use rand::RngExt;
use tokio_util::sync::CancellationToken;

use super::{
    JobsConfig,
    check::CheckJob,
    cleanup::CleanupJob,
    expiry::ExpiryJob,
    refill::RefillJob,
    removal::RemovalJob,
    run::Job,
    runner::{JobStartError, Runner},
    sync::SyncJob,
};
use crate::telemetry::chain;

/// The number of attempts to start a job in one of its intervals; there is at least one a minute.
const ATTEMPTS_PER_INTERVAL: u32 = 10;
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// The longest pause before the first attempt.
const MAX_FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A run may start after this part of its interval, so that the pauses between attempts do not add up over many runs.
const DUE_AFTER: f64 = 0.95;

/// Starts every scheduled job on its interval (see [`JobsConfig::interval`]) until `stop`.
pub(crate) async fn run(runner: &Runner, config: &JobsConfig, stop: &CancellationToken) {
    let scheduled = async {
        tokio::join!(
            repeat(runner, config, || SyncJob { force: false }),
            repeat(runner, config, || CleanupJob {
                retry_failed: false
            }),
            repeat(runner, config, || ExpiryJob { force: false }),
            repeat(runner, config, || RemovalJob::StaleFor(None)),
            repeat(runner, config, || CheckJob),
            repeat(runner, config, RefillJob::default),
        )
    };
    tokio::select! {
        _ = scheduled => {}
        () = stop.cancelled() => {}
    }
}

async fn repeat<J: Job>(runner: &Runner, config: &JobsConfig, job: impl Fn() -> J) {
    let Some(interval) = config.interval(job().name()) else {
        return;
    };
    let base = (interval / ATTEMPTS_PER_INTERVAL).min(MAX_PAUSE);
    // With jitter, so that brokers that start together do not make their attempts together.
    let mut pause = base
        .min(MAX_FIRST_PAUSE)
        .mul_f64(rand::rng().random_range(0.0..1.0));
    loop {
        tokio::time::sleep(pause).await;
        pause = base.mul_f64(rand::rng().random_range(0.5..1.5));
        let not_since = runner.context().clock.now() - interval.mul_f64(DUE_AFTER);
        match runner.start_if_due(job(), Some(not_since)).await {
            // The outcome is in the log and in the record of the run.
            Ok(run) => drop(run.finish().await),
            Err(error @ (JobStartError::Store(_) | JobStartError::Panicked { .. })) => {
                tracing::warn!(cause = chain(&error), "job could not be started");
            }
            Err(
                error @ (JobStartError::Running { job, .. }
                | JobStartError::NotDue { job }
                | JobStartError::Off { job, .. }),
            ) => {
                tracing::debug!(action = job.as_str(), reason = %error, "job not started");
            }
        }
    }
}
