//! `admin policy`: the policy in force, older versions, and changes.

mod document;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use self::document::{Change, Document};
use super::{pages::Listing, session::Session};
use crate::{
    cli::{
        error::CommandError,
        output::{self, Table, confirm_preview, notice},
    },
    client::{Call, ClientError},
    clock::UnixSeconds,
};

/// The subcommands of `admin policy`.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Print the policy in force, or an older version, as TOML that can be edited and applied; as JSON with `--output json`.
    Get {
        /// The number of the version. Default: the one in force.
        #[arg(long, value_name = "NUMBER")]
        version: Option<u32>,
    },
    /// Check a document, and show the changes that it would make.
    Check {
        /// A file with TOML or JSON; - for stdin.
        file: PathBuf,
    },
    /// Show the changes that a document would make, or those between two versions.
    Diff(DiffArguments),
    /// Show the changes that a document would make, ask for a confirmation, and put it in force as a new version.
    Apply(ApplyArguments),
    /// List the versions, newest first.
    History {
        /// The most versions to list. Default: all.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
}

/// The arguments of `admin policy diff`.
#[derive(Clone, Debug, Args)]
pub(super) struct DiffArguments {
    /// A file with TOML or JSON, to be compared with the version in force; - for stdin.
    #[arg(conflicts_with_all = ["from", "to"])]
    file: Option<PathBuf>,
    /// The version before the changes. Default: the one before `--to`.
    #[arg(long, value_name = "NUMBER")]
    from: Option<u32>,
    /// The version after the changes. Default: the one in force.
    #[arg(long, value_name = "NUMBER")]
    to: Option<u32>,
}

/// The arguments of `admin policy apply`.
#[derive(Clone, Debug, Args)]
pub(super) struct ApplyArguments {
    /// A file with TOML or JSON; - for stdin.
    file: PathBuf,
    /// Why, for the history of the policy and the audit.
    #[arg(long)]
    reason: Option<String>,
    /// Do not ask for a confirmation.
    #[arg(long)]
    yes: bool,
}

/// A version of the policy.
#[derive(Debug, Deserialize)]
struct PolicyVersion {
    version: u32,
    author: Option<String>,
    at: Option<UnixSeconds>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<PolicyVersion>,
}

#[derive(Deserialize)]
struct Difference {
    changes: Vec<Change>,
}

/// Runs a subcommand of `admin policy`.
pub(super) async fn run(session: &Session, command: &PolicyCommand) -> Result<(), CommandError> {
    match command {
        PolicyCommand::Get { version } => get(session, *version).await,
        PolicyCommand::Check { file } => check(session, &Document::read(file)?).await,
        PolicyCommand::Diff(arguments) => match &arguments.file {
            Some(file) => check(session, &Document::read(file)?).await,
            None => compare(session, arguments).await,
        },
        PolicyCommand::Apply(arguments) => apply(session, arguments).await,
        PolicyCommand::History { limit } => history(session, *limit).await,
    }
}

fn policy_call() -> Call {
    Call::get(["admin", "policy"])
}

async fn get(session: &Session, version: Option<u32>) -> Result<(), CommandError> {
    let call = policy_call().query("version", version);
    if session.is_json() {
        return Session::write_json(&session.send(&call).await?);
    }
    let call = call.header("accept", document::TOML)?;
    let answer = session.send(&call).await?;
    output::write_text(&answer.text)?;
    Ok(())
}

async fn check(session: &Session, document: &Document) -> Result<(), CommandError> {
    let (answer, check) = document.check(session).await?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    if check.changes.is_empty() {
        output::write_line(format_args!(
            "equal to version {}, which is in force",
            check.version
        ))?;
        return Ok(());
    }
    document::write_changes(&check.changes)?;
    Ok(())
}

async fn compare(session: &Session, arguments: &DiffArguments) -> Result<(), CommandError> {
    let to = match arguments.to {
        Some(to) => to,
        None => version_in_force(session).await?,
    };
    let from = arguments.from.unwrap_or_else(|| to.saturating_sub(1));
    let call = Call::get(["admin", "policy", "difference"])
        .query("from", Some(from))
        .query("to", Some(to));
    let answer = session.send(&call).await?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    let Difference { changes } = answer.json()?;
    if changes.is_empty() {
        output::write_line(format_args!("versions {from} and {to} are equal"))?;
    }
    document::write_changes(&changes)?;
    Ok(())
}

async fn version_in_force(session: &Session) -> Result<u32, ClientError> {
    let version: PolicyVersion = session.send(&policy_call()).await?.json()?;
    Ok(version.version)
}

/// Puts a document in force. The version in force must still be the one that the changes were shown for.
async fn apply(session: &Session, arguments: &ApplyArguments) -> Result<(), CommandError> {
    let document = Document::read(&arguments.file)?;
    let (_, check) = document.check(session).await?;
    if check.changes.is_empty() {
        notice(format_args!(
            "nothing to do: the document is equal to version {}, which is in force",
            check.version
        ));
        if session.is_json() {
            return Session::write_json(&session.send(&policy_call()).await?);
        }
        return Ok(());
    }
    let changes = if session.is_json() {
        Ok(())
    } else {
        document::write_changes(&check.changes)
    };
    if !arguments.yes {
        let next = check.version.saturating_add(1);
        let question = format!("Put these changes in force as version {next}?");
        confirm_preview(changes, &question)?;
    }
    let call = Call::new(Method::PUT, ["admin", "policy"])
        .query("reason", arguments.reason.as_ref())
        .header("if-match", &format!("\"{}\"", check.version))?
        .body(document.body());
    let answer = session.send(&call).await.map_err(changed_meanwhile)?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    let version: PolicyVersion = answer.json()?;
    output::write_line(format_args!(
        "version {} is in force on every broker and in every job within 5 s",
        version.version
    ))?;
    Ok(())
}

/// Adds a hint to the error of a version in force that is not the one for which the changes were shown.
fn changed_meanwhile(error: ClientError) -> CommandError {
    match error.code() {
        Some("POLICY_CHANGED") => CommandError::hinted(
            error,
            "another version was put in force in the meantime, and nothing was changed; repeat the command to see the \
             changes to it",
        ),
        _ => error.into(),
    }
}

async fn history(session: &Session, limit: Option<u64>) -> Result<(), CommandError> {
    let listing = Listing {
        call: Call::get(["admin", "policy", "history"]),
        entries: "versions",
        others: None,
        limit,
    };
    let table = Table::new(&["VERSION", "AUTHOR", "AT", "REASON"]);
    let add = |table: &mut Table, page: Versions| {
        for version in page.versions {
            table.row([
                version.version.to_string(),
                version.author.unwrap_or_default(),
                session.time(version.at),
                version.reason.unwrap_or_default(),
            ]);
        }
    };
    listing.write(session, table, add).await
}

/// The changes that a document would make.
#[derive(Deserialize)]
struct Check {
    /// The version in force.
    version: u32,
    changes: Vec<Change>,
}

/// An invalid value in a document.
#[derive(Deserialize)]
struct Fault {
    path: String,
    got: String,
    takes: String,
}

impl Fault {
    /// Returns the faults in the details of an error.
    fn all(detail: &Value) -> Vec<Self> {
        Vec::deserialize(&detail["faults"]).unwrap_or_default()
    }
}
