//! `admin sandbox`: one sandbox and its events.

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{audit::Record, session::Session};
use crate::{
    cli::{
        error::CommandError,
        output::{Cell, Table, notice, write_line},
    },
    client::{Answer, Call, ClientError},
    clock::UnixSeconds,
};

/// The arguments of `admin sandbox`.
#[derive(Clone, Debug, Args)]
pub(super) struct TimelineArguments {
    /// The id of the sandbox.
    id: String,
    /// The most recorded events to show.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
}

/// A sandbox and its events.
#[derive(Debug, Deserialize)]
pub(super) struct Timeline {
    pub(super) sandbox: Option<Map<String, Value>>,
    unreadable: Option<Map<String, Value>>,
    tombstone: Option<Map<String, Value>>,
    pub(super) events: Vec<Record>,
    cursor: Option<String>,
}

/// The fields of a sandbox in the order in which they are shown; others follow.
const FIELDS: [&str; 14] = [
    "sandbox_id",
    "name",
    "status",
    "external_id",
    "allocated_to_track",
    "idempotency_key",
    "track_name",
    "name_prefix",
    "allocated_at",
    "expires_at",
    "deletion_requested_at",
    "released_by",
    "deleted_at",
    "kept_until",
];

/// The suffixes of the names of fields that are times.
const TIMES: [&str; 3] = ["_at", "_until", "_synced"];

/// Shows a sandbox and its events.
pub(super) async fn show(
    session: &Session,
    arguments: &TimelineArguments,
) -> Result<(), CommandError> {
    let answer = read(session, &arguments.id, arguments.limit).await?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    let timeline: Timeline = answer.json()?;
    let parts = [
        ("", &timeline.sandbox),
        (
            "The item is no valid sandbox; jobs leave it as it is.",
            &timeline.unreadable,
        ),
        ("Deleted; this is its tombstone.", &timeline.tombstone),
    ];
    for (title, part) in parts {
        if let Some(part) = part {
            if !title.is_empty() {
                write_line(title)?;
            }
            fields(session, part).write()?;
        }
    }
    if parts.iter().all(|(_, part)| part.is_none()) {
        write_line("Not in the pool; only its events are known.")?;
    }
    write_line("")?;
    let mut table = super::audit::table();
    for event in &timeline.events {
        table.row(super::audit::row(session, event));
    }
    table.write()?;
    if timeline.cursor.is_some() {
        notice("there are older events: raise --limit");
    }
    Ok(())
}

/// Reads a sandbox and its last `limit` recorded events.
pub(super) async fn read(session: &Session, id: &str, limit: u64) -> Result<Answer, ClientError> {
    let call = Call::get(["admin", "sandboxes", id]).query("limit", Some(limit));
    session.send(&call).await
}

/// Returns a table of the fields of an object that have a value.
fn fields(session: &Session, object: &Map<String, Value>) -> Table {
    let mut table = Table::of_fields();
    let first = FIELDS.iter().filter_map(|name| object.get_key_value(*name));
    let others = object
        .iter()
        .filter(|(name, _)| !FIELDS.contains(&name.as_str()));
    for (name, value) in first.chain(others) {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Number(number) if TIMES.iter().any(|end| name.ends_with(end)) => {
                let at = number.as_i64().filter(|at| *at > 0).map(UnixSeconds);
                session.time(at)
            }
            other => other.to_string(),
        };
        if text.is_empty() {
            continue;
        }
        let value = if name == "status" {
            Cell::status(&text)
        } else {
            text.into()
        };
        table.row([Cell::bold(name), value]);
    }
    table
}
