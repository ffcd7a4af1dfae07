//! `admin`: the work of operators, over the API.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{connection::ConnectionOptions, output::print_json};
use crate::{
    client::{Call, ClientError, TokenKind},
    config::Variables,
};

/// The arguments of `admin`.
#[derive(Clone, Debug, Args)]
pub struct Admin {
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(subcommand)]
    command: AdminCommand,
}

/// The subcommands of `admin`.
#[derive(Clone, Debug, Subcommand)]
enum AdminCommand {
    /// Show the number of sandboxes by status.
    Stats,
}

/// Runs a subcommand of `admin`.
///
/// # Errors
/// [`ClientError`].
pub async fn run(admin: &Admin, environment: &Variables) -> Result<ExitCode, ClientError> {
    let settings = admin.connection.settings(environment)?;
    let client = admin.connection.client(&settings, TokenKind::Admin)?;
    match admin.command {
        AdminCommand::Stats => {
            print_json(&client.send(&Call::get(["admin", "stats"])).await?.json()?)
        }
    }
    Ok(ExitCode::SUCCESS)
}
