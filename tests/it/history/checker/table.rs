//! What the table may hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    super::event::{ClaimRow, Event, Row, What},
    Promise, Violation,
    facts::{Facts, Known, Phase},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (at, event) in facts.events.iter().enumerate() {
        let What::Table {
            sandboxes,
            claims,
            tombstones,
        } = &event.what
        else {
            continue;
        };
        for row in sandboxes {
            found.extend(whole(at, row));
        }
        if facts.is_calm(at) {
            let calm = Calm {
                facts,
                at,
                rows: sandboxes,
            };
            calm.claims_point(claims, found);
            calm.each_pair_has_one(found);
            calm.nothing_is_lost(tombstones, found);
        }
    }
    let restarts = facts.events.iter().filter(|event| restarts(event));
    let restarted = restarts.map(|event| event.began).min();
    for (sandbox, known) in &facts.sandboxes {
        counts_up(facts, sandbox, known, restarted, found);
    }
}

/// An allocated sandbox says whose it is and since when.
fn whole(at: usize, row: &Row) -> Option<Violation> {
    let is_whole = row.caller.is_some() && row.key.is_some() && row.allocated_at > 0;
    let is_known = Phase::of(&row.status).is_some();
    ((row.status == "allocated" && !is_whole) || !is_known).then(|| {
        Violation::new(
            Promise::Table,
            [row.sandbox.as_str()],
            [at],
            format!("the item of {} is broken: {row:?}", row.sandbox),
        )
    })
}

/// A job that gives sandboxes all their attempts back.
fn restarts(event: &Event) -> bool {
    matches!(&event.what, What::Job { name, .. } if name.contains("retry"))
}

/// Attempts at a deletion are counted, unless a job lets them begin anew.
fn counts_up(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &Known<'_>,
    restarted: Option<Duration>,
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
            restarted.is_some_and(|began| began <= ended) || facts.may_have_been_gone(known, ended);
        if now.deletion_retry_count < before.deletion_retry_count
            && facts.precedes(*first, *second)
            && !is_excused
        {
            found.push(Violation::new(
                Promise::Table,
                [sandbox],
                [*first, *second],
                format!("{sandbox} has fewer attempts at its deletion than before"),
            ));
            return;
        }
    }
}

/// A table that was read while nothing happened.
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
                let sentence = format!("{caller}/{key} has {other} and {}", row.sandbox);
                let mut violation = self.wrong(&row.sandbox, &[], sentence);
                violation.promise = Promise::OneSandbox;
                violation.about.insert(0, other.to_owned());
                found.push(violation);
            }
        }
    }

    fn nothing_is_lost(&self, tombstones: &[String], found: &mut Vec<Violation>) {
        let there: BTreeSet<&str> = self
            .rows
            .iter()
            .map(|row| row.sandbox.as_str())
            .chain(tombstones.iter().map(String::as_str))
            .collect();
        for (sandbox, known) in &self.facts.sandboxes {
            let Some(hold) = known.hold else { continue };
            if self.facts.precedes(hold.shown_by, self.at) && !there.contains(sandbox) {
                let sentence = format!("{sandbox} was held, and is gone without a tombstone");
                found.push(self.wrong(sandbox, &[hold.shown_by], sentence));
            }
        }
    }
}
