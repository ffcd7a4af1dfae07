//! The state machine: no way back (E among others), and no retirement without a reason.

use super::{
    super::event::{AllocateAnswer, EventKind, ReplaceAnswer},
    Promise, Violation,
    facts::{Facts, Phase, SandboxFacts},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (sandbox, known) in &facts.sandboxes {
        never_goes_back(facts, sandbox, known, found);
        is_retired_for_a_reason(facts, sandbox, known, found);
    }
}

/// No event shows a sandbox in an earlier phase than an event before it.
fn never_goes_back(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &SandboxFacts<'_>,
    found: &mut Vec<Violation>,
) {
    let began = |view: &&(Phase, usize)| facts.events[view.1].began;
    let ended = |view: &&(Phase, usize)| facts.events[view.1].ended;
    let mut by_end: Vec<_> = known.views.iter().collect();
    by_end.sort_by_key(ended);
    let mut by_begin: Vec<_> = known.views.iter().collect();
    by_begin.sort_by_key(began);
    let mut over = by_end.into_iter().peekable();
    let mut furthest: Option<&(Phase, usize)> = None;
    for view in by_begin {
        while let Some(before) = over.next_if(|before| ended(before) < began(&view)) {
            if furthest.is_none_or(|furthest| before.0 > furthest.0) {
                furthest = Some(before);
            }
        }
        let Some(before) = furthest.filter(|furthest| furthest.0 > view.0) else {
            continue;
        };
        let promise = match &facts.events[view.1].kind {
            EventKind::Allocate {
                answer: AllocateAnswer::New(_),
                ..
            }
            | EventKind::Replace {
                answer: ReplaceAnswer::New(_),
                ..
            } => Promise::NeverReused,
            EventKind::Replace { .. } => Promise::Replacement,
            EventKind::Allocate { .. } => Promise::Replay,
            _ => Promise::States,
        };
        found.push(Violation::new(
            promise,
            [sandbox],
            [before.1, view.1],
            format!("{sandbox} was {:?} and then {:?}", before.0, view.0),
        ));
        return;
    }
}

/// A sandbox is retired by a release or a replacement of its holder, by an operator or because it is overdue (F). After a
/// refused replacement its holder keeps it (G).
fn is_retired_for_a_reason(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &SandboxFacts<'_>,
    found: &mut Vec<Violation>,
) {
    let Some(hold) = known.hold else { return };
    let too_soon = known
        .views
        .iter()
        .filter(|(phase, _)| *phase == Phase::Retired)
        .map(|(_, at)| *at)
        // The rules for answers find releases by other callers.
        .filter(|at| !matches!(facts.events[*at].kind, EventKind::Release { .. }))
        .find(|at| facts.events[*at].ended < hold.until);
    let Some(at) = too_soon else { return };
    let refused = known
        .refused
        .iter()
        .find(|refused| facts.precedes(**refused, at));
    let promise = refused.map_or(Promise::Lease, |_| Promise::Replacement);
    found.push(Violation::new(
        promise,
        [sandbox],
        refused.copied().into_iter().chain([hold.shown_by, at]),
        format!("{sandbox} is retired before its holder released it and before it was overdue"),
    ));
}
