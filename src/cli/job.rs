//! `job`: runs a job once.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::time::Instant;

use super::{Job, NO_SIGNALS, stopped_early};
use crate::{
    app::App,
    clock::SystemClock,
    config::Config,
    jobs::{
        cleanup::CleanupJob,
        expiry::ExpiryJob,
        runner::{self, JobStartError, Report},
        stale::{Removal, RemovalJob},
        sync::SyncJob,
    },
    shared::lock,
    shutdown::Signals,
};

/// `EX_TEMPFAIL` of sysexits.h: nothing is wrong, try again later.
const RUNS_ELSEWHERE: u8 = 75;

/// Runs a job once, and prints its report as one line of JSON.
///
/// # Errors
/// If the job cannot start, or failed.
pub async fn run(config: &Config, job: Job) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    let app = tokio::select! {
        app = App::start(config, Arc::new(SystemClock), rand::random()) => app?,
        signal = signals.next() => return Ok(stopped_early(signal)),
    };
    let done = match job {
        Job::Sync { force } => run_once(&app, &mut signals, SyncJob { force }).await,
        Job::Cleanup { retry_failed } => {
            run_once(&app, &mut signals, CleanupJob { retry_failed }).await
        }
        Job::AutoExpire => run_once(&app, &mut signals, ExpiryJob).await,
        Job::AutoDeleteStale { grace_period_hours } => {
            let removal = Removal::StaleFor(app.state().runner.stale_grace(grace_period_hours));
            run_once(&app, &mut signals, RemovalJob { removal }).await
        }
    };
    app.stop(Instant::now() + config.http.shutdown_timeout)
        .await;
    done
}

async fn run_once<J: runner::Job>(
    app: &App,
    signals: &mut Signals,
    job: J,
) -> anyhow::Result<ExitCode> {
    let started = match app.state().runner.start(job).await {
        Ok(started) => started,
        Err(fault @ JobStartError::Running { .. }) => {
            eprintln!("{fault}");
            return Ok(ExitCode::from(RUNS_ELSEWHERE));
        }
        Err(fault) => return Err(fault.into()),
    };
    let progress = Arc::clone(&started.progress);
    let mut run = std::pin::pin!(started.finish());
    let mut look = tokio::time::interval(Duration::from_millis(500));
    let is_watched = io::stderr().is_terminal();
    let report = loop {
        tokio::select! {
            report = &mut run => break report?,
            _ = signals.next() => app.interrupt(),
            _ = look.tick(), if is_watched => {
                let so_far = lock(&progress).clone();
                eprint!("\r\x1b[K{}", serde_json::to_string(&so_far)?);
            }
        }
    };
    if is_watched {
        eprint!("\r\x1b[K");
    }
    println!("{}", serde_json::to_string(&report)?);
    Ok(if report.is_interrupted() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
