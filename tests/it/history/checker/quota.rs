//! The quotas of labs: no lab holds more than the largest that a broker may obey, and none is refused below the smallest.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::event::{AllocateAnswer, EventKind},
    Promise, Violation,
    facts::{Facts, SandboxFacts},
    holding::Holding,
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut labs: BTreeMap<&str, Vec<Holding<'_>>> = BTreeMap::new();
    for (sandbox, known) in &facts.sandboxes {
        if let (Some(hold), Some(lab)) = (known.hold, facts.lab_of(known)) {
            let holding = Holding::new(facts, sandbox, known, hold);
            labs.entry(lab).or_default().push(holding);
        }
    }
    for (lab, holdings) in &mut labs {
        holdings.sort_by_key(|holding| holding.hold.since);
        found.extend(at_most_the_quota(facts, lab, holdings));
    }
    refusals(facts, found);
}

/// The last allocation of those that a lab certainly holds at one moment began when a quota permitted so many.
fn at_most_the_quota(facts: &Facts<'_>, lab: &str, holdings: &[Holding<'_>]) -> Option<Violation> {
    let mut open: Vec<&Holding<'_>> = Vec::new();
    for holding in holdings {
        let now = holding.hold.since;
        open.retain(|earlier| earlier.ends > now);
        if holding.ends > now {
            open.push(holding);
        }
        let allocated = open.iter().filter_map(|it| {
            let known = facts.sandboxes.get(it.sandbox)?;
            allocated_after(facts, known)
        });
        let last = allocated.max().unwrap_or(Duration::ZERO);
        let mut largest = Some(0);
        for quota in facts.policies.quotas(last, now, lab) {
            largest = largest.zip(quota).map(|(a, b)| a.max(b));
        }
        if let Some(quota) = largest.filter(|quota| open.len() > *quota) {
            let events = open.iter().flat_map(|it| [it.hold.shown_by, it.last_seen]);
            let held = open.len();
            let mut sandboxes: Vec<_> = open.iter().map(|it| it.sandbox).collect();
            sandboxes.sort_unstable();
            let sentence = format!("{lab} holds {held} sandboxes, and its quota is {quota}");
            return Some(Violation::new(Promise::Quota, sandboxes, events, sentence));
        }
    }
    None
}

/// Returns a moment before the allocation of a sandbox; `None` if it is a replacement, which is no allocation of its own.
fn allocated_after(facts: &Facts<'_>, known: &SandboxFacts<'_>) -> Option<Duration> {
    let new = known.sightings.iter().find(|sighting| sighting.is_new)?;
    let event = &facts.events[new.at];
    matches!(event.kind, EventKind::Allocate { .. }).then_some(event.began)
}

/// A lab is refused only under a quota and, as far as the calm phase shows everything, only if it holds as many.
fn refusals(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (at, event) in facts.events.iter().enumerate() {
        let EventKind::Allocate {
            caller,
            lab: Some(lab),
            answer: AllocateAnswer::LabFull,
            ..
        } = &event.kind
        else {
            continue;
        };
        let quotas = facts.policies.quotas(event.began, event.ended, lab);
        let smallest = quotas.flatten().min();
        let calm = facts.calm.map(|(_, at)| at);
        let mut wrong = |with: Vec<usize>, fault: &str| {
            found.push(Violation::new(
                Promise::Quota,
                [caller],
                with.into_iter().chain([at]),
                format!("{caller} is refused by the quota of {lab}, {fault}"),
            ));
        };
        let Some(smallest) = smallest else {
            wrong(Vec::new(), "which has none");
            continue;
        };
        if let Some((table, held)) = held_at_most(facts, at, lab)
            && held < smallest
        {
            let fault = format!("which is {smallest}, although it holds at most {held}");
            wrong(calm.into_iter().chain([table]).collect(), &fault);
        }
    }
}

/// Returns how many sandboxes a lab holds at most during an event of the calm phase, with the table that shows it.
fn held_at_most(facts: &Facts<'_>, at: usize, lab: &str) -> Option<(usize, usize)> {
    let precedes = |table: &usize| facts.is_calm(*table) && facts.precedes(*table, at);
    let tables = facts.tables.iter().copied().filter(precedes);
    let table = tables.max_by_key(|table| facts.events[*table].began)?;
    let EventKind::Table { sandboxes, .. } = &facts.events[table].kind else {
        return None;
    };
    let rows = sandboxes
        .iter()
        .filter(|row| row.status == "allocated" && row.lab.as_deref() == Some(lab));
    let since = facts.events[table].began;
    let allocated = facts.events.iter().filter(|event| {
        let is_within = event.ended > since && event.began < facts.events[at].ended;
        let may_hold = matches!(
            &event.kind,
            EventKind::Allocate {
                lab: Some(of),
                answer: AllocateAnswer::New(_) | AllocateAnswer::Unknown(_) | AllocateAnswer::Paused,
                ..
            } if of == lab
        );
        is_within && may_hold
    });
    Some((table, rows.count() + allocated.count()))
}
