//! Which accounts may be deleted from CSP.

use std::time::Duration;

use super::{
    Promise, Violation,
    facts::{Facts, Phase, SandboxFacts},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let first_lost = facts.lost.values().min().copied();
    let first_lost = first_lost.unwrap_or(Duration::MAX);
    for (sandbox, known) in &facts.sandboxes {
        for at in &known.deletions {
            let ended = facts.events[*at].ended;
            let (shown_by, fault) = match known.hold {
                Some(hold) if ended < hold.until => {
                    (Some(hold.shown_by), "while its holder had not released it")
                }
                // A caller may have held it whose answer was lost.
                None if ended < first_lost && !was_used(facts, known) => {
                    (None, "although no caller ever held it")
                }
                _ => continue,
            };
            found.push(Violation::new(
                Promise::Deletion,
                [*sandbox],
                shown_by.into_iter().chain([*at]),
                format!("{sandbox} is deleted from CSP {fault}"),
            ));
            break;
        }
    }
}

/// Returns whether its item shows that it was allocated or retired, or an operator may have deleted it.
fn was_used(facts: &Facts<'_>, known: &SandboxFacts<'_>) -> bool {
    known.views.iter().any(|(phase, _)| *phase > Phase::Pool)
        || known.first_act(facts.events, &["delete"]).is_some()
}
