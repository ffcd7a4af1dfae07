//! The binary: reads arguments and configuration, runs the subcommand, and returns its exit code.

#![warn(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "they panic if the output cannot be written; use cli::print"
)]

use std::{io::ErrorKind, os::unix::process::CommandExt, process::ExitCode};

use anyhow::{Context, anyhow};
use clap::Parser;
use sandbox_broker::{
    cli::{self, Cli, Command},
    config::{Config, Variables, dotenv},
    http::server,
    telemetry::Telemetry,
};

/// The system allocator takes a sixth of the CPU time of an allocation: see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NO_THREADS: &str = "cannot start the threads of the runtime";

fn main() -> ExitCode {
    cli::completions::answer_shell();
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
    if let Command::Completions { shell } = command {
        cli::completions::run(*shell);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(code) = cli::run_over_api(command, &variables()).context(NO_THREADS)? {
        return Ok(code);
    }
    load_dotenv()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(NO_THREADS)?;
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
            // These have ended above.
            Command::CheckConfig
            | Command::Healthcheck
            | Command::Lease(_)
            | Command::Admin(_)
            | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
        }
    });
    telemetry.shut_down();
    result
}

/// Restarts this program with the variables that `.env` of the working directory adds to its environment, if any. The
/// AWS SDK and other libraries read variables of their own, and no safe function changes the environment of a running
/// process; exec keeps its id.
///
/// Parent directories are not searched: their `.env` may belong to another project.
fn load_dotenv() -> anyhow::Result<()> {
    let text = match std::fs::read(".env") {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| anyhow!(".env is not UTF-8 text"))?,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error).context(".env cannot be read"),
    };
    let additions = dotenv::additions(&text, &variables())?;
    if additions.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program to restart it")?;
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Returns only if it fails. Afterwards the environment has every variable of `.env`.
    let error = command.args(arguments).envs(additions).exec();
    Err(error).context("cannot restart with the variables of .env")
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
