//! `worker`: runs the jobs on their intervals until a signal.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;

use super::{NO_SIGNALS, stopped_early};
use crate::{app::Working, clock::SystemClock, config::Config, shutdown::Signals};

/// Runs the jobs of the pool that `config` describes.
///
/// # Errors
/// If the worker cannot start.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    let working = tokio::select! {
        working = Working::start(config, Arc::new(SystemClock), rand::random()) => working?,
        signal = signals.next() => return Ok(stopped_early(signal)),
    };
    tracing::info!("working");
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    working.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
