//! The binary: reads arguments and settings, starts what they ask for, and says how it went.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use sandbox_broker::{
    cli::{self, Cli, Command},
    config::{Config, Variables},
    http::server,
    telemetry::Telemetry,
};

/// A sixth of the CPU time of an allocation went to the system's: see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command.unwrap_or(Command::Serve)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    // Before any thread is started: the AWS SDK reads its own variables from the environment.
    load_dotenv()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads to run on")?;
    #[cfg(feature = "simulator")]
    if let Command::CspSimulator(arguments) = command {
        return runtime
            .block_on(cli::csp_simulator::run(arguments))
            .map(|()| ExitCode::SUCCESS);
    }
    let config = Config::from_variables(&variables())?;
    if matches!(command, Command::CheckConfig) {
        // Whoever closed the pipe has seen enough.
        let _ = cli::check_config::run(&config);
        return Ok(ExitCode::SUCCESS);
    }
    if matches!(command, Command::Healthcheck) {
        return runtime.block_on(cli::healthcheck::run(&config));
    }
    let telemetry = Telemetry::start(config.log, config.otlp_endpoint.as_deref())
        .map_err(anyhow::Error::from_boxed)?;
    server::raise_file_limit();
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let done = runtime.block_on(async {
        match command {
            Command::Serve => cli::serve::run(&config).await,
            Command::Worker => cli::worker::run(&config).await,
            Command::Job(job) => cli::job::run(&config, *job).await,
            Command::Table(table) => cli::table::run(&config, *table).await,
            #[cfg(feature = "simulator")]
            Command::CspSimulator(_) => Ok(ExitCode::SUCCESS),
            Command::CheckConfig | Command::Healthcheck => Ok(ExitCode::SUCCESS),
        }
    });
    telemetry.shut_down();
    done
}

/// The working directory's own `.env`, and no other: one further up may be of another project.
fn load_dotenv() -> anyhow::Result<()> {
    match dotenvy::from_path(".env") {
        Err(dotenvy::Error::LineParse(..)) => {
            // Without the line: it may hold a secret.
            anyhow::bail!(
                ".env has a line that is not NAME=value; a value with spaces needs quotes"
            )
        }
        Err(error) if !error.not_found() => Err(error).context(".env cannot be read"),
        _ => Ok(()),
    }
}

/// What is not UTF-8 is kept, spoilt, so that the check of its variable refuses it.
fn variables() -> Variables {
    std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect()
}
