//! The command line: its arguments, and one module for each subcommand.

pub mod admin;
pub mod check_config;
pub mod completions;
pub mod connection;
#[cfg(feature = "simulator")]
pub mod csp_simulator;
pub mod error;
pub mod healthcheck;
pub mod job;
pub mod lease;
pub mod output;
pub mod serve;
mod shell;
pub mod table;
pub mod worker;

#[cfg(feature = "simulator")]
use std::net::IpAddr;
use std::{
    fmt,
    io::{self, Write},
    pin::Pin,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use self::error::CommandError;
use crate::config::Variables;

/// Leases pre-created Infoblox CSP sandbox accounts to Instruqt lab plays.
///
/// The settings of a broker come from the environment and from the file .env; `check-config` shows them. Those of `lease`
/// and `admin` come from the environment and from ~/.config/sandbox-broker/config.toml.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// The subcommand; `serve` if absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the broker.
    Serve,
    /// Run the jobs on their intervals, without the API.
    Worker,
    /// Run a job once, and print its report as one line of JSON.
    ///
    /// Exit codes: 0 if it succeeded or is paused, 75 if a run of it is already in progress, 1 if it failed, was
    /// interrupted, or is off by its mode (`CHECK_MODE`, `REFILL_MODE`).
    #[command(subcommand)]
    Job(JobCommand),
    /// Create, migrate or convert the tables.
    #[command(subcommand)]
    Table(TableCommand),
    /// Run a simulated CSP, for tests and demonstrations.
    #[cfg(feature = "simulator")]
    CspSimulator(SimulatorArguments),
    /// Check that the broker with this configuration is up on this machine, for containers.
    ///
    /// Exit codes: 0 if it is, 1 if not.
    Healthcheck,
    /// Print every setting in force, or every invalid variable.
    CheckConfig,
    /// Allocate and hold sandboxes of a running broker, over its API.
    Lease(lease::Lease),
    /// Operate a running broker, over its API.
    Admin(admin::Admin),
    /// Print the script that completes commands in a shell.
    ///
    /// To load it in bash or zsh: source <(sandbox-broker completions bash)
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The subcommands of `job`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum JobCommand {
    /// Synchronise the pool with CSP.
    Sync {
        /// Mark every sandbox stale that is missing from CSP's list, without the limit of `MAX_STALE_FRACTION`.
        #[arg(long)]
        force: bool,
    },
    /// Delete released and expired sandboxes from CSP and from the table.
    Cleanup {
        /// First return every `deletion_failed` sandbox to `pending_deletion`.
        #[arg(long)]
        retry_failed: bool,
    },
    /// Retire overdue allocations, and end quarantines whose time is over.
    AutoExpire {
        /// Retire every overdue allocation, without the limit of `MAX_EXPIRE_FRACTION`.
        #[arg(long)]
        force: bool,
    },
    /// Remove sandboxes from the table that have been stale for a long time.
    AutoDeleteStale {
        /// How long a sandbox has to be stale, in hours; `STALE_GRACE_PERIOD_HOURS` if absent.
        #[arg(long)]
        grace_period_hours: Option<u16>,
    },
    /// Check whether the accounts of new sandboxes are usable (`CHECK_MODE`).
    Check,
    /// Create accounts for pools below their target (`REFILL_MODE`).
    Refill {
        /// Report what the run would do, and do nothing.
        #[arg(long)]
        plan: bool,
    },
}

/// The subcommands of `table`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum TableCommand {
    /// Create the pool's table and the companion table, and enable their TTL, unless they exist.
    Create,
    /// Migrate the pool's table of the FastAPI service or of an earlier build. Safe to repeat.
    ///
    /// Writes the missing claim of every allocated sandbox, and moves other items to the companion table.
    Migrate,
    /// Prepare the pool's table for the way back to the FastAPI service. Stop all brokers first. Safe to repeat.
    ///
    /// Replaces the statuses that the FastAPI service does not know: `quarantined` by `deletion_failed`, and `provisioning`
    /// by `stale`.
    ToFastapi,
}

/// The arguments of `csp-simulator`.
#[cfg(feature = "simulator")]
#[derive(Clone, Debug, clap::Args)]
pub struct SimulatorArguments {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// The port to listen on; 0 takes any free one.
    #[arg(long, default_value_t = 8081)]
    pub port: u16,
    /// The number of accounts at the start.
    #[arg(long, default_value_t = 200)]
    pub accounts: u64,
    /// Determines the names and ids of the accounts.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A file that preserves the state over a restart.
    #[arg(long)]
    pub state: Option<std::path::PathBuf>,
    /// The seconds from the creation of an account over the API until it is listed.
    #[arg(long, default_value_t = 0)]
    pub listing_delay_sec: u64,
    /// The seconds from the creation of an account over the API until it is usable.
    #[arg(long, default_value_t = 0)]
    pub usable_delay_sec: u64,
    /// The quota: with this many existing accounts, the API creates no more.
    #[arg(long)]
    pub max_accounts: Option<usize>,
    /// Reject the creation of a second account of the same name, which CSP accepts.
    #[arg(long)]
    pub unique_names: bool,
    /// The first part of every path, which keeps other users and web pages out: letters, digits and '-'. Default: a random
    /// one, which is safer, because other users of the machine can see this argument.
    #[arg(long, value_parser = parse_key)]
    pub key: Option<String>,
}

#[cfg(feature = "simulator")]
fn parse_key(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.is_empty() || !text.bytes().all(is_plain) {
        return Err("a key has letters, digits and '-' only");
    }
    Ok(text.to_owned())
}

/// Runs `command` if it calls a running broker over its API, and returns its exit code. Such a command needs no
/// configuration of a broker, and does not read `.env`: the working directory may belong to others.
///
/// # Errors
/// The threads of the runtime cannot be started.
pub fn run_over_api(command: &Command, environment: &Variables) -> io::Result<Option<ExitCode>> {
    let work: Pin<Box<dyn Future<Output = Result<ExitCode, CommandError>> + '_>> = match command {
        Command::Lease(lease) => Box::pin(lease::run(lease, environment)),
        Command::Admin(admin) => Box::pin(admin::run(admin, environment)),
        _ => return Ok(None),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(work);
    Ok(Some(result.unwrap_or_else(|error| error.report())))
}

/// Prints a line to stdout. Output that cannot be written, because the pipe is closed or the disk is full, changes
/// neither the work of a command nor its exit code.
pub fn print(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line to stderr, like [`print()`].
pub fn print_error(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

const NO_SIGNALS: &str = "cannot listen for signals";

/// Logs that a signal ended the start, and returns success: no request was accepted, and all writes are complete.
fn stopped_during_start(signal: &str) -> ExitCode {
    tracing::info!(signal, "stopped during the start");
    ExitCode::SUCCESS
}
