//! What CSP may be told to delete.

use std::time::Duration;

use super::{
    Promise, Violation,
    facts::{Facts, Known, Phase},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let first_lost = facts.lost.values().min().copied();
    let first_lost = first_lost.unwrap_or(Duration::MAX);
    for (sandbox, known) in &facts.sandboxes {
        for at in &known.deletions {
            let ended = facts.events[*at].ended;
            let (shown_by, fault) = match known.hold {
                Some(hold) if ended < hold.until => (
                    Some(hold.shown_by),
                    "while its holder had not given it back",
                ),
                // Somebody may have held it whom nobody told.
                None if ended < first_lost && !was_leaving(known) => {
                    (None, "and nobody ever held it")
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

/// Its item says that it left the pool, though not by whose hands.
fn was_leaving(known: &Known<'_>) -> bool {
    known.views.iter().any(|(phase, _)| *phase > Phase::Pool)
}
