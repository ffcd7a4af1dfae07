//! `admin audit`: the audit records.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{pages::Listing, session::Session};
use crate::{
    cli::{
        error::CommandError,
        output::{Cell, Table, time::Moment},
    },
    client::Call,
    clock::UnixSeconds,
};

/// The arguments of `admin audit`.
#[derive(Clone, Debug, Args)]
pub(super) struct AuditArguments {
    /// Only records from this time on: a day in UTC (2026-11-28), a time with an offset, or a duration ago (24h, 7d).
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Only records up to this time; a day counts to its end.
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// Only records of this principal or job; a * at the end stands for any rest, here and below.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only records of this action, such as sandbox.release or 'policy.*'.
    #[arg(long)]
    action: Option<String>,
    /// Only records of this target, such as sandbox/2009521 or 'job/*'.
    #[arg(long)]
    target: Option<String>,
    /// Only records with this outcome: done, or the code of the refusal.
    #[arg(long, value_name = "CODE")]
    outcome: Option<String>,
    /// The most records to list. Default: all.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// An audit record, or an event of a sandbox.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    at: UnixSeconds,
    pub(super) action: String,
    pub(super) actor: Option<String>,
    role: Option<String>,
    target: String,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    before: Option<Value>,
    after: Option<Value>,
}

#[derive(Deserialize)]
struct Page {
    records: Vec<Record>,
}

/// Lists audit records.
pub(super) async fn list(
    session: &Session,
    arguments: &AuditArguments,
) -> Result<(), CommandError> {
    let from = arguments.from.map(|from| from.since(session.now));
    let to = arguments.to.map(|to| to.up_to(session.now));
    let call = Call::get(["admin", "audit"])
        .query("from", from)
        .query("to", to)
        .query("actor", arguments.actor.as_ref())
        .query("action", arguments.action.as_ref())
        .query("target", arguments.target.as_ref())
        .query("outcome", arguments.outcome.as_ref());
    let listing = Listing {
        call,
        entries: "records",
        others: None,
        limit: arguments.limit,
    };
    let add = |table: &mut Table, page: Page| {
        for record in &page.records {
            table.row(row(session, record));
        }
    };
    listing.write(session, table(), add).await
}

/// Returns a table for [`row`].
pub(super) fn table() -> Table {
    Table::new(&[
        "AT", "ACTOR", "ACTION", "TARGET", "OUTCOME", "REASON", "CHANGE",
    ])
}

/// Returns a record as a row of [`table`].
pub(super) fn row(session: &Session, record: &Record) -> [Cell; 7] {
    let actor = match (&record.actor, &record.role) {
        (Some(actor), Some(role)) => format!("{actor} ({role})"),
        (Some(actor), None) => actor.clone(),
        (None, _) => String::new(),
    };
    let outcome = if record.outcome == "done" {
        record.outcome.as_str().into()
    } else {
        Cell::warning(&record.outcome)
    };
    [
        session.time(Some(record.at)).into(),
        actor.into(),
        record.action.as_str().into(),
        record.target.as_str().into(),
        outcome,
        record.reason.clone().into(),
        change(record.before.as_ref(), record.after.as_ref()).into(),
    ]
}

/// Returns the states before and after as a text.
fn change(before: Option<&Value>, after: Option<&Value>) -> String {
    match (before, after) {
        (None, None) => String::new(),
        (None, Some(after)) => flat(after),
        (Some(before), None) => format!("{} ->", flat(before)),
        (Some(before), Some(after)) => format!("{} -> {}", flat(before), flat(after)),
    }
}

/// Returns an object without braces and quotes: `status=allocated minutes=60`.
fn flat(value: &Value) -> String {
    let Some(object) = value.as_object() else {
        return value.to_string();
    };
    let fields = object.iter().filter(|(_, value)| !value.is_null());
    let fields: Vec<_> = fields
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        })
        .collect();
    fields.join(" ")
}
