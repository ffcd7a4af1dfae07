//! The actions on one sandbox: release, quarantine, restore, extend, delete.

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

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
    clock::UnixSeconds,
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
    let action = Action::new("release", &["SANDBOX_PENDING_DELETION"], arguments);
    act(session, &action).await
}

/// Puts a sandbox in quarantine.
pub(super) async fn quarantine(
    session: &Session,
    arguments: &QuarantineArguments,
) -> Result<(), CommandError> {
    let question = "Set it aside? If it has a holder, the holder loses it.";
    ask(session, &arguments.action, question).await?;
    let mut action = Action::new("quarantine", &["SANDBOX_QUARANTINED"], &arguments.action);
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
    let refusals = &["SANDBOX_AVAILABLE", "SANDBOX_PROVISIONING", "SANDBOX_STALE"];
    act(session, &Action::new("restore", refusals, arguments)).await
}

/// Deletes a sandbox.
pub(super) async fn delete(
    session: &Session,
    arguments: &ActionArguments,
) -> Result<(), CommandError> {
    ask(session, arguments, "Delete it?").await?;
    let action = Action::new("delete", &["SANDBOX_PENDING_DELETION"], arguments);
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
        // A repetition in the same second. A later one moves the end by as much as has passed.
        refusals: &["EXTENSION_LIMIT_REACHED"],
        reason: &arguments.reason,
        body: json!({ "minutes": arguments.minutes, "reason": arguments.reason }),
    };
    act(session, &action).await
}

/// An action on a sandbox.
struct Action<'a> {
    id: &'a str,
    verb: &'static str,
    /// The codes with which the API refuses a repetition.
    refusals: &'static [&'static str],
    reason: &'a str,
    body: Value,
}

impl<'a> Action<'a> {
    fn new(
        verb: &'static str,
        refusals: &'static [&'static str],
        arguments: &'a ActionArguments,
    ) -> Self {
        Self {
            id: &arguments.id,
            verb,
            refusals,
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
    if !error
        .code()
        .is_some_and(|code| action.refusals.contains(&code))
    {
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
        Some(sandbox) if is_same && !is_over(&sandbox, session.now) => {
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

/// Whether a sandbox is in an allocation that has ended, so that an earlier extension of it has no effect any more.
fn is_over(sandbox: &Map<String, Value>, now: UnixSeconds) -> bool {
    let ended = |at: &Value| at.as_i64().is_some_and(|at| at <= now.0);
    sandbox.get("status").and_then(Value::as_str) == Some(Status::Allocated.as_str())
        && sandbox.get("expires_at").is_some_and(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_allocation_past_its_end_is_over() {
        let now = UnixSeconds(1_774_000_000);
        for (status, expires_at, expected) in [
            ("allocated", json!(now.0), true),
            ("allocated", json!(now.0 + 1), false),
            ("allocated", Value::Null, false),
            ("pending_deletion", json!(now.0), false),
        ] {
            let sandbox = json!({"status": status, "expires_at": expires_at});
            let found = is_over(sandbox.as_object().unwrap(), now);
            assert_eq!(found, expected, "{sandbox}");
        }
    }
}
