//! Ways to make a right history wrong.

use std::time::Duration;

use super::super::super::{
    super::event::{Allocated, Event, Got, Grant, Released, What},
    Promise,
};

#[derive(Clone, Copy, Debug)]
pub(super) enum Corruption {
    GivenToAnother,
    GivenTwice,
    SecondSandbox,
    NoneLeftWhileSome,
    NoneLeftForHolder,
    AgainAfterRelease,
    OtherTimeOfAllocation,
    OtherAccount,
    BackFromRelease,
    BackToThePool,
    TakenFromHolder,
    ReleasedByAStranger,
    RefusedToTheHolder,
    ExpiredTooSoon,
    ShownToAStranger,
    HiddenFromTheHolder,
    DeletedWhileHeld,
    DeletedUnused,
    ClaimLost,
    TombstoneLost,
    NoAnswer,
}

impl Corruption {
    pub(super) const ALL: [Self; 21] = [
        Self::GivenToAnother,
        Self::GivenTwice,
        Self::SecondSandbox,
        Self::NoneLeftWhileSome,
        Self::NoneLeftForHolder,
        Self::AgainAfterRelease,
        Self::OtherTimeOfAllocation,
        Self::OtherAccount,
        Self::BackFromRelease,
        Self::BackToThePool,
        Self::TakenFromHolder,
        Self::ReleasedByAStranger,
        Self::RefusedToTheHolder,
        Self::ExpiredTooSoon,
        Self::ShownToAStranger,
        Self::HiddenFromTheHolder,
        Self::DeletedWhileHeld,
        Self::DeletedUnused,
        Self::ClaimLost,
        Self::TombstoneLost,
        Self::NoAnswer,
    ];

    /// Corrupts a history and tells what it breaks, or does nothing where there is nothing to corrupt.
    #[expect(clippy::too_many_lines, reason = "a case a corruption")]
    pub(super) fn corrupt(self, history: &mut Vec<Event>) -> Option<Promise> {
        let last = holder(history)?;
        let (caller, grant) = (last.0.as_str(), last.1.clone());
        let ask = |caller: &str, answer| What::Allocate {
            caller: caller.into(),
            key: "k".into(),
            prefix: None,
            answer,
        };
        let release = |caller: &str, answer| What::Release {
            caller: caller.into(),
            sandbox: grant.sandbox.clone(),
            answer,
        };
        let get = |caller: &str, answer| What::Get {
            caller: caller.into(),
            sandbox: grant.sandbox.clone(),
            answer,
        };
        let is = |grant: &Grant| Got::Is {
            status: "allocated".into(),
            allocated_at: grant.allocated_at,
            expires_at: grant.expires_at,
        };
        let done = Released::Done {
            deletion_requested_at: grant.allocated_at + 60,
        };
        let (promise, more) = match self {
            Self::GivenToAnother => (
                Promise::OneHolder,
                vec![ask("eve", Allocated::Again(grant.clone()))],
            ),
            Self::GivenTwice => (
                Promise::NeverAgain,
                vec![ask(caller, Allocated::New(grant.clone()))],
            ),
            Self::SecondSandbox => {
                let other = Grant {
                    sandbox: "intruder".into(),
                    ..grant.clone()
                };
                (
                    Promise::OneSandbox,
                    vec![ask(caller, Allocated::New(other))],
                )
            }
            Self::NoneLeftWhileSome => (Promise::NoneLeft, vec![ask("eve", Allocated::NoneLeft)]),
            Self::NoneLeftForHolder => {
                // Otherwise the sandboxes that are left prove it too.
                history.retain(|event| !matches!(event.what, What::Table { .. }));
                (Promise::Replay, vec![ask(caller, Allocated::NoneLeft)])
            }
            Self::AgainAfterRelease => (
                Promise::Replay,
                vec![
                    release(caller, done),
                    ask(caller, Allocated::Again(grant.clone())),
                ],
            ),
            Self::OtherTimeOfAllocation => {
                let other = Grant {
                    allocated_at: grant.allocated_at + 1,
                    ..grant.clone()
                };
                (
                    Promise::Agreement,
                    vec![ask(caller, Allocated::Again(other))],
                )
            }
            Self::OtherAccount => {
                let other = Grant {
                    external_id: "identity/accounts/other".into(),
                    ..grant.clone()
                };
                (
                    Promise::Agreement,
                    vec![ask(caller, Allocated::Again(other))],
                )
            }
            Self::BackFromRelease => (
                Promise::States,
                vec![release(caller, done), get(caller, is(&grant))],
            ),
            Self::BackToThePool => {
                let table = last_table(history)?;
                (
                    Promise::States,
                    vec![with_status(&table, &grant.sandbox, "available")],
                )
            }
            Self::TakenFromHolder => {
                let table = last_table(history)?;
                (
                    Promise::States,
                    vec![with_status(&table, &grant.sandbox, "pending_deletion")],
                )
            }
            Self::ReleasedByAStranger => (Promise::Release, vec![release("eve", done)]),
            Self::RefusedToTheHolder => {
                (Promise::Release, vec![release(caller, Released::NotOwner)])
            }
            Self::ExpiredTooSoon => (Promise::Release, vec![release(caller, Released::Expired)]),
            Self::ShownToAStranger => (Promise::Get, vec![get("eve", is(&grant))]),
            Self::HiddenFromTheHolder => (Promise::Get, vec![get(caller, Got::NotFound)]),
            Self::DeletedWhileHeld => (
                Promise::Deletion,
                vec![What::AccountDeleted {
                    external_id: grant.external_id.clone(),
                }],
            ),
            Self::DeletedUnused => {
                // A lost answer may have been somebody's sandbox.
                history.retain(|event| matches!(event.what, What::AccountMade { .. }));
                let made = What::AccountMade {
                    sandbox: "unused".into(),
                    name: "unused".into(),
                    external_id: "identity/accounts/unused".into(),
                };
                let deleted = What::AccountDeleted {
                    external_id: "identity/accounts/unused".into(),
                };
                (Promise::Deletion, vec![made, deleted])
            }
            Self::ClaimLost => {
                let mut table = last_table(history)?;
                let What::Table { claims, .. } = &mut table else {
                    return None;
                };
                claims.retain(|claim| claim.sandbox != grant.sandbox);
                (Promise::Table, vec![table])
            }
            Self::TombstoneLost => {
                let mut table = last_table(history)?;
                let What::Table { tombstones, .. } = &mut table else {
                    return None;
                };
                let was_granted = |sandbox: &String| {
                    history.iter().any(|event| matches!(&event.what, What::Allocate { answer: Allocated::New(grant), .. } if grant.sandbox == *sandbox))
                };
                let at = tombstones.iter().position(was_granted)?;
                tombstones.remove(at);
                (Promise::Table, vec![table])
            }
            Self::NoAnswer => (
                Promise::Calm,
                vec![ask("eve", Allocated::Unknown("lost".into()))],
            ),
        };
        for what in more {
            append(history, what);
        }
        // So that what was left is seen to be left still.
        if let (Self::NoneLeftWhileSome, Some(table)) = (self, last_table(history)) {
            append(history, table);
        }
        Some(promise)
    }
}

/// The last who got a new sandbox: in the calm, so that nothing can have taken it.
fn holder(history: &[Event]) -> Option<(String, Grant)> {
    history.iter().rev().find_map(|event| match &event.what {
        What::Allocate {
            caller,
            answer: Allocated::New(grant),
            ..
        } => Some((caller.clone(), grant.clone())),
        _ => None,
    })
}

fn last_table(history: &[Event]) -> Option<What> {
    let tables = history.iter().rev().map(|event| &event.what);
    let mut tables = tables.filter(|what| matches!(what, What::Table { .. }));
    tables.next().cloned()
}

fn with_status(table: &What, sandbox: &str, status: &str) -> What {
    let mut table = table.clone();
    if let What::Table { sandboxes, .. } = &mut table {
        for row in sandboxes.iter_mut().filter(|row| row.sandbox == sandbox) {
            row.status = status.into();
        }
    }
    table
}

/// After all that was.
fn append(history: &mut Vec<Event>, what: What) {
    let last = history.iter().map(|event| event.ended).max();
    let began = last.unwrap_or_default() + Duration::from_secs(10);
    history.push(Event {
        began,
        ended: began + Duration::from_secs(1),
        what,
    });
}
