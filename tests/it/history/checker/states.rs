//! The state machine: no way back, none of it without a reason, and E.

use super::{
    super::event::{Allocated, What},
    Promise, Violation,
    facts::{Facts, Known, Phase},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (sandbox, known) in &facts.sandboxes {
        goes_on(facts, sandbox, known, found);
        leaves_for_a_reason(facts, sandbox, known, found);
    }
}

/// Whatever was seen after a phase is of that phase or a later one.
fn goes_on(facts: &Facts<'_>, sandbox: &str, known: &Known<'_>, found: &mut Vec<Violation>) {
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
        let promise = match &facts.events[view.1].what {
            What::Allocate {
                answer: Allocated::New(_),
                ..
            } => Promise::NeverAgain,
            What::Allocate { .. } => Promise::Replay,
            _ => Promise::States,
        };
        found.push(Violation::new(
            promise,
            [sandbox],
            [before.1, view.1],
            format!("{sandbox} was {:?}, and then {:?}", before.0, view.0),
        ));
        return;
    }
}

/// A sandbox leaves its holder by a release or in time.
fn leaves_for_a_reason(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &Known<'_>,
    found: &mut Vec<Violation>,
) {
    let Some(hold) = known.hold else { return };
    let too_soon = known
        .views
        .iter()
        .filter(|(phase, _)| *phase == Phase::Leaving)
        .map(|(_, at)| *at)
        // A release by somebody else is told of where the answers are looked at.
        .filter(|at| !matches!(facts.events[*at].what, What::Release { .. }))
        .find(|at| facts.events[*at].ended < hold.until);
    if let Some(at) = too_soon {
        found.push(Violation::new(
            Promise::States,
            [sandbox],
            [hold.shown_by, at],
            format!("{sandbox} is taken from its holder, who kept it, before its time is up"),
        ));
    }
}
