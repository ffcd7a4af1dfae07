//! `NoneLeft` (C): no matching sandbox may have been available for the whole time.

use std::{collections::HashMap, time::Duration};

use super::{
    super::event::{AllocateAnswer, EventKind, ReplaceAnswer},
    Promise, Violation,
    facts::{Facts, Phase, SandboxFacts},
};

/// A sandbox that was certainly available between two moments.
#[derive(Clone, Copy)]
struct Available<'a> {
    sandbox: &'a str,
    name: &'a str,
    since: Duration,
    /// For requests without a prefix.
    until: Duration,
    /// For requests with a prefix: until CSP may have renamed it.
    until_renamed: Duration,
    shown_by: usize,
    still_by: Option<usize>,
}

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut all: Vec<_> = facts
        .sandboxes
        .iter()
        .filter_map(|(sandbox, known)| available(facts, sandbox, known))
        .collect();
    all.sort_by_key(|one| one.since);
    // For each prefix and moment, the longest available match among those that were available by then.
    let mut matching: HashMap<Option<&str>, Vec<(Duration, Available<'_>, Duration)>> =
        HashMap::new();
    for (at, event) in facts.events.iter().enumerate() {
        let (caller, key, prefix) = match &event.kind {
            EventKind::Allocate {
                caller,
                key,
                prefix,
                answer: AllocateAnswer::NoneLeft,
                ..
            } => (caller, key, prefix.as_deref()),
            EventKind::Replace {
                caller,
                key,
                sandbox,
                answer: ReplaceAnswer::NoneLeft,
            } => match prefix_of(facts, sandbox) {
                Some(prefix) => (caller, key, prefix),
                None => continue,
            },
            _ => continue,
        };
        let matching = matching
            .entry(prefix)
            .or_insert_with(|| longest(&all, prefix));
        let Some(seen_until) = event.began.checked_sub(facts.terms.staleness) else {
            continue;
        };
        let before = matching.partition_point(|(since, ..)| *since < seen_until);
        let Some((_, one, until)) = before.checked_sub(1).map(|last| matching[last]) else {
            continue;
        };
        if event.ended < until {
            // In the calm phase no later event needs to show it.
            let still = one.still_by.or(facts.calm.map(|(_, at)| at));
            let old = match &event.kind {
                EventKind::Replace { sandbox, .. } => Some(sandbox.as_str()),
                _ => None,
            };
            found.push(Violation::new(
                Promise::NoneLeft,
                [one.sandbox].into_iter().chain(old),
                [one.shown_by, at].into_iter().chain(still),
                format!(
                    "{caller}/{key} gets `NoneLeft` while {} was available all the time",
                    one.sandbox
                ),
            ));
        }
    }
}

/// Returns the prefix that a sandbox was allocated with, which its replacement has, too. `None` if no event shows it.
#[expect(clippy::option_option, reason = "no event, or one without a prefix")]
fn prefix_of<'a>(facts: &Facts<'a>, sandbox: &str) -> Option<Option<&'a str>> {
    let known = facts.sandboxes.get(sandbox)?;
    let new = known.sightings.iter().find(|sighting| sighting.is_new)?;
    match &facts.events[new.at].kind {
        EventKind::Allocate { prefix, .. } => Some(prefix.as_deref()),
        EventKind::Replace { sandbox, .. } => prefix_of(facts, sandbox),
        _ => None,
    }
}

fn longest<'a>(
    all: &[Available<'a>],
    prefix: Option<&str>,
) -> Vec<(Duration, Available<'a>, Duration)> {
    let mut best: Option<(Available<'a>, Duration)> = None;
    all.iter()
        .filter(|one| prefix.is_none_or(|prefix| one.name.starts_with(prefix)))
        .map(|one| {
            let until = prefix.map_or(one.until, |_| one.until_renamed);
            let longer = best.filter(|(_, best)| *best >= until);
            let longer = longer.unwrap_or((*one, until));
            best = Some(longer);
            (one.since, longer.0, longer.1)
        })
        .collect()
}

fn available<'a>(
    facts: &Facts<'_>,
    sandbox: &'a str,
    known: &SandboxFacts<'a>,
) -> Option<Available<'a>> {
    let rows = known
        .rows
        .iter()
        .filter(|(_, row)| row.status == "available");
    let (shown_by, row) = rows.clone().min_by_key(|(at, _)| facts.events[*at].ended)?;
    let news = known.sightings.iter().filter(|sighting| sighting.is_new);
    let last = rows
        .clone()
        .map(|(at, _)| *at)
        .chain(news.map(|sighting| sighting.at))
        .max_by_key(|at| facts.events[*at].began)?;
    let mut still = (facts.events[last].began, Some(last));
    // The history shows everything that happens in the calm phase, so a sandbox that no event shows as allocated by then
    // never was.
    let is_untouched = known.views.iter().all(|(phase, _)| *phase == Phase::Pool);
    if is_untouched && rows.clone().any(|(at, _)| facts.is_calm(*at)) {
        still = (Duration::MAX, None);
    }
    // A sandbox that CSP hid may have been stale ever since.
    let until = still.0.min(known.hidden.unwrap_or(Duration::MAX));
    // Nor was one available that an operator took out of use, even if it has come back.
    let taken = known.first_act(facts.events, &["quarantine", "delete"]);
    let until = until.min(taken.unwrap_or(Duration::MAX));
    Some(Available {
        sandbox,
        name: &row.name,
        since: facts.events[*shown_by].ended,
        until,
        until_renamed: until.min(known.renamed.unwrap_or(Duration::MAX)),
        shown_by: *shown_by,
        still_by: still.1,
    })
}
