//! The shortest part of a history that still proves a violation.
//!
//! Some events prove a violation and others excuse one: a release excuses a second sandbox, an advanced clock excuses an
//! expiry. Without its excuses a part would prove violations that did not happen, so they stay.

use super::{
    super::event::{AllocateAnswer, Event, EventKind, ReplaceAnswer},
    Promise, Terms, Violation,
};

impl Terms {
    /// Returns the shortest part of the history that breaks the same promise about the same sandboxes. Tables are reduced
    /// to the items of those sandboxes.
    pub fn shortest(&self, history: &[Event], violation: &Violation) -> Vec<Event> {
        let scope = scope(history, violation);
        let last = violation.events.iter().map(|at| history[*at].ended).max();
        let is_relevant = |(at, event): &(usize, &Event)| {
            violation.events.contains(at)
                || ((excuses(event, &scope) || concerns(event, &scope))
                    && (Some(event.began) <= last || can_be_refuted_later(&scope)))
        };
        let part: Vec<Event> = history
            .iter()
            .enumerate()
            .filter(is_relevant)
            .map(|(_, event)| trimmed(event, &scope))
            .collect();
        let whole = || history.to_vec();
        let mut part = Some(part)
            .filter(|part| self.proves(part, violation))
            .unwrap_or_else(whole);
        let mut size = part.len();
        while size > 0 {
            let mut at = 0;
            while at < part.len() {
                let end = (at + size).min(part.len());
                let without: Vec<Event> = part
                    .iter()
                    .enumerate()
                    .filter(|(n, event)| !(at..end).contains(n) || excuses(event, &scope))
                    .map(|(_, event)| event.clone())
                    .collect();
                if without.len() < part.len() && self.proves(&without, violation) {
                    part = without;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        part
    }

    fn proves(&self, part: &[Event], violation: &Violation) -> bool {
        self.check(part).is_err_and(|other| {
            other.promise == violation.promise && other.about == violation.about
        })
    }
}

/// Returns the violation as one about the sandboxes, too, that those it is about have replaced.
fn scope(history: &[Event], violation: &Violation) -> Violation {
    let mut scope = violation.clone();
    for event in history.iter().rev() {
        if let EventKind::Replace {
            sandbox: old,
            answer: ReplaceAnswer::New(grant) | ReplaceAnswer::Current(grant),
            ..
        } = &event.kind
            && scope.about.contains(&grant.sandbox)
            && !scope.about.contains(old)
        {
            scope.about.push(old.clone());
        }
    }
    scope
}

/// Returns whether a later event could refute the violation.
fn can_be_refuted_later(violation: &Violation) -> bool {
    matches!(
        violation.promise,
        Promise::Deletion | Promise::Release | Promise::Get | Promise::NoneLeft
    )
}

/// Returns whether the event shows the state of the sandboxes, so that the proof may need it.
fn concerns(event: &Event, violation: &Violation) -> bool {
    let sandbox = match &event.kind {
        EventKind::Allocate {
            answer: AllocateAnswer::New(grant) | AllocateAnswer::Replayed(grant),
            ..
        } => &grant.sandbox,
        EventKind::Get { sandbox, .. }
        | EventKind::Extend { sandbox, .. }
        | EventKind::Replace { sandbox, .. } => sandbox,
        EventKind::Table { .. } => return true,
        _ => return false,
    };
    violation.about.contains(sandbox)
}

/// Returns whether the violation could appear only because the event is missing.
fn excuses(event: &Event, violation: &Violation) -> bool {
    let is_about = |sandbox: &str| violation.about.iter().any(|about| about == sandbox);
    match &event.kind {
        EventKind::Replace {
            sandbox, answer, ..
        } => {
            let is_lost = matches!(answer, ReplaceAnswer::Unknown(_) | ReplaceAnswer::Paused);
            is_about(sandbox)
                || is_lost
                    && matches!(
                        violation.promise,
                        Promise::Deletion | Promise::Release | Promise::Get
                    )
        }
        EventKind::Release { sandbox, .. }
        | EventKind::Extend { sandbox, .. }
        | EventKind::Act { sandbox, .. }
        | EventKind::AccountCreated { sandbox, .. }
        | EventKind::AccountOrdered { sandbox, .. }
        | EventKind::AccountRenamed { sandbox, .. }
        | EventKind::AccountHidden { sandbox } => is_about(sandbox),
        EventKind::Allocate { answer, .. } => match answer {
            AllocateAnswer::New(grant) | AllocateAnswer::Replayed(grant) => {
                can_be_refuted_later(violation) && is_about(&grant.sandbox)
            }
            AllocateAnswer::NoneLeft | AllocateAnswer::LabFull => false,
            AllocateAnswer::Unknown(_) | AllocateAnswer::Paused => {
                matches!(
                    violation.promise,
                    Promise::Deletion | Promise::Release | Promise::Get
                )
            }
        },
        EventKind::Table { sandboxes, .. } => {
            can_be_refuted_later(violation)
                && sandboxes
                    .iter()
                    .any(|row| is_about(&row.sandbox) && row.caller.is_some())
        }
        EventKind::PauseOrdered { .. } => violation.promise == Promise::Paused,
        EventKind::PolicySet { .. }
        | EventKind::PoolSet { .. }
        | EventKind::ListsBroken
        | EventKind::PolicyObeyed
        | EventKind::ClockAdvanced { .. }
        | EventKind::AccountDeleted { .. }
        | EventKind::Job { .. } => true,
        _ => false,
    }
}

/// Returns the event without table items of other sandboxes.
fn trimmed(event: &Event, violation: &Violation) -> Event {
    let is_about = |sandbox: &str| violation.about.iter().any(|about| about == sandbox);
    let mut event = event.clone();
    if let EventKind::Table {
        sandboxes,
        claims,
        tombstones,
    } = &mut event.kind
    {
        sandboxes.retain(|row| is_about(&row.sandbox));
        claims.retain(|claim| is_about(&claim.sandbox));
        tombstones.retain(|sandbox| is_about(sandbox));
    }
    event
}
