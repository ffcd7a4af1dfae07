//! A history as people read it: a line an event.

use std::fmt::Write;

use super::super::event::{Allocated, Event, Got, Grant, Released, What};

/// The events, one a line, each with its interval in milliseconds.
pub fn printed(history: &[Event]) -> String {
    let mut text = String::new();
    for event in history {
        let (began, ended) = (event.began.as_millis(), event.ended.as_millis());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{began:>8}..{ended:<8} {}", said(&event.what));
    }
    text
}

fn said(what: &What) -> String {
    match what {
        What::Allocate {
            caller,
            key,
            prefix,
            answer,
        } => {
            let prefix = prefix.as_deref().unwrap_or("");
            let answer = match answer {
                Allocated::New(grant) => format!("new {}", granted(grant)),
                Allocated::Again(grant) => format!("again {}", granted(grant)),
                Allocated::NoneLeft => "none left".to_owned(),
                Allocated::Unknown(why) => format!("? {why}"),
            };
            format!("{caller}/{key} allocate({prefix}) -> {answer}")
        }
        What::Release {
            caller,
            sandbox,
            answer,
        } => {
            let answer = match answer {
                Released::Done {
                    deletion_requested_at: at,
                } => format!("done at {at}"),
                Released::Unknown(why) => format!("? {why}"),
                other => format!("{other:?}"),
            };
            format!("{caller} release({sandbox}) -> {answer}")
        }
        What::Get {
            caller,
            sandbox,
            answer,
        } => {
            let answer = match answer {
                Got::Is {
                    status,
                    allocated_at,
                    expires_at,
                } => format!("{status}, {allocated_at} to {expires_at}"),
                Got::Unknown(why) => format!("? {why}"),
                other => format!("{other:?}"),
            };
            format!("{caller} get({sandbox}) -> {answer}")
        }
        What::AccountMade {
            sandbox,
            name,
            external_id,
        } => format!("CSP makes {sandbox}, {name:?}, {external_id}"),
        What::AccountRenamed { sandbox, name } => format!("CSP renames {sandbox} to {name:?}"),
        What::AccountHidden { sandbox } => format!("CSP hides {sandbox}"),
        What::AccountShown { sandbox } => format!("CSP shows {sandbox}"),
        What::AccountDeleted { external_id } => format!("CSP deletes {external_id}"),
        What::Job { name, report } => match report {
            Some(report) => format!("job {name}: {report}"),
            None => format!("job {name}: no report"),
        },
        What::Clock { from, to } => format!("clock {from} -> {to}"),
        What::Table {
            sandboxes,
            claims,
            tombstones,
        } => {
            let rows: Vec<_> = sandboxes
                .iter()
                .map(|row| {
                    let holder = row.caller.as_deref().unwrap_or("-");
                    let key = row.key.as_deref().unwrap_or("-");
                    format!(
                        "{} {} {holder}/{key} {}",
                        row.sandbox, row.status, row.allocated_at
                    )
                })
                .collect();
            let claims: Vec<_> = claims
                .iter()
                .map(|claim| {
                    let (caller, key) = (&claim.caller, &claim.key);
                    format!("{caller}/{key}->{} {}", claim.sandbox, claim.allocated_at)
                })
                .collect();
            format!(
                "table [{}] claims [{}] gone {tombstones:?}",
                rows.join("; "),
                claims.join("; ")
            )
        }
        other => format!("{other:?}").to_lowercase(),
    }
}

fn granted(grant: &Grant) -> String {
    let Grant {
        sandbox,
        name,
        external_id,
        allocated_at,
        expires_at,
    } = grant;
    format!("{sandbox} ({name}, {external_id}), {allocated_at} to {expires_at}")
}
