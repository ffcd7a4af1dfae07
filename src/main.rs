//! The binary: reads arguments and configuration, runs the subcommand, and returns its exit code.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use sandbox_broker::{
    cli::{self, Cli, Command},
    config::{Config, Variables},
    http::server,
    telemetry::Telemetry,
};

/// The system allocator takes a sixth of the CPU time of an allocation: see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command.unwrap_or(Command::Serve)) {
        Ok(code) => code,
        Err(error) => {
            cli::print_error(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    // Before any thread starts, since it changes the environment; the AWS SDK reads variables of its own there.
    load_dotenv()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the runtime")?;
    #[cfg(feature = "simulator")]
    if let Command::CspSimulator(arguments) = command {
        return runtime
            .block_on(cli::csp_simulator::run(arguments))
            .map(|()| ExitCode::SUCCESS);
    }
    let config = Config::from_variables(&variables())?;
    if matches!(command, Command::CheckConfig) {
        cli::check_config::run(&config);
        return Ok(ExitCode::SUCCESS);
    }
    if matches!(command, Command::Healthcheck) {
        return runtime.block_on(cli::healthcheck::run(&config));
    }
    let telemetry = Telemetry::start(config.log, config.otlp_endpoint.as_deref())
        .map_err(anyhow::Error::from_boxed)?;
    server::raise_file_limit();
    for warning in config.warnings() {
        tracing::warn!(warning, "configuration warning");
    }
    let result = runtime.block_on(async {
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
    result
}

/// Loads `.env` of the working directory. Parent directories are not searched: their `.env` may belong to another
/// project.
fn load_dotenv() -> anyhow::Result<()> {
    match dotenvy::from_path(".env") {
        Err(dotenvy::Error::LineParse(..)) => {
            // The message omits the line: it may contain a secret.
            anyhow::bail!(
                ".env has a line that is not NAME=value; a value with spaces needs quotes"
            )
        }
        Err(error) if !error.not_found() => Err(error).context(".env cannot be read"),
        _ => Ok(()),
    }
}

/// Returns the environment. Text that is not UTF-8 is kept with replacement characters, so that the check of its
/// variable rejects it.
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
