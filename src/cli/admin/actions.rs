//! The actions on one sandbox: release, quarantine, restore, extend, delete.

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    pauses::Ending,
    sandboxes::{self, Sandbox},
    session::Session,
    timeline::{self, Timeline},
};
use crate::{
    cli::{
        error::CommandError,
        lease::minutes,
        output::{self, confirm, notice},
        shell::command_line,
    },
    client::{Call, ClientError},
    domain::Status,
};

/// The arguments of `admin release`, `admin restore` and `admin delete`.
#[derive(Clone, Debug, Args)]
pub(super) struct ActionArguments {
    /// The id of the sandbox.
    id: String,
    /// Why, for the audit: 1 to 500 characters.
    #[arg(long)]
    reason: String,
    /// Do not ask for a confirmation.
    #[arg(long)]
    yes: bool,
}

/// The arguments of `admin quarantine`.
#[derive(Clone, Debug, Args)]
pub(super) struct QuarantineArguments {
    #[command(flatten)]
    action: ActionArguments,
    #[command(flatten)]
    ending: Ending,
}

/// The arguments of `admin extend`.
#[derive(Clone, Debug, Args)]
pub(super) struct ExtendArguments {
    /// The id of the sandbox.
    id: String,
    /// The allocation ends at least this many minutes from now, up to 43200: 30 days.
    #[arg(long, value_parser = minutes())]
    minutes: u32,
    /// Why, for the audit: 1 to 500 characters.
    #[arg(long)]
    reason: String,
}

/// Releases a sandbox.
pub(super) async fn release(
    session: &Session,
    arguments: &ActionArguments,
) -> Result<(), CommandError> {
    ask(
        session,
        arguments,
        "Release it? Its holder loses it, and it is deleted.",
    )
    .await?;
    let action = Action::new("release", Some(Status::PendingDeletion), arguments);
    act(session, &action).await
}

/// Puts a sandbox in quarantine.
pub(super) async fn quarantine(
    session: &Session,
    arguments: &QuarantineArguments,
) -> Result<(), CommandError> {
    let question = "Set it aside? If it has a holder, the holder loses it.";
    ask(session, &arguments.action, question).await?;
    let mut action = Action::new("quarantine", Some(Status::Quarantined), &arguments.action);
    if let Some(until) = arguments.ending.until(session.now) {
        action.body["until"] = json!(until);
    }
    act(session, &action).await
}

/// Brings a sandbox back from quarantine.
pub(super) async fn restore(
    session: &Session,
    arguments: &ActionArguments,
) -> Result<(), CommandError> {
    act(session, &Action::new("restore", None, arguments)).await
}

/// Deletes a sandbox.
pub(super) async fn delete(
    session: &Session,
    arguments: &ActionArguments,
) -> Result<(), CommandError> {
    ask(session, arguments, "Delete it?").await?;
    let action = Action::new("delete", Some(Status::PendingDeletion), arguments);
    act(session, &action).await
}

/// Extends an allocation.
pub(super) async fn extend(
    session: &Session,
    arguments: &ExtendArguments,
) -> Result<(), CommandError> {
    let action = Action {
        id: &arguments.id,
        verb: "extend",
        reached: None,
        reason: &arguments.reason,
        body: json!({ "minutes": arguments.minutes, "reason": arguments.reason }),
    };
    act(session, &action).await
}

/// An action on a sandbox.
struct Action<'a> {
    id: &'a str,
    verb: &'static str,
    /// The status to which it leads, if the API refuses a repetition with the error of that status.
    reached: Option<Status>,
    reason: &'a str,
    body: Value,
}

impl<'a> Action<'a> {
    fn new(verb: &'static str, reached: Option<Status>, arguments: &'a ActionArguments) -> Self {
        Self {
            id: &arguments.id,
            verb,
            reached,
            reason: &arguments.reason,
            body: json!({ "reason": arguments.reason }),
        }
    }
}

/// Asks for a confirmation that describes the sandbox, unless the arguments contain it.
async fn ask(
    session: &Session,
    arguments: &ActionArguments,
    question: &str,
) -> Result<(), CommandError> {
    if arguments.yes {
        return Ok(());
    }
    let timeline: Timeline = timeline::read(session, &arguments.id, 1).await?.json()?;
    let sandbox = timeline.sandbox.map(Value::Object);
    let sandbox = sandbox.and_then(|sandbox| Sandbox::deserialize(sandbox).ok());
    let described = sandbox.map_or_else(
        || format!("{} is no sandbox of the pool.", arguments.id),
        |sandbox| describe(session, &sandbox),
    );
    confirm(&format!("{described} {question}"))
}

/// Returns a sentence that describes a sandbox, for a question.
fn describe(session: &Session, sandbox: &Sandbox) -> String {
    let Sandbox {
        id, name, status, ..
    } = sandbox;
    let status = status.replace('_', " ");
    match (&sandbox.allocated_to_track, &sandbox.track_name) {
        (Some(caller), lab) if sandbox.status == Status::Allocated.as_str() => {
            let lab = lab
                .as_ref()
                .map_or_else(String::new, |lab| format!(" of the lab {lab}"));
            let since = session.time(Some(sandbox.allocated_at));
            format!("{id} ({name}) is allocated to {caller}{lab} since {since}.")
        }
        _ => format!("{id} ({name}) is {status}."),
    }
}

/// Performs an action, and writes the sandbox as it is after it.
async fn act(session: &Session, action: &Action<'_>) -> Result<(), CommandError> {
    let call = Call::post(["admin", "sandboxes", action.id, action.verb]).json(action.body.clone());
    let sandbox: Value = match session.send(&call).await {
        Ok(answer) => answer.json()?,
        Err(error) => result_of_repetition(session, action, error).await?,
    };
    if session.is_json() {
        output::write_json(&sandbox)?;
        return Ok(());
    }
    let mut table = sandboxes::table();
    table.row(sandboxes::row(session, &Session::part(&sandbox)?));
    table.write()?;
    Ok(())
}

/// Returns the sandbox if `error` only means that the action has been repeated, for instance because the answer to the first
/// attempt was lost: the newest action on the sandbox is this one, by the same principal and with the same reason.
async fn result_of_repetition(
    session: &Session,
    action: &Action<'_>,
    error: ClientError,
) -> Result<Value, CommandError> {
    let reached = action.reached.map(|status| {
        let status = status.as_str().to_uppercase();
        format!("SANDBOX_{status}")
    });
    if reached.is_none() || error.code() != reached.as_deref() {
        return Err(error.into());
    }
    let me: Value = session.send(&Call::get(["admin", "me"])).await?.json()?;
    let timeline: Timeline = timeline::read(session, action.id, 20).await?.json()?;
    let name = format!("sandbox.{}", action.verb);
    let mut events = timeline.events.iter();
    // The names of derived events, such as `allocated`, have no dot.
    let last = events.find(|event| event.outcome == "done" && event.action.contains('.'));
    let is_same = last.is_some_and(|last| {
        last.action == name
            && last.actor.as_deref() == me["name"].as_str()
            && last.reason.as_deref().map(str::trim) == Some(action.reason.trim())
    });
    match timeline.sandbox {
        Some(sandbox) if is_same => {
            notice(
                "it was done before: the newest event of the sandbox is this action, with this reason",
            );
            Ok(sandbox.into())
        }
        _ => {
            let command = command_line(["admin", "sandbox", action.id]);
            let hint = format!("see: {command}");
            Err(CommandError::hinted(error, hint))
        }
    }
}
