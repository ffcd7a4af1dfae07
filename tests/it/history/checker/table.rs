//! The consistency of the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    super::event::{ClaimRow, Event, EventKind, Row},
    Promise, Violation,
    facts::{Facts, Phase, SandboxFacts},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (at, event) in facts.events.iter().enumerate() {
        let EventKind::Table {
            sandboxes,
            claims,
            tombstones,
        } = &event.kind
        else {
            continue;
        };
        for row in sandboxes {
            found.extend(is_complete(at, row));
        }
        if facts.is_calm(at) {
            let calm = Calm {
                facts,
                at,
                rows: sandboxes,
            };
            calm.claims_point(claims, found);
            calm.each_pair_has_one(found);
            calm.no_holder_is_forgotten(tombstones, found);
        }
    }
    let resets = facts.events.iter().filter(|event| resets_attempts(event));
    let reset = resets.map(|event| event.began).min();
    for (sandbox, known) in &facts.sandboxes {
        counts_up(facts, sandbox, known, reset, found);
    }
}

/// An allocated sandbox names its holder and the time of its allocation.
fn is_complete(at: usize, row: &Row) -> Option<Violation> {
    let is_whole = row.caller.is_some() && row.key.is_some() && row.allocated_at > 0;
    let is_known = Phase::of(&row.status, true).is_some();
    ((row.status == "allocated" && !is_whole) || !is_known).then(|| {
        Violation::new(
            Promise::Table,
            [row.sandbox.as_str()],
            [at],
            format!("the item of {} is broken: {row:?}", row.sandbox),
        )
    })
}

/// Returns whether the event is a job or a deletion by an operator, which reset the numbers of attempts.
fn resets_attempts(event: &Event) -> bool {
    match &event.kind {
        EventKind::Job { name, .. } => name.contains("retry"),
        EventKind::Act { action, .. } => action == "delete",
        _ => false,
    }
}

/// The number of deletion attempts only grows, unless a job or an operator resets it.
fn counts_up(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &SandboxFacts<'_>,
    reset: Option<Duration>,
    found: &mut Vec<Violation>,
) {
    let mut rows = known.rows.clone();
    rows.sort_by_key(|(at, _)| facts.events[*at].began);
    for pair in rows.windows(2) {
        let [(first, before), (second, now)] = pair else {
            continue;
        };
        let ended = facts.events[*second].ended;
        let is_excused =
            reset.is_some_and(|began| began <= ended) || facts.may_have_been_gone(known, ended);
        if now.deletion_retry_count < before.deletion_retry_count
            && facts.precedes(*first, *second)
            && !is_excused
        {
            found.push(Violation::new(
                Promise::Table,
                [sandbox],
                [*first, *second],
                format!("{sandbox} has fewer deletion attempts than before"),
            ));
            return;
        }
    }
}

/// A table that was read in the calm phase.
struct Calm<'a> {
    facts: &'a Facts<'a>,
    at: usize,
    rows: &'a [Row],
}

impl Calm<'_> {
    fn wrong(&self, sandbox: &str, with: &[usize], sentence: String) -> Violation {
        let calm = self.facts.calm.map(|(_, at)| at);
        let events = with.iter().copied().chain(calm).chain([self.at]);
        Violation::new(Promise::Table, [sandbox], events, sentence)
    }

    fn allocated(&self) -> impl Iterator<Item = (&Row, &str, &str)> {
        self.rows
            .iter()
            .filter(|row| row.status == "allocated")
            .filter_map(|row| Some((row, row.caller.as_deref()?, row.key.as_deref()?)))
    }

    fn claims_point(&self, claims: &[ClaimRow], found: &mut Vec<Violation>) {
        let claims: BTreeSet<_> = claims
            .iter()
            .map(|claim| {
                (
                    claim.caller.as_str(),
                    claim.key.as_str(),
                    claim.sandbox.as_str(),
                    claim.allocated_at,
                )
            })
            .collect();
        for (row, caller, key) in self.allocated() {
            if !claims.contains(&(caller, key, &row.sandbox, row.allocated_at)) {
                let sentence = format!("no claim of {caller}/{key} points at {}", row.sandbox);
                found.push(self.wrong(&row.sandbox, &[], sentence));
            }
        }
    }

    fn each_pair_has_one(&self, found: &mut Vec<Violation>) {
        let mut has: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for (row, caller, key) in self.allocated() {
            if let Some(other) = has.insert((caller, key), &row.sandbox) {
                let sentence = format!("{caller}/{key} holds {other} and {}", row.sandbox);
                let mut violation = self.wrong(&row.sandbox, &[], sentence);
                violation.promise = Promise::OneSandbox;
                violation.about.insert(0, other.to_owned());
                found.push(violation);
            }
        }
    }

    fn no_holder_is_forgotten(&self, tombstones: &[String], found: &mut Vec<Violation>) {
        let there: BTreeSet<&str> = self
            .rows
            .iter()
            .map(|row| row.sandbox.as_str())
            .chain(tombstones.iter().map(String::as_str))
            .collect();
        for (sandbox, known) in &self.facts.sandboxes {
            let Some(hold) = known.hold else { continue };
            if self.facts.precedes(hold.shown_by, self.at) && !there.contains(sandbox) {
                let sentence = format!("{sandbox} was held and is gone without a tombstone");
                found.push(self.wrong(sandbox, &[hold.shown_by], sentence));
            }
        }
    }
}
