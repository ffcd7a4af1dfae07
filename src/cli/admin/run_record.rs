//! The record of a run of a job, as `admin run` and `admin jobs` show it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::session::Session;
use crate::{
    cli::{
        error::CommandError,
        output::{
            self, Cell, Table,
            time::{duration, with_times},
        },
    },
    client::{Answer, Call, ClientError},
    clock::UnixSeconds,
};

/// The numbers of a report that are not counts.
const NO_COUNTS: [&str; 3] = ["duration_ms", "grace_period_hours", "deferred_since"];

/// A run of a job.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) job: String,
    pub(super) state: String,
    pub(super) counts: Map<String, Value>,
    pub(super) error: Option<String>,
    started_by: Option<String>,
    pub(super) started_at: UnixSeconds,
    finished_at: Option<UnixSeconds>,
}

/// Reads the record of a run.
pub(super) async fn read(session: &Session, id: &str) -> Result<Answer, ClientError> {
    session.send(&Call::get(["admin", "jobs", id])).await
}

/// Writes one run, with the pools of a refill.
pub(super) fn write(session: &Session, run: &Run) -> Result<(), CommandError> {
    let mut table = table();
    table.row(row(session, run));
    table.write()?;
    for note in run.notes() {
        output::write_line(note)?;
    }
    let pools = run.counts.get("pools").and_then(Value::as_array);
    if let Some(pools) = pools.filter(|pools| !pools.is_empty()) {
        output::write_line("")?;
        pools_table(pools).write()?;
    }
    Ok(())
}

/// Returns an empty table of runs.
pub(super) fn table() -> Table {
    Table::new(&["RUN", "STATE", "STARTED", "TOOK", "BY", "RESULT"])
}

/// Returns the row of a run in [`table()`].
pub(super) fn row(session: &Session, run: &Run) -> [Cell; 6] {
    let end = run.finished_at.unwrap_or(session.now);
    let took = end.0.saturating_sub(run.started_at.0);
    let took = Duration::from_secs(u64::try_from(took).unwrap_or(0));
    [
        run.id.as_str().into(),
        Cell::status(&run.state),
        session.time(Some(run.started_at)).into(),
        duration(took).into(),
        run.started_by
            .clone()
            .unwrap_or_else(|| "schedule".to_owned())
            .into(),
        run.result().into(),
    ]
}

impl Run {
    /// Returns the error, or else the counts that are not 0.
    pub(super) fn result(&self) -> String {
        if let Some(error) = &self.error {
            return error.clone();
        }
        if self.counts.get("plan") == Some(&Value::Bool(true)) {
            let pools = self.counts.get("pools").and_then(Value::as_array);
            let creations = pools.into_iter().flatten().map(|pool| &pool["creations"]);
            let wanted: u64 = creations.filter_map(Value::as_u64).sum();
            return format!("{wanted} accounts would be created");
        }
        let shown = |(name, value): (&String, &Value)| {
            let count = value.as_u64().filter(|count| *count > 0)?;
            let is_count = !NO_COUNTS.contains(&name.as_str());
            is_count.then(|| format!("{count} {}", name.replace('_', " ")))
        };
        let counts: Vec<_> = self.counts.iter().filter_map(shown).collect();
        counts.join(", ")
    }

    /// Returns the texts of the report, such as why the run did not do all its work.
    fn notes(&self) -> Vec<String> {
        let texts = self.counts.iter().filter(|(name, _)| *name != "status");
        let texts =
            texts.filter_map(|(name, value)| Some((name.replace('_', " "), value.as_str()?)));
        texts
            .map(|(name, text)| format!("{name}: {}", with_times(text)))
            .collect()
    }

    /// Returns the number of sandboxes that are done and the number that are due; `None` if the job does not report them.
    pub(super) fn progress(&self) -> Option<(u64, u64)> {
        let count = |name: &str| self.counts.get(name).and_then(Value::as_u64);
        let parts: &[&str] = match self.job.as_str() {
            "sync" | "refill" => return None,
            "auto-expire" => &["expired"],
            "check" => &["usable", "not_yet", "failed", "quarantined"],
            _ => &["deleted", "failed"],
        };
        let due = count("due").filter(|due| *due > 0)?;
        let done: u64 = parts.iter().filter_map(|name| count(name)).sum();
        Some((done.min(due), due))
    }
}

/// Returns the pools in the report of a refill as a table.
fn pools_table(pools: &[Value]) -> Table {
    let mut table = Table::new(&[
        "POOL",
        "TARGET",
        "AVAILABLE",
        "UNDER WAY",
        "WANTED",
        "CREATIONS",
        "REASON",
    ]);
    for pool in pools {
        let cell = |name: &str| match &pool[name] {
            Value::String(text) if name == "reason" => with_times(text),
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let names = [
            "name_prefix",
            "goal",
            "available",
            "under_way",
            "wanted",
            "creations",
            "reason",
        ];
        table.row(names.map(cell));
    }
    table
}
