//! Sandboxes as tables and sentences.

use super::calls::{Extension, Released, Sandbox};
use crate::{
    cli::{
        output::{Table, time},
        print,
    },
    client::Answer,
    clock::{Clock, SystemClock, UnixSeconds},
    domain::one_line,
};

/// Returns the present time by the clock of the broker, whose times are shown: that of this machine may be wrong.
fn now(answer: &Answer) -> UnixSeconds {
    answer.sent_at().unwrap_or_else(|| SystemClock.now())
}

/// Prints a sandbox as a table of names and values.
pub(super) fn sandbox(sandbox: &Sandbox, answer: &Answer) {
    let now = now(answer);
    let time = |at| time::show(at, now);
    let mut table = Table::untitled(2);
    let text = |text: &Option<String>| text.clone();
    let fields = [
        ("ID", Some(sandbox.id.clone())),
        ("NAME", Some(sandbox.name.clone())),
        ("STATUS", text(&sandbox.status)),
        ("ACCOUNT ID", Some(sandbox.account_id().to_owned())),
        ("EXTERNAL ID", Some(sandbox.external_id.clone())),
        ("SALESFORCE", text(&sandbox.sfdc_account_id)),
        ("LAB", text(&sandbox.track_name)),
        ("ALLOCATED", Some(time(sandbox.allocated_at))),
        ("EXPIRES", sandbox.expires_at.map(time)),
        ("LATEST END", sandbox.max_expires_at.map(time)),
        ("REPLACES", text(&sandbox.replaces)),
        ("REPLACED BY", text(&sandbox.replaced_by)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    }
    table.print();
}

/// Prints sandboxes as a table.
pub(super) fn sandboxes(sandboxes: &[Sandbox], answer: &Answer) {
    let now = now(answer);
    let mut table = Table::new(&["ID", "NAME", "LAB", "ALLOCATED", "EXPIRES"]);
    for sandbox in sandboxes {
        let expires = sandbox.expires_at.map(|at| time::show(at, now));
        table.row([
            sandbox.id.clone(),
            sandbox.name.clone(),
            sandbox.track_name.clone().unwrap_or_default(),
            time::relative(sandbox.allocated_at, now),
            expires.unwrap_or_default(),
        ]);
    }
    table.print();
}

/// Prints the end of a lease.
pub(super) fn extension(extension: &Extension, answer: &Answer) {
    let end = time::show(extension.expires_at, now(answer));
    let limit = if extension.expires_at >= extension.max_expires_at {
        "; the lab permits no longer lease"
    } else {
        ""
    };
    print(format_args!("expires {end}{limit}"));
}

/// Prints the outcome of a release.
pub(super) fn released<'a>(chain: impl Iterator<Item = &'a Released>) {
    for released in chain {
        let id = one_line(&released.sandbox_id, usize::MAX);
        match &released.replaced_by {
            Some(next) => print(format_args!(
                "{id} was replaced by {}",
                one_line(next, usize::MAX)
            )),
            None => print(format_args!("{id} is released")),
        }
    }
}
