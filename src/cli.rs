//! The command line: its arguments, and one module for each subcommand.

pub mod check_config;
#[cfg(feature = "simulator")]
pub mod csp_simulator;
pub mod healthcheck;
pub mod job;
pub mod serve;
pub mod table;
pub mod worker;

#[cfg(feature = "simulator")]
use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Leases pre-created Infoblox CSP sandbox accounts to Instruqt lab plays.
///
/// Settings come from the environment and from the file .env; `check-config` shows them.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the broker.
    Serve,
    /// Run the jobs on their intervals, and nothing else.
    Worker,
    /// Run a job once. The exit code is 0 if it was done, 75 if it runs elsewhere, 1 if it failed; a line of JSON on
    /// stdout says what it did.
    #[command(subcommand)]
    Job(Job),
    /// Make or migrate the table.
    #[command(subcommand)]
    Table(Table),
    /// Run a CSP that exists only here, for tests and demonstrations.
    #[cfg(feature = "simulator")]
    CspSimulator(SimulatorArguments),
    /// Ask the broker that runs here with these settings whether it is up: exit code 0 if it is, 1 if not. For
    /// containers.
    Healthcheck,
    /// Show every setting in force, or every one that cannot be used.
    CheckConfig,
}

/// The jobs.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Job {
    /// Bring the pool in step with CSP.
    Sync {
        /// Mark stale whatever is missing from CSP's list, however much that is.
        #[arg(long)]
        force: bool,
    },
    /// Delete from CSP what was given back.
    Cleanup {
        /// First put every `deletion_failed` sandbox back in line.
        #[arg(long)]
        retry_failed: bool,
    },
    /// Retire allocations whose time is up.
    AutoExpire,
    /// Remove what has been stale for long.
    AutoDeleteStale {
        /// For how long a sandbox has to be stale, in hours; `STALE_GRACE_PERIOD_HOURS` if absent.
        #[arg(long)]
        grace_period_hours: Option<u16>,
    },
}

/// What to do with the table.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Table {
    /// Make the table, its indexes and its TTL, as far as they are not there.
    Create,
    /// Write what a table of the FastAPI service lacks: a claim for every allocated sandbox. Safe to run again.
    Migrate,
}

/// The simulator's arguments.
#[cfg(feature = "simulator")]
#[derive(Clone, Debug, clap::Args)]
pub struct SimulatorArguments {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// The port to listen on; 0 takes any free one.
    #[arg(long, default_value_t = 8081)]
    pub port: u16,
    /// How many accounts to begin with.
    #[arg(long, default_value_t = 200)]
    pub accounts: u64,
    /// Decides the accounts' names and ids.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A file that keeps the state over a restart.
    #[arg(long)]
    pub state: Option<std::path::PathBuf>,
}

const NO_SIGNALS: &str = "cannot listen for signals";

/// Nothing was promised to anyone yet, and what was written so far stays.
fn stopped_early(signal: &str) -> ExitCode {
    tracing::info!(signal, "stopped before the start was over");
    ExitCode::SUCCESS
}
