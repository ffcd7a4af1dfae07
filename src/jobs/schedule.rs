//! Starts every job on its interval. Brokers share the schedule through the table, so that several of them make no
//! more runs than one.

use std::time::Duration;

use rand::RngExt;
use tokio_util::sync::CancellationToken;

use super::{
    JobsConfig,
    cleanup::CleanupJob,
    expiry::ExpiryJob,
    runner::{Job, JobStartError, Runner},
    stale::{Removal, RemovalJob},
    sync::SyncJob,
};
use crate::telemetry::chain;

/// A schedule is looked at so many times an interval, but at least once a minute.
const LOOKS: u32 = 10;
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A run may start this much before its interval is over, so that runs do not slip later and later.
const EARLY: f64 = 0.95;

/// Runs until `stop`.
pub(crate) async fn run(runner: &Runner, config: &JobsConfig, stop: &CancellationToken) {
    let loops = async {
        tokio::join!(
            repeat(runner, config.sync_interval, || SyncJob { force: false }),
            repeat(runner, config.cleanup_interval, || CleanupJob {
                retry_failed: false
            }),
            repeat(runner, config.expiry_interval, || ExpiryJob),
            repeat(runner, config.stale_interval, || RemovalJob {
                removal: Removal::StaleFor(config.stale_grace),
            }),
        )
    };
    tokio::select! {
        _ = loops => {}
        () = stop.cancelled() => {}
    }
}

async fn repeat<J: Job>(runner: &Runner, interval: Duration, job: impl Fn() -> J) {
    let look = (interval / LOOKS).min(LONGEST_WAIT);
    // Jittered, so that brokers started together do not look together.
    let mut wait = look
        .min(FIRST_WAIT)
        .mul_f64(rand::rng().random_range(0.0..1.0));
    loop {
        tokio::time::sleep(wait).await;
        wait = look.mul_f64(rand::rng().random_range(0.5..1.5));
        let not_since = runner.context().clock.now() - interval.mul_f64(EARLY);
        match runner.start_if_due(job(), Some(not_since)).await {
            // How it ends is in the log and in its record.
            Ok(started) => drop(started.finish().await),
            Err(fault @ (JobStartError::Store(_) | JobStartError::Panicked { .. })) => {
                tracing::warn!(cause = chain(&fault), "a job could not be started");
            }
            Err(fault @ (JobStartError::Running { job, .. } | JobStartError::NotDue { job })) => {
                tracing::debug!(action = job.as_str(), reason = %fault, "a job was not started");
            }
        }
    }
}
