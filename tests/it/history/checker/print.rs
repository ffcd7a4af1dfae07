//! A history in human-readable form, one line per event.

use std::fmt::Write;

use super::super::event::{
    ActAnswer, AllocateAnswer, Event, EventKind, GetAnswer, Grant, ReleaseAnswer, ReplaceAnswer,
};

/// Prints events one per line, each with its interval in milliseconds.
pub fn printed(history: &[Event]) -> String {
    let mut text = String::new();
    for event in history {
        let (began, ended) = (event.began.as_millis(), event.ended.as_millis());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{began:>8}..{ended:<8} {}", described(&event.kind));
    }
    text
}

#[expect(clippy::too_many_lines, reason = "a text for each kind of event")]
fn described(kind: &EventKind) -> String {
    match kind {
        EventKind::Allocate {
            caller,
            key,
            lab,
            prefix,
            minutes,
            answer,
        } => {
            let (lab, prefix) = (
                lab.as_deref().unwrap_or(""),
                prefix.as_deref().unwrap_or(""),
            );
            let minutes = minutes.map_or(String::new(), |minutes| minutes.to_string());
            let answer = match answer {
                AllocateAnswer::New(grant) => format!("new {}", granted(grant)),
                AllocateAnswer::Replayed(grant) => format!("replayed {}", granted(grant)),
                AllocateAnswer::NoneLeft => "none left".to_owned(),
                AllocateAnswer::LabFull => "lab full".to_owned(),
                AllocateAnswer::Paused => "paused".to_owned(),
                AllocateAnswer::Unknown(why) => format!("? {why}"),
            };
            format!("{caller}/{key} allocate({lab}, {prefix}, {minutes}) -> {answer}")
        }
        EventKind::Release {
            caller,
            sandbox,
            answer,
        } => {
            let answer = match answer {
                ReleaseAnswer::Done {
                    deletion_requested_at: at,
                } => format!("done at {at}"),
                ReleaseAnswer::Unknown(why) => format!("? {why}"),
                other => format!("{other:?}"),
            };
            format!("{caller} release({sandbox}) -> {answer}")
        }
        EventKind::Extend {
            caller,
            sandbox,
            minutes,
            answer,
        } => format!("{caller} extend({sandbox}, {minutes}) -> {answer:?}"),
        EventKind::Replace {
            caller,
            key,
            sandbox,
            answer,
        } => {
            let answer = match answer {
                ReplaceAnswer::New(grant) => format!("new {}", granted(grant)),
                ReplaceAnswer::Current(grant) => format!("current {}", granted(grant)),
                ReplaceAnswer::Unknown(why) => format!("? {why}"),
                other => format!("{other:?}"),
            };
            format!("{caller}/{key} replace({sandbox}) -> {answer}")
        }
        EventKind::Get {
            caller,
            sandbox,
            answer,
        } => {
            let answer = match answer {
                GetAnswer::Found {
                    status,
                    allocated_at,
                    expires_at,
                } => format!("{status}, {allocated_at} to {expires_at}"),
                GetAnswer::Unknown(why) => format!("? {why}"),
                other => format!("{other:?}"),
            };
            format!("{caller} get({sandbox}) -> {answer}")
        }
        EventKind::Act {
            sandbox,
            action,
            answer,
        } => format!("operator {action}({sandbox}) -> {}", acted(answer)),
        EventKind::AccountCreated {
            sandbox,
            name,
            external_id,
        } => format!("CSP creates {sandbox}, {name:?}, {external_id}"),
        EventKind::AccountOrdered {
            sandbox,
            name,
            external_id,
            is_usable,
        } => {
            let usable = if *is_usable { "" } else { ", never usable" };
            format!("CSP creates {sandbox}, {name:?}, {external_id}, as ordered{usable}")
        }
        EventKind::PoolSet { prefix, target } => format!("operator sets pool {prefix}: {target}"),
        EventKind::ListsBroken => "CSP's lists leave an account out".to_owned(),
        EventKind::Creations { open } => format!("open creations: {open:?}"),
        EventKind::AccountRenamed { sandbox, name } => format!("CSP renames {sandbox} to {name:?}"),
        EventKind::AccountHidden { sandbox } => format!("CSP hides {sandbox}"),
        EventKind::AccountShown { sandbox } => format!("CSP shows {sandbox}"),
        EventKind::AccountDeleted { external_id } => format!("CSP deletes {external_id}"),
        EventKind::Job { name, report } => match report {
            Some(report) => format!("job {name}: {report}"),
            None => format!("job {name}: no report"),
        },
        EventKind::PauseOrdered { activity } => format!("operator pauses {activity}"),
        EventKind::ClockAdvanced { from, to } => format!("clock {from} -> {to}"),
        EventKind::Table {
            sandboxes,
            claims,
            tombstones,
        } => {
            let rows: Vec<_> = sandboxes
                .iter()
                .map(|row| {
                    let holder = row.caller.as_deref().unwrap_or("-");
                    let key = row.key.as_deref().unwrap_or("-");
                    let replaced = row.replaced_by.as_deref().unwrap_or("-");
                    format!(
                        "{} {} {holder}/{key} {} replaced by {replaced}",
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

fn acted(answer: &ActAnswer) -> String {
    match answer {
        ActAnswer::Done {
            status, expires_at, ..
        } => format!("{status}, until {expires_at:?}"),
        ActAnswer::Refused(code) => code.clone(),
        ActAnswer::Unknown(why) => format!("? {why}"),
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
