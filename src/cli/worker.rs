//! `worker`: runs the jobs on their intervals until a signal.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;

use super::{NO_SIGNALS, stopped_during_start};
use crate::{app::RunningWorker, clock::SystemClock, config::Config, shutdown::Signals};

/// Runs the jobs on the pool of `config`.
///
/// # Errors
/// If the worker cannot start.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    let worker = tokio::select! {
        worker = RunningWorker::start(config, Arc::new(SystemClock), rand::random()) => worker?,
        signal = signals.first() => return Ok(stopped_during_start(signal)),
    };
    tracing::info!("worker started");
    let signal = signals.first().await;
    tracing::info!(signal, "stopping");
    worker.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
