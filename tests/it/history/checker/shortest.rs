//! The shortest part of a history that proves the same.
//!
//! Some events only prove, others only excuse: a release excuses a second sandbox, a clock that was set excuses an
//! expiry. A part without an excuse would prove too much, so all excuses that concern a violation stay with it.

use super::{
    super::event::{Allocated, Event, What},
    Promise, Terms, Violation,
};

impl Terms {
    /// The shortest part of the history that breaks the same promise, about the same sandboxes. Of tables only the items
    /// of those are left.
    pub fn shortest(&self, history: &[Event], violation: &Violation) -> Vec<Event> {
        let last = violation.events.iter().map(|at| history[*at].ended).max();
        let is_at_issue = |(at, event): &(usize, &Event)| {
            violation.events.contains(at)
                || ((excuses(event, violation) || concerns(event, violation))
                    && (Some(event.began) <= last || is_shown_later(violation)))
        };
        let part: Vec<Event> = history
            .iter()
            .enumerate()
            .filter(is_at_issue)
            .map(|(_, event)| trimmed(event, violation))
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
                    .filter(|(n, event)| !(at..end).contains(n) || excuses(event, violation))
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

/// Whether the violation rests on something that a later event might show to be otherwise.
fn is_shown_later(violation: &Violation) -> bool {
    matches!(
        violation.promise,
        Promise::Deletion | Promise::Release | Promise::Get | Promise::NoneLeft
    )
}

/// Whether the event says something of the sandboxes, so that it may be needed to make the proof the only one.
fn concerns(event: &Event, violation: &Violation) -> bool {
    let sandbox = match &event.what {
        What::Allocate {
            answer: Allocated::New(grant) | Allocated::Again(grant),
            ..
        } => &grant.sandbox,
        What::Get { sandbox, .. } => sandbox,
        What::Table { .. } => return true,
        _ => return false,
    };
    violation.about.contains(sandbox)
}

/// Whether the event, if it were missing, could make the violation.
fn excuses(event: &Event, violation: &Violation) -> bool {
    let is_about = |sandbox: &str| violation.about.iter().any(|about| about == sandbox);
    match &event.what {
        What::Release { sandbox, .. }
        | What::AccountMade { sandbox, .. }
        | What::AccountRenamed { sandbox, .. }
        | What::AccountHidden { sandbox } => is_about(sandbox),
        What::Allocate { answer, .. } => match answer {
            Allocated::New(grant) | Allocated::Again(grant) => {
                is_shown_later(violation) && is_about(&grant.sandbox)
            }
            Allocated::NoneLeft => false,
            Allocated::Unknown(_) => {
                matches!(
                    violation.promise,
                    Promise::Deletion | Promise::Release | Promise::Get
                )
            }
        },
        What::Table { sandboxes, .. } => {
            is_shown_later(violation)
                && sandboxes
                    .iter()
                    .any(|row| is_about(&row.sandbox) && row.caller.is_some())
        }
        What::Clock { .. } | What::AccountDeleted { .. } | What::Job { .. } => true,
        _ => false,
    }
}

/// The event without the items of a table that do not matter.
fn trimmed(event: &Event, violation: &Violation) -> Event {
    let is_about = |sandbox: &str| violation.about.iter().any(|about| about == sandbox);
    let mut event = event.clone();
    if let What::Table {
        sandboxes,
        claims,
        tombstones,
    } = &mut event.what
    {
        sandboxes.retain(|row| is_about(&row.sandbox));
        claims.retain(|claim| is_about(&claim.sandbox));
        tombstones.retain(|sandbox| is_about(sandbox));
    }
    event
}
