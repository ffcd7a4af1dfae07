//! `job`: runs a job once.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::time::Instant;

use super::{JobCommand, NO_SIGNALS, print, print_error, stopped_during_start};
use crate::{
    app::App,
    clock::SystemClock,
    config::Config,
    jobs::{
        check::CheckJob,
        cleanup::CleanupJob,
        expiry::ExpiryJob,
        refill::RefillJob,
        removal::RemovalJob,
        run::{Job, Report},
        runner::JobStartError,
        sync::SyncJob,
    },
    shared::lock,
    shutdown::Signals,
};

/// The exit code if a run of the job is already in progress: `EX_TEMPFAIL` of sysexits.h.
const ALREADY_RUNNING: u8 = 75;
/// How often the progress is shown on a terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Moves the cursor to the start of the line, and clears the line.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Runs a job once, and prints its report as one line of JSON.
///
/// # Errors
/// If the job cannot be started, or fails.
pub async fn run(config: &Config, job: JobCommand) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    let app = tokio::select! {
        app = App::start(config, Arc::new(SystemClock), rand::random()) => app?,
        signal = signals.first() => return Ok(stopped_during_start(signal)),
    };
    let result = match job {
        JobCommand::Sync { force } => run_once(&app, &mut signals, SyncJob { force }).await,
        JobCommand::Cleanup { retry_failed } => {
            run_once(&app, &mut signals, CleanupJob { retry_failed }).await
        }
        JobCommand::AutoExpire { force } => run_once(&app, &mut signals, ExpiryJob { force }).await,
        JobCommand::AutoDeleteStale { grace_period_hours } => {
            let grace = grace_period_hours.map(|hours| Duration::from_hours(hours.into()));
            run_once(&app, &mut signals, RemovalJob::StaleFor(grace)).await
        }
        JobCommand::Check => run_once(&app, &mut signals, CheckJob).await,
        JobCommand::Refill { plan } => {
            let job = RefillJob {
                plan,
                ..RefillJob::default()
            };
            run_once(&app, &mut signals, job).await
        }
    };
    app.stop(Instant::now() + config.http.shutdown_timeout)
        .await;
    result
}

async fn run_once<J: Job>(app: &App, signals: &mut Signals, job: J) -> anyhow::Result<ExitCode> {
    let handle = match app.state().runner.start(job).await {
        Ok(handle) => handle,
        Err(error @ JobStartError::Running { .. }) => {
            print_error(error);
            return Ok(ExitCode::from(ALREADY_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    let progress = Arc::clone(&handle.progress);
    let mut run = std::pin::pin!(handle.finish());
    let mut display = tokio::time::interval(PROGRESS_INTERVAL);
    let shows_progress = io::stderr().is_terminal();
    let report = loop {
        tokio::select! {
            report = &mut run => break report?,
            _ = signals.first(), if !app.is_interrupted() => app.interrupt(),
            _ = display.tick(), if shows_progress => {
                let so_far = lock(&progress).clone();
                let text = serde_json::to_string(&so_far)?;
                let _ = write!(io::stderr(), "{CLEAR_LINE}{text}");
            }
        }
    };
    if shows_progress {
        let _ = write!(io::stderr(), "{CLEAR_LINE}");
    }
    print(serde_json::to_string(&report)?);
    Ok(if report.is_interrupted() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
