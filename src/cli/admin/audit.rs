//! `admin audit`: the audit records.

use std::collections::BTreeSet;

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

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
    /// Only records of this principal or job; a * at the end matches any rest, as in --action, --target and --outcome.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only records of this action, such as sandbox.release or 'policy.*'.
    #[arg(long)]
    action: Option<String>,
    /// Only records of this target, such as sandbox/2009521 or 'job/*'.
    #[arg(long)]
    target: Option<String>,
    /// Only records with this outcome: done, or the error code of the refusal.
    #[arg(long, value_name = "CODE")]
    outcome: Option<String>,
    /// The most records to list. Default: all.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// An audit record, or an event in the timeline of a sandbox.
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

/// Returns the difference between the states before and after as a text.
fn change(before: Option<&Value>, after: Option<&Value>) -> String {
    let fields = |state: Option<&Value>| -> Map<String, Value> {
        state
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (before, after) = (fields(before), fields(after));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let parts = names.into_iter().filter_map(|name| {
        match (stated(before.get(name)), stated(after.get(name))) {
            (before, after) if before == after => None,
            (None, Some(after)) => Some(format!("{name}={after}")),
            (Some(before), after) => {
                let after = after.unwrap_or_else(|| "none".to_owned());
                Some(format!("{name}={before} -> {after}"))
            }
            (None, None) => None,
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Returns a value as a text, without quotes; `None` if it is `null`.
fn stated(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn change_shows_only_the_fields_that_differ() {
        let before = json!({ "status": "allocated", "lab": "a", "until": 5, "by": null });
        let after = json!({ "status": "quarantined", "lab": "a", "by": "anna" });
        assert_eq!(
            change(Some(&before), Some(&after)),
            "by=anna, status=allocated -> quarantined, until=5 -> none"
        );
        assert_eq!(change(None, Some(&json!({ "force": true }))), "force=true");
        assert_eq!(change(None, None), "");
    }
}
