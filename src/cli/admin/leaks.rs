//! `admin leaks`: allocations whose play is likely over, and their release in one go.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{pages::Pages, session::Session};
use crate::{
    cli::{
        error::CommandError,
        output::{self, Cell, Table, confirm_preview, time::duration},
    },
    client::{Call, ClientError},
    clock::UnixSeconds,
};

/// The most leaks on a page, and in a request to release them.
const PAGE: usize = 500;

/// The arguments of `admin leaks`.
#[derive(Clone, Debug, Args)]
pub(super) struct LeaksArguments {
    /// Only allocations of this lab.
    #[arg(long)]
    lab: Option<String>,
    /// Release the listed allocations, each unless it has changed since.
    #[arg(long, requires = "reason")]
    release: bool,
    /// Why, for the audit: 1 to 500 characters.
    #[arg(long, requires = "release")]
    reason: Option<String>,
    /// Do not ask for a confirmation.
    #[arg(long, requires = "release")]
    yes: bool,
}

/// A page of the API.
#[derive(Deserialize)]
struct Page {
    generated_at: UnixSeconds,
    leaks: Vec<Value>,
    labs: Vec<Value>,
    cursor: Option<String>,
}

/// All leaks, as documents of the API.
struct AllLeaks {
    generated_at: UnixSeconds,
    leaks: Vec<Value>,
    labs: Vec<Value>,
}

/// An allocation whose play is likely over.
#[derive(Deserialize)]
struct Leak {
    sandbox_id: String,
    name: String,
    caller: Option<String>,
    lab: Option<String>,
    allocated_at: UnixSeconds,
    expires_at: Option<UnixSeconds>,
    held_sec: u64,
    usual_sec: u64,
    basis: String,
}

/// The outcomes of a request to release allocations.
#[derive(Deserialize)]
struct Releases {
    results: Vec<Value>,
}

/// The outcome of one release.
#[derive(Deserialize)]
struct Release {
    sandbox_id: String,
    outcome: String,
    message: Option<String>,
}

/// Lists the leaks, and releases them if the arguments request it.
pub(super) async fn run(session: &Session, arguments: &LeaksArguments) -> Result<(), CommandError> {
    let found = read(session, arguments.lab.as_deref()).await?;
    let leaks: Vec<Leak> = Session::parts(&found.leaks)?;
    let list = if session.is_json() {
        Ok(())
    } else {
        table(session, &leaks).write()
    };
    if leaks.is_empty() && !session.is_json() {
        output::notice("no allocation is held for longer than is usual");
        return list.map_err(Into::into);
    }
    let Some(reason) = arguments.reason.as_ref().filter(|_| arguments.release) else {
        if session.is_json() {
            output::write_json(&json!({
                "generated_at": found.generated_at, "leaks": found.leaks, "labs": found.labs, "cursor": null
            }))?;
        }
        return list.map_err(Into::into);
    };
    if !arguments.yes && !leaks.is_empty() {
        let count = leaks.len();
        let question =
            format!("Release these {count} allocations? Their holders lose the sandboxes.");
        confirm_preview(list, &question)?;
    }
    release(session, &leaks, reason).await
}

/// Reads all pages.
async fn read(session: &Session, lab: Option<&str>) -> Result<AllLeaks, ClientError> {
    let mut found = AllLeaks {
        generated_at: session.now,
        leaks: Vec::new(),
        labs: Vec::new(),
    };
    let mut cursor: Option<String> = None;
    let mut pages = Pages::default();
    loop {
        let call = Call::get(["admin", "leaks"]).query("limit", Some(PAGE));
        let answer = session.send(&call.query("cursor", cursor)).await?;
        let page: Page = pages.add(answer)?.json()?;
        found.generated_at = page.generated_at;
        let is_wanted = |entry: &Value| lab.is_none() || entry["lab"].as_str() == lab;
        found.leaks.extend(page.leaks.into_iter().filter(is_wanted));
        found.labs.extend(page.labs.into_iter().filter(is_wanted));
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(found);
        }
    }
}

fn table(session: &Session, leaks: &[Leak]) -> Table {
    let mut table = Table::new(&["ID", "NAME", "LAB", "CALLER", "HELD", "USUAL", "ENDS"]);
    for leak in leaks {
        let span = |seconds| duration(Duration::from_secs(seconds));
        let usual = match leak.basis.as_str() {
            "history" => span(leak.usual_sec),
            _ => format!("{} (its own end)", span(leak.usual_sec)),
        };
        table.row([
            leak.sandbox_id.as_str().into(),
            leak.name.as_str().into(),
            Cell::from(leak.lab.clone()),
            Cell::from(leak.caller.clone()),
            span(leak.held_sec).into(),
            usual.into(),
            session.time(leak.expires_at).into(),
        ]);
    }
    table
}

/// Releases allocations. Those that a request left unattempted, for lack of time, are sent again unless it attempted none.
async fn release(session: &Session, leaks: &[Leak], reason: &str) -> Result<(), CommandError> {
    let mut results = Vec::new();
    let mut left: Vec<&Leak> = leaks.iter().collect();
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(PAGE));
        let allocations: Vec<_> = left
            .iter()
            .map(|leak| {
                json!({
                    "sandbox_id": leak.sandbox_id, "allocated_at": leak.allocated_at, "expires_at": leak.expires_at
                })
            })
            .collect();
        let body = json!({ "reason": reason, "allocations": allocations });
        let sent = match send(session, body, left.len()).await {
            Ok(sent) => sent,
            Err(error) => {
                // The error counts, also if nobody reads the outcomes.
                let _ = write_results(session, &results);
                return Err(error.into());
            }
        };
        let is_unattempted = |result: &Value| result["outcome"] == "not_attempted";
        let made_progress = !sent.iter().all(is_unattempted);
        let is_repeated = |result: &Value| made_progress && is_unattempted(result);
        let again = left
            .iter()
            .zip(&sent)
            .filter(|(_, result)| is_repeated(result));
        let again: Vec<_> = again.map(|(leak, _)| *leak).collect();
        let is_final = |result: &Value| !is_repeated(result);
        results.extend(sent.into_iter().filter(is_final));
        left = again.into_iter().chain(rest).collect();
    }
    let written = write_results(session, &results);
    let may_be_held = |result: &&Value| {
        ["failed", "not_attempted"]
            .iter()
            .any(|outcome| result["outcome"] == *outcome)
    };
    match results.iter().filter(may_be_held).count() {
        0 => written,
        count => Err(CommandError::TryAgain(format!(
            "{count} allocations may still be held; repeat the command"
        ))),
    }
}

/// Releases `count` allocations, and returns the outcome of each.
async fn send(session: &Session, body: Value, count: usize) -> Result<Vec<Value>, ClientError> {
    let call = Call::post(["admin", "leaks", "release"]).json(body);
    let answer = session.send(&call).await?;
    let Releases { results } = answer.json()?;
    if results.len() == count {
        Ok(results)
    } else {
        let reason = format!("it returned {} outcomes of {count} releases", results.len());
        Err(answer.not_a_broker(reason))
    }
}

/// Writes the number of releases with each outcome, and the allocations that were not released.
fn write_results(session: &Session, results: &[Value]) -> Result<(), CommandError> {
    let count = |outcome: &str| {
        results
            .iter()
            .filter(|result| result["outcome"] == outcome)
            .count()
    };
    let counts =
        ["released", "refused", "failed", "not_attempted"].map(|outcome| (outcome, count(outcome)));
    if session.is_json() {
        let mut document = json!({ "results": results });
        for (outcome, count) in counts {
            document[outcome] = json!(count);
        }
        output::write_json(&document)?;
        return Ok(());
    }
    let mut table = Table::new(&["ID", "OUTCOME", "MESSAGE"]);
    let results: Vec<Release> = Session::parts(results)?;
    let results = results.into_iter();
    for result in results.filter(|result| result.outcome != "released") {
        let outcome = result.outcome.replace('_', " ");
        table.row([
            result.sandbox_id.into(),
            Cell::warning(&outcome),
            result.message.into(),
        ]);
    }
    table.write()?;
    let counts = counts
        .into_iter()
        .filter(|(outcome, count)| *count > 0 || *outcome == "released");
    let counts: Vec<_> = counts
        .map(|(outcome, count)| format!("{count} {}", outcome.replace('_', " ")))
        .collect();
    output::write_line(counts.join(", "))?;
    Ok(())
}
