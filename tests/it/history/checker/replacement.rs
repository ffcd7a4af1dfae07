//! Replacements (G): one sandbox in place of another one, once, and at most as often as the lab permits.

use std::collections::BTreeMap;

use super::{
    super::event::{EventKind, ReplaceAnswer},
    Promise, Violation,
    facts::{Facts, SandboxFacts},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    // The event that shows the sandbox in place of each old one.
    let mut replaced: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (at, event) in facts.events.iter().enumerate() {
        let EventKind::Replace {
            caller,
            sandbox: old,
            answer: answer @ (ReplaceAnswer::New(grant) | ReplaceAnswer::Current(grant)),
            ..
        } = &event.kind
        else {
            continue;
        };
        let mut wrong = |with: Option<usize>, fault: &str| {
            let events = with.into_iter().chain([at]);
            let sentence = format!("{caller} {fault} {old}");
            found.push(Violation::new(
                Promise::Replacement,
                [old],
                events,
                sentence,
            ));
        };
        if grant.sandbox == *old {
            wrong(None, "gets the old sandbox in place of itself:");
        }
        if matches!(answer, ReplaceAnswer::New(_))
            && let Some((first, _)) = replaced.insert(old, (at, &grant.sandbox))
        {
            wrong(Some(first), "gets two new sandboxes in place of");
        }
    }
    for (old, (at, new)) in &replaced {
        if let Some(known) = facts.sandboxes.get(old) {
            item_agrees(facts, (old, known), (*at, new), found);
        }
        limit(facts, (*at, new), found);
    }
    refusals(facts, &replaced, found);
}

/// The item of the old sandbox names the new one, unless it was removed and inserted again.
fn item_agrees(
    facts: &Facts<'_>,
    (old, known): (&str, &SandboxFacts<'_>),
    (at, new): (usize, &str),
    found: &mut Vec<Violation>,
) {
    let differs = known.rows.iter().find(|(row_at, row)| {
        let is_known = !facts.may_have_been_gone(known, facts.events[*row_at].ended);
        is_known && facts.precedes(at, *row_at) && row.replaced_by.as_deref() != Some(new)
    });
    if let Some((row_at, row)) = differs {
        let sentence = format!(
            "{new} replaced {old}, whose item names {:?} as the one in place of it",
            row.replaced_by
        );
        let events = [at, *row_at];
        found.push(Violation::new(
            Promise::Replacement,
            [old],
            events,
            sentence,
        ));
    }
}

/// No chain of replacements is longer than a policy permits that a broker may obey at its last one.
fn limit(facts: &Facts<'_>, (at, new): (usize, &str), found: &mut Vec<Violation>) {
    let mut chain = vec![at];
    let mut first = new;
    while let Some((earlier, old)) = facts.sandboxes.get(first).and_then(|it| it.replaces) {
        if earlier != at {
            chain.push(earlier);
        }
        first = old;
    }
    let lab = facts.sandboxes.get(first).and_then(|known| known.lab);
    let event = &facts.events[at];
    let permitted = lab.and_then(|lab| facts.policies.replacements(event.began, event.ended, lab));
    if permitted.is_some_and(|permitted| chain.len() > permitted) {
        let sentence = format!("{new} is replacement {} of one allocation", chain.len());
        found.push(Violation::new(Promise::Replacement, [new], chain, sentence));
    }
}

/// A repeated request is not refused while its caller holds the sandbox that it received in place of the old one.
fn refusals(
    facts: &Facts<'_>,
    replaced: &BTreeMap<&str, (usize, &str)>,
    found: &mut Vec<Violation>,
) {
    for (at, event) in facts.events.iter().enumerate() {
        let EventKind::Replace {
            caller,
            sandbox: old,
            answer,
            ..
        } = &event.kind
        else {
            continue;
        };
        let Some((first, new)) = replaced.get(old.as_str()) else {
            continue;
        };
        let is_refused = !matches!(
            answer,
            ReplaceAnswer::New(_) | ReplaceAnswer::Current(_) | ReplaceAnswer::Unknown(_)
        );
        let hold = facts.sandboxes.get(new).and_then(|known| known.hold);
        let Some(hold) = hold.filter(|_| is_refused && facts.precedes(*first, at)) else {
            continue;
        };
        if hold.caller == caller && event.ended < hold.until {
            found.push(Violation::new(
                Promise::Replacement,
                [old],
                [*first, at],
                format!("{caller} holds {new} in place of {old} and gets `{answer:?}`"),
            ));
        }
    }
}
