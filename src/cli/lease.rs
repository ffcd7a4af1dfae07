//! `lease`: sandboxes for people and their programs, over the API.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use super::{
    connection::ConnectionOptions,
    output::{Format, Table, print_json},
};
use crate::{
    client::{Call, ClientError, TokenKind},
    config::Variables,
};

/// The arguments of `lease`.
#[derive(Clone, Debug, Args)]
pub struct Lease {
    #[command(flatten)]
    connection: ConnectionOptions,
    /// The identity that holds the sandboxes. Default: BROKER_CALLER, else that of the context.
    #[arg(long, global = true)]
    caller: Option<String>,
    #[command(subcommand)]
    command: LeaseCommand,
}

/// The subcommands of `lease`.
#[derive(Clone, Debug, Subcommand)]
enum LeaseCommand {
    /// List the sandboxes that the caller holds.
    List,
}

/// A sandbox of the caller.
#[derive(Debug, Deserialize)]
struct Held {
    sandbox_id: String,
    name: String,
}

/// Runs a subcommand of `lease`.
///
/// # Errors
/// [`ClientError`].
pub async fn run(lease: &Lease, environment: &Variables) -> Result<ExitCode, ClientError> {
    let settings = lease.connection.settings(environment)?;
    let client = lease.connection.client(&settings, TokenKind::Track)?;
    let caller = lease.caller.clone().or(settings.caller).unwrap_or_default();
    match &lease.command {
        LeaseCommand::List => {
            let call = Call::get(["sandboxes"]).header("x-instruqt-sandbox-id", &caller)?;
            let answer = client.send(&call).await?;
            if lease.connection.output == Format::Json {
                print_json(&answer.json()?);
                return Ok(ExitCode::SUCCESS);
            }
            let mut body: Value = answer.json()?;
            let held: Vec<Held> =
                serde_json::from_value(body["sandboxes"].take()).unwrap_or_default();
            let mut table = Table::new(&["ID", "NAME"]);
            for sandbox in held {
                table.row([sandbox.sandbox_id, sandbox.name]);
            }
            table.print();
        }
    }
    Ok(ExitCode::SUCCESS)
}
