//! `lease`: allocates and holds sandboxes for a user and their programs, over the API.

mod caller;
mod calls;
mod command_line;
mod release;
mod run;
mod view;

use std::{io, process::ExitCode};

use clap::{Args, Subcommand, builder::RangedI64ValueParser};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use self::{
    calls::{LeaseCalls, SandboxList},
    release::{ReleaseChain, is_not_held},
    run::RunArguments,
};
use super::{
    connection::ConnectionOptions,
    error::CommandError,
    output::{Format, notice, write_json},
};
use crate::{
    client::{Answer, Call, Client, Settings, TokenKind},
    config::Variables,
};

/// The arguments of `lease`.
#[derive(Clone, Debug, Args)]
pub struct Lease {
    #[command(flatten)]
    connection: ConnectionOptions,
    /// The identity that holds the sandboxes. Default: `BROKER_CALLER`, else that of the context, else
    /// `INSTRUQT_PARTICIPANT_ID`, else USER@HOST.
    #[arg(long, global = true, help_heading = "Connection")]
    caller: Option<String>,
    #[command(subcommand)]
    command: LeaseCommand,
}

/// The subcommands of `lease`.
#[derive(Clone, Debug, Subcommand)]
enum LeaseCommand {
    /// Allocate a sandbox, or show the one that the caller already holds under the same key.
    ///
    /// While no sandbox is available, the lab is at its quota, or an operator has paused allocations, the broker asks for a
    /// retry after half a minute. The default of `--wait` is shorter; `--wait 600` waits up to ten minutes for a sandbox.
    Allocate {
        #[command(flatten)]
        options: AllocationOptions,
        /// Distinguishes several sandboxes of one caller. Default: the caller.
        #[arg(long)]
        key: Option<String>,
    },
    /// Show a sandbox that the caller holds, or held last.
    Show {
        /// The id of the sandbox.
        id: String,
    },
    /// List the sandboxes that the caller holds.
    List,
    /// Extend a lease: it ends no earlier than MINUTES from now, as far as the lab permits.
    Extend {
        /// The id of the sandbox.
        id: String,
        /// How long from now, in minutes, up to 30 days.
        #[arg(long, default_value_t = 60, value_parser = minutes())]
        minutes: u32,
    },
    /// Replace a broken sandbox by another one. The old one is deleted, with everything in it.
    Replace {
        /// The id of the sandbox.
        id: String,
        /// The fault of the sandbox, for the operators: up to 500 characters.
        #[arg(long)]
        reason: String,
    },
    /// Release a sandbox: it is deleted, with everything in it. If it was replaced, the current one is released.
    Release {
        /// The id of the sandbox.
        id: String,
    },
    /// Run a command with a sandbox of its own, which is released when the command ends.
    Run(RunArguments),
}

/// The options of a request for a sandbox.
#[derive(Clone, Debug, Args)]
struct AllocationOptions {
    /// The lab, for which the operator sets durations and limits.
    #[arg(long)]
    lab: Option<String>,
    /// Allocate only a sandbox whose name begins with this prefix. Default: that of the lab.
    #[arg(long)]
    prefix: Option<String>,
    /// How long to hold the sandbox, in minutes, up to 30 days and to the maximum of the lab. Default: that of the lab; for
    /// `run`, 30, extended while the command runs.
    #[arg(long, value_name = "MINUTES", value_parser = minutes())]
    duration: Option<u32>,
}

/// Parses the minutes of a lease. The API accepts up to 30 days.
pub(super) fn minutes() -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(1..=43_200)
}

/// A caller, the connection to its broker, and the form of the output.
#[derive(Debug)]
struct Session {
    settings: Settings,
    client: Client,
    calls: LeaseCalls,
    output: Format,
}

/// Runs a subcommand of `lease`.
///
/// # Errors
/// [`CommandError`].
pub async fn run(lease: &Lease, environment: &Variables) -> Result<ExitCode, CommandError> {
    let settings = lease.connection.settings(environment)?;
    let client = lease.connection.client(&settings, TokenKind::Track)?;
    let caller = caller::find(lease.caller.as_deref(), &settings, environment)?;
    let session = Session {
        client,
        calls: LeaseCalls::of(caller),
        settings,
        output: lease.connection.output,
    };
    let calls = &session.calls;
    match &lease.command {
        LeaseCommand::Allocate { options, key } => {
            let call = calls.allocation(options, options.duration, key.as_deref())?;
            let answer = session.client.send(&call).await?;
            if answer.status == StatusCode::OK {
                notice("the caller holds this sandbox since an earlier request with the same key");
            }
            session.show(&answer)?;
        }
        LeaseCommand::Show { id } => session.send_and_show(&calls.sandbox(id)?).await?,
        LeaseCommand::List => session.list().await?,
        LeaseCommand::Extend { id, minutes } => {
            let answer = session.client.send(&calls.extension(id, *minutes)?).await?;
            session.write(&answer, view::extension)?;
        }
        LeaseCommand::Replace { id, reason } => {
            session
                .send_and_show(&calls.replacement(id, reason)?)
                .await?;
        }
        LeaseCommand::Release { id } => session.release(id).await?,
        LeaseCommand::Run(arguments) => return Ok(run::run(&session, arguments).await?),
    }
    Ok(ExitCode::SUCCESS)
}

impl Session {
    /// Writes the body of an answer: as JSON for programs, else with `view`.
    fn write<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        view: impl FnOnce(&T, &Answer) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        match self.output {
            Format::Json => write_json(&answer.json()?)?,
            Format::Table => view(&answer.json()?, answer)?,
        }
        Ok(())
    }

    /// Writes a sandbox.
    fn show(&self, answer: &Answer) -> Result<(), CommandError> {
        self.write(answer, view::sandbox)
    }

    async fn send_and_show(&self, call: &Call) -> Result<(), CommandError> {
        self.show(&self.client.send(call).await?)
    }

    async fn list(&self) -> Result<(), CommandError> {
        let answer = self.client.send(&self.calls.list()?).await?;
        self.write(&answer, |list: &SandboxList, answer| {
            if list.sandboxes.is_empty() {
                notice(format_args!("{} holds no sandbox", self.calls.caller()));
            }
            view::sandboxes(&list.sandboxes, answer)
        })
    }

    /// Releases a sandbox and those that replaced it. It is no error if one of the latter is not held any more.
    async fn release(&self, id: &str) -> Result<(), CommandError> {
        let chain = ReleaseChain::run(&self.calls, id, async |call| self.client.send(call).await);
        let chain = chain.await;
        let last = chain.answers.last();
        if let Some((_, error)) = chain.failure
            && (last.is_none() || !is_not_held(&error))
        {
            return Err(error.into());
        }
        match last.filter(|_| self.output == Format::Json) {
            Some((answer, _)) => write_json(&answer.json()?)?,
            None => view::released(chain.answers.iter().map(|(_, released)| released))?,
        }
        Ok(())
    }
}
