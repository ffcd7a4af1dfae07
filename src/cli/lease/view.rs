//! Sandboxes as tables and sentences.

use std::io;

use super::calls::{Extension, Released, Sandbox};
use crate::{
    cli::output::{
        Table,
        time::{relative, show},
        write_line,
    },
    client::Answer,
    clock::{Clock, SystemClock, UnixSeconds},
};

/// Returns the present time by the clock of the broker, whose times are shown. That of this machine may differ.
fn now(answer: &Answer) -> UnixSeconds {
    answer.sent_at().unwrap_or_else(|| SystemClock.now())
}

/// Writes a sandbox as a table of names and values.
pub(super) fn sandbox(sandbox: &Sandbox, answer: &Answer) -> io::Result<()> {
    let now = now(answer);
    let time = |at| show(at, now);
    let mut table = Table::of_fields();
    let fields = [
        ("ID", Some(sandbox.id.clone())),
        ("NAME", Some(sandbox.name.clone())),
        ("STATUS", sandbox.status.clone()),
        ("ACCOUNT ID", Some(sandbox.account_id().to_owned())),
        ("EXTERNAL ID", Some(sandbox.external_id.clone())),
        ("SALESFORCE", sandbox.sfdc_account_id.clone()),
        ("LAB", sandbox.track_name.clone()),
        ("ALLOCATED", Some(time(sandbox.allocated_at))),
        ("EXPIRES", sandbox.expires_at.map(time)),
        ("LATEST END", sandbox.max_expires_at.map(time)),
        ("REPLACES", sandbox.replaces.clone()),
        ("REPLACED BY", sandbox.replaced_by.clone()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    }
    table.write()
}

/// Writes sandboxes as a table.
pub(super) fn sandboxes(sandboxes: &[Sandbox], answer: &Answer) -> io::Result<()> {
    let now = now(answer);
    let mut table = Table::new(&["ID", "NAME", "LAB", "ALLOCATED", "EXPIRES"]);
    for sandbox in sandboxes {
        let expires = sandbox.expires_at.map(|at| show(at, now));
        table.row([
            sandbox.id.clone(),
            sandbox.name.clone(),
            sandbox.track_name.clone().unwrap_or_default(),
            relative(sandbox.allocated_at, now),
            expires.unwrap_or_default(),
        ]);
    }
    table.write()
}

/// Writes the end of a lease.
pub(super) fn extension(extension: &Extension, answer: &Answer) -> io::Result<()> {
    let end = show(extension.expires_at, now(answer));
    let limit = if extension.expires_at >= extension.max_expires_at {
        "; the lab permits no longer lease"
    } else {
        ""
    };
    write_line(format_args!("expires {end}{limit}"))
}

/// Writes the outcome of each release in a chain.
pub(super) fn released<'a>(chain: impl Iterator<Item = &'a Released>) -> io::Result<()> {
    for released in chain {
        let id = &released.sandbox_id;
        match &released.replaced_by {
            Some(next) => write_line(format_args!("{id} was replaced by {next}"))?,
            None => write_line(format_args!("{id} is released"))?,
        }
    }
    Ok(())
}
