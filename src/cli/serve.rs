//! `serve`: runs the broker until a signal.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};

use super::{NO_SIGNALS, print, stopped_during_start};
use crate::{
    app::RunningBroker, auth::is_public, clock::SystemClock, config::Config, csp::CspMode,
    shutdown::Signals, store::Engine,
};

/// Runs the broker that `config` describes.
///
/// # Errors
/// If it cannot start.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    let running = tokio::select! {
        running = RunningBroker::start(config, Arc::new(SystemClock), rand::random()) => running?,
        signal = signals.first() => return Ok(stopped_during_start(signal)),
    };
    drop(running.app().add_first_sample());
    if config.store.engine == Engine::Embedded {
        print(banner(config, &running).await);
    }
    let signal = signals.first().await;
    tracing::info!(signal, "stopping");
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// How long the banner waits for the counts of the pool.
const BANNER_TIMEOUT: Duration = Duration::from_secs(2);

async fn banner(config: &Config, running: &RunningBroker) -> String {
    let count = running.app().state().broker.stats();
    // The broker already serves requests; a slow count must not stop it.
    let pool = match tokio::time::timeout(BANNER_TIMEOUT, count).await {
        Ok(Ok(stats)) => format!(
            "{} of {} sandboxes available",
            stats.counts.available,
            stats.counts.total()
        ),
        Ok(Err(_)) | Err(_) => "the pool could not be counted".to_owned(),
    };
    let base = format!("http://{}", running.address());
    let path = &config.http.base_path;
    let csp = match config.csp.mode {
        CspMode::Simulated => "simulated: the accounts are made up",
        CspMode::Live => &config.csp.base_url,
    };
    // Only public tokens are shown.
    let shown = |tokens: &[SecretString], variable: &str| {
        let public = tokens.iter().find(|token| is_public(token.expose_secret()));
        public.map_or_else(
            || format!("${variable}"),
            |token| token.expose_secret().to_owned(),
        )
    };
    let track_token = shown(&config.auth.track_tokens, "BROKER_API_TOKEN");
    let admin_token = shown(&config.auth.admin_tokens, "BROKER_ADMIN_TOKEN");
    format!(
        "\nSandbox Broker {version}: {pool}\n\n  \
         API          {base}{path}\n  \
         Swagger      {base}{path}/docs\n  \
         Dashboard    {base}/dashboard\n  \
         CSP          {csp}\n  \
         Track token  {track_token}\n  \
         Admin token  {admin_token}\n\n\
         Allocate a sandbox:\n\n  \
         curl -X POST {base}{path}/allocate -H \"Authorization: Bearer {track_token}\" -H \"X-Instruqt-Sandbox-ID: play-1\"\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}
