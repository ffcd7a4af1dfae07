//! `admin sandboxes`: the sandboxes of the pool.

use clap::{Args, builder::PossibleValuesParser};
use serde::Deserialize;

use super::{pages::Listing, session::Session};
use crate::{
    cli::{
        error::CommandError,
        output::{Cell, Table},
    },
    client::Call,
    clock::UnixSeconds,
    domain::Status,
};

/// The arguments of `admin sandboxes`.
#[derive(Clone, Debug, Args)]
pub(super) struct SandboxesArguments {
    /// Only sandboxes with this status; the oldest allocation comes first.
    #[arg(long, value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)))]
    status: Option<String>,
    /// Only sandboxes with this text in their id, name, lab or caller, in upper or lower case.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// The most sandboxes to list. Default: all.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// A sandbox, as a listing or the answer to an action shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Sandbox {
    #[serde(rename = "sandbox_id")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    pub(super) allocated_to_track: Option<String>,
    pub(super) track_name: Option<String>,
    pub(super) allocated_at: UnixSeconds,
    pub(super) expires_at: Option<UnixSeconds>,
    deletion_error: Option<String>,
    released_by: Option<String>,
    check_error: Option<String>,
    quarantine_reason: Option<String>,
    quarantined_until: Option<UnixSeconds>,
}

/// An item of the pool that is no valid sandbox.
#[derive(Debug, Deserialize)]
struct Unreadable {
    key: String,
    fault: String,
}

#[derive(Deserialize)]
struct Page {
    sandboxes: Vec<Sandbox>,
    #[serde(default)]
    unreadable: Vec<Unreadable>,
}

/// Lists sandboxes.
pub(super) async fn list(
    session: &Session,
    arguments: &SandboxesArguments,
) -> Result<(), CommandError> {
    let call = Call::get(["admin", "sandboxes"])
        .query("status", arguments.status.as_ref())
        .query("q", arguments.search.as_ref());
    let listing = Listing {
        call,
        entries: "sandboxes",
        others: Some("unreadable"),
        limit: arguments.limit,
    };
    let add = |table: &mut Table, page: Page| {
        for sandbox in &page.sandboxes {
            table.row(row(session, sandbox));
        }
        for item in &page.unreadable {
            let empty = Cell::default;
            let key = item.key.as_str().into();
            let status = Cell::status("unreadable");
            let fault = item.fault.as_str().into();
            table.row([key, empty(), status, empty(), empty(), empty(), fault]);
        }
    };
    listing.write(session, table(), add).await
}

/// Returns a table for [`row`].
pub(super) fn table() -> Table {
    Table::new(&["ID", "NAME", "STATUS", "LAB", "CALLER", "ENDS", "NOTE"])
}

/// Returns a sandbox as a row of [`table`].
pub(super) fn row(session: &Session, sandbox: &Sandbox) -> [Cell; 7] {
    let ends = match sandbox.status.parse::<Status>() {
        Ok(Status::Allocated) => sandbox.expires_at,
        Ok(Status::Quarantined) => sandbox.quarantined_until,
        _ => None,
    };
    [
        sandbox.id.as_str().into(),
        sandbox.name.as_str().into(),
        Cell::status(&sandbox.status),
        sandbox.track_name.clone().into(),
        sandbox.allocated_to_track.clone().into(),
        session.time(ends).into(),
        note(sandbox).into(),
    ]
}

/// Returns why a sandbox has its status, if its item states it.
fn note(sandbox: &Sandbox) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match sandbox.status.parse::<Status>() {
        Ok(Status::DeletionFailed) => text(&sandbox.deletion_error),
        Ok(Status::PendingDeletion) => {
            let error = sandbox.deletion_error.clone();
            let by = sandbox
                .released_by
                .as_ref()
                .map(|by| format!("released by {by}"));
            error.or(by).unwrap_or_default()
        }
        Ok(Status::Provisioning) => text(&sandbox.check_error),
        Ok(Status::Quarantined) => text(&sandbox.quarantine_reason),
        _ => String::new(),
    }
}
