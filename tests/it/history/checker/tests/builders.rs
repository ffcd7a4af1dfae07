//! Builders of events.

use std::time::Duration;

use super::super::super::event::{
    ActAnswer, AllocateAnswer, ClaimRow, Event, EventKind, ExtendAnswer, GetAnswer, Grant,
    LabQuota, ReleaseAnswer, ReplaceAnswer, Row,
};

/// Unix seconds at the start of a history.
pub(super) const T0: i64 = 1_795_000_000;
/// Duration of an allocation, in seconds.
pub(super) const HOURS_4: i64 = 4 * 3600;
/// The lab of every allocation.
pub(super) const LAB: &str = "lab";
/// Grace period, in seconds.
pub(super) const GRACE: i64 = 1800;

/// An event between two moments, in seconds.
pub(super) fn at(began: u64, ended: u64, kind: EventKind) -> Event {
    Event {
        began: Duration::from_secs(began),
        ended: Duration::from_secs(ended),
        kind,
    }
}

pub(super) fn grant(sandbox: &str, allocated_at: i64) -> Grant {
    Grant {
        sandbox: sandbox.into(),
        name: format!("lab-{sandbox}"),
        external_id: format!("identity/accounts/{sandbox}"),
        allocated_at,
        expires_at: allocated_at + HOURS_4,
    }
}

pub(super) fn allocate(caller: &str, answer: AllocateAnswer) -> EventKind {
    EventKind::Allocate {
        caller: caller.into(),
        key: caller.into(),
        lab: Some(LAB.into()),
        prefix: None,
        minutes: None,
        answer,
    }
}

pub(super) fn new(caller: &str, sandbox: &str, second: i64) -> EventKind {
    allocate(caller, AllocateAnswer::New(grant(sandbox, T0 + second)))
}

pub(super) fn replayed(caller: &str, sandbox: &str, second: i64) -> EventKind {
    allocate(
        caller,
        AllocateAnswer::Replayed(grant(sandbox, T0 + second)),
    )
}

pub(super) fn none_left(caller: &str) -> EventKind {
    allocate(caller, AllocateAnswer::NoneLeft)
}

pub(super) fn paused(caller: &str) -> EventKind {
    allocate(caller, AllocateAnswer::Paused)
}

pub(super) fn pause_ordered(activity: &str) -> EventKind {
    EventKind::PauseOrdered {
        activity: activity.into(),
    }
}

pub(super) fn lost(caller: &str) -> EventKind {
    allocate(caller, AllocateAnswer::Unknown("reset".into()))
}

pub(super) fn release(caller: &str, sandbox: &str, answer: ReleaseAnswer) -> EventKind {
    EventKind::Release {
        caller: caller.into(),
        sandbox: sandbox.into(),
        answer,
    }
}

pub(super) fn done(caller: &str, sandbox: &str, second: i64) -> EventKind {
    let answer = ReleaseAnswer::Done {
        deletion_requested_at: T0 + second,
    };
    release(caller, sandbox, answer)
}

pub(super) fn extend(caller: &str, sandbox: &str, answer: ExtendAnswer) -> EventKind {
    EventKind::Extend {
        caller: caller.into(),
        sandbox: sandbox.into(),
        minutes: 60,
        answer,
    }
}

/// An extension to an end, in seconds from the start of the history.
pub(super) fn extended(caller: &str, sandbox: &str, end: i64) -> EventKind {
    let answer = ExtendAnswer::Done {
        expires_at: T0 + end,
        max_expires_at: T0 + 2 * HOURS_4,
    };
    extend(caller, sandbox, answer)
}

pub(super) fn replace(caller: &str, old: &str, answer: ReplaceAnswer) -> EventKind {
    EventKind::Replace {
        caller: caller.into(),
        key: caller.into(),
        sandbox: old.into(),
        answer,
    }
}

pub(super) fn replaced(caller: &str, old: &str, new: &str, second: i64) -> EventKind {
    replace(caller, old, ReplaceAnswer::New(grant(new, T0 + second)))
}

/// A policy with a quota and a maximum of replacements for the lab.
pub(super) fn policy(max_held: Option<usize>, max_replacements: usize) -> EventKind {
    EventKind::PolicySet {
        labs: vec![LabQuota {
            lab: LAB.into(),
            max_held,
            max_replacements,
        }],
        is_done: true,
    }
}

pub(super) fn get(caller: &str, sandbox: &str, answer: GetAnswer) -> EventKind {
    EventKind::Get {
        caller: caller.into(),
        sandbox: sandbox.into(),
        answer,
    }
}

pub(super) fn found(status: &str, second: i64) -> GetAnswer {
    GetAnswer::Found {
        status: status.into(),
        allocated_at: T0 + second,
        expires_at: T0 + second + HOURS_4,
    }
}

/// An action of an operator, with the sandbox after it.
pub(super) fn acted(
    sandbox: &str,
    action: &str,
    status: &str,
    caller: Option<&str>,
    end: Option<i64>,
) -> EventKind {
    EventKind::Act {
        sandbox: sandbox.into(),
        action: action.into(),
        answer: ActAnswer::Done {
            status: status.into(),
            caller: caller.map(Into::into),
            expires_at: end.map(|end| T0 + end),
        },
    }
}

/// An action of an operator with another answer.
pub(super) fn not_acted(sandbox: &str, action: &str, answer: ActAnswer) -> EventKind {
    EventKind::Act {
        sandbox: sandbox.into(),
        action: action.into(),
        answer,
    }
}

pub(super) fn available(sandbox: &str) -> Row {
    Row {
        sandbox: sandbox.into(),
        name: format!("lab-{sandbox}"),
        external_id: format!("identity/accounts/{sandbox}"),
        status: "available".into(),
        caller: None,
        key: None,
        allocated_at: 0,
        lab: None,
        replaced_by: None,
        deletion_retry_count: 0,
        quarantined_by: None,
    }
}

pub(super) fn held(sandbox: &str, caller: &str, second: i64) -> Row {
    Row {
        status: "allocated".into(),
        caller: Some(caller.into()),
        key: Some(caller.into()),
        allocated_at: T0 + second,
        lab: Some(LAB.into()),
        ..available(sandbox)
    }
}

pub(super) fn pending(sandbox: &str, caller: &str, second: i64, deletion_retry_count: u64) -> Row {
    Row {
        status: "pending_deletion".into(),
        deletion_retry_count,
        ..held(sandbox, caller, second)
    }
}

pub(super) fn claim(caller: &str, sandbox: &str, second: i64) -> ClaimRow {
    ClaimRow {
        caller: caller.into(),
        key: caller.into(),
        sandbox: sandbox.into(),
        allocated_at: T0 + second,
    }
}

pub(super) fn table<const N: usize>(sandboxes: [Row; N]) -> EventKind {
    table_with(sandboxes, [], [])
}

pub(super) fn table_with<const N: usize, const M: usize, const L: usize>(
    sandboxes: [Row; N],
    claims: [ClaimRow; M],
    tombstones: [&str; L],
) -> EventKind {
    EventKind::Table {
        sandboxes: sandboxes.into(),
        claims: claims.into(),
        tombstones: tombstones.map(Into::into).into(),
    }
}

pub(super) fn advance(from: i64, to: i64) -> EventKind {
    EventKind::ClockAdvanced {
        from: T0 + from,
        to: T0 + to,
    }
}

pub(super) fn created(sandbox: &str, name: &str) -> EventKind {
    EventKind::AccountCreated {
        sandbox: sandbox.into(),
        name: name.into(),
        external_id: format!("identity/accounts/{sandbox}"),
    }
}

/// An account that was created under a name by the order of a broker.
pub(super) fn ordered_as(sandbox: &str, name: &str, is_usable: bool) -> EventKind {
    EventKind::AccountOrdered {
        sandbox: sandbox.into(),
        name: name.into(),
        external_id: format!("identity/accounts/{sandbox}"),
        is_usable,
    }
}

pub(super) fn ordered(sandbox: &str) -> EventKind {
    ordered_as(sandbox, &format!("lab-{sandbox}"), true)
}

/// A target for the pool of all sandboxes.
pub(super) fn pool_set(target: usize) -> EventKind {
    EventKind::PoolSet {
        prefix: "lab-".into(),
        target,
    }
}

pub(super) fn provisioning(sandbox: &str) -> Row {
    Row {
        status: "provisioning".into(),
        ..available(sandbox)
    }
}

/// A sandbox that a check has set aside.
pub(super) fn set_aside(sandbox: &str) -> Row {
    Row {
        status: "quarantined".into(),
        quarantined_by: Some("check".into()),
        ..available(sandbox)
    }
}

pub(super) fn hidden(sandbox: &str) -> EventKind {
    EventKind::AccountHidden {
        sandbox: sandbox.into(),
    }
}

pub(super) fn renamed(sandbox: &str, name: &str) -> EventKind {
    EventKind::AccountRenamed {
        sandbox: sandbox.into(),
        name: name.into(),
    }
}

pub(super) fn deleted(sandbox: &str) -> EventKind {
    EventKind::AccountDeleted {
        external_id: format!("identity/accounts/{sandbox}"),
    }
}

pub(super) fn job(name: &str) -> EventKind {
    EventKind::Job {
        name: name.into(),
        report: None,
    }
}
