//! Allocations: one holder (A), one sandbox per pair (B), answers that agree, and replays.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::event::{AllocateAnswer, EventKind},
    Promise, Violation,
    facts::{Facts, Hold, Phase, SandboxFacts},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut pairs: BTreeMap<(&str, &str), Vec<Holding<'_>>> = BTreeMap::new();
    for (sandbox, known) in &facts.sandboxes {
        one_holder(facts, sandbox, known, found);
        agreement(facts, sandbox, known, found);
        ends_only_later(facts, sandbox, known, found);
        if let Some(hold) = known.hold {
            let holding = Holding::new(facts, sandbox, known, hold);
            pairs
                .entry((hold.caller, hold.key))
                .or_default()
                .push(holding);
        }
    }
    for (pair, holdings) in &mut pairs {
        holdings.sort_by_key(|holding| holding.hold.since);
        one_sandbox(*pair, holdings, found);
    }
    replays(facts, &pairs, found);
}

/// A sandbox held by a pair.
pub(super) struct Holding<'a> {
    pub(super) sandbox: &'a str,
    pub(super) hold: Hold<'a>,
    /// The earliest moment at which the hold can have ended.
    pub(super) ends: Duration,
    /// The last event that shows the sandbox as held.
    pub(super) last_seen: usize,
}

impl<'a> Holding<'a> {
    pub(super) fn new(
        facts: &Facts<'_>,
        sandbox: &'a str,
        known: &SandboxFacts<'a>,
        hold: Hold<'a>,
    ) -> Self {
        let last_seen = known
            .views
            .iter()
            .filter(|(phase, _)| *phase == Phase::Held)
            .map(|(_, at)| *at)
            .max_by_key(|at| facts.events[*at].began);
        let seen = last_seen.map_or(Duration::ZERO, |at| facts.events[at].began);
        Self {
            sandbox,
            hold,
            ends: hold.until.max(seen),
            last_seen: last_seen.unwrap_or(hold.shown_by),
        }
    }
}

fn one_holder(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &SandboxFacts<'_>,
    found: &mut Vec<Violation>,
) {
    let Some(hold) = known.hold else { return };
    let other = known
        .sightings
        .iter()
        .find(|sighting| (sighting.caller, sighting.key) != (hold.caller, hold.key));
    if let Some(other) = other {
        found.push(Violation::new(
            Promise::OneHolder,
            [sandbox],
            [hold.shown_by, other.at],
            format!(
                "{sandbox} is held by {}/{} and by {}/{}",
                hold.caller, hold.key, other.caller, other.key
            ),
        ));
    }
    let mut news = known.sightings.iter().filter(|sighting| sighting.is_new);
    if let (Some(first), Some(second)) = (news.next(), news.next())
        && !facts.precedes(first.at, second.at)
        && !facts.precedes(second.at, first.at)
    {
        found.push(Violation::new(
            Promise::OneHolder,
            [sandbox],
            [first.at, second.at],
            format!("two requests got {sandbox} as new"),
        ));
    }
}

fn agreement(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &SandboxFacts<'_>,
    found: &mut Vec<Violation>,
) {
    let mut differ = |a: usize, b: usize, subject: &str| {
        found.push(Violation::new(
            Promise::Agreement,
            [sandbox],
            [a, b],
            format!("answers show two {subject} of {sandbox}"),
        ));
    };
    let Some(first) = known.sightings.first() else {
        return;
    };
    let other = known
        .sightings
        .iter()
        .find(|other| other.allocated_at != first.allocated_at);
    if let Some(other) = other {
        differ(first.at, other.at, "times of allocation");
    }
    let mut grants = known
        .sightings
        .iter()
        .filter_map(|sighting| Some((sighting.at, sighting.grant?)));
    let Some((at, grant)) = grants.next() else {
        return;
    };
    let other = grants
        .find(|(_, other)| (&grant.name, &grant.external_id) != (&other.name, &other.external_id));
    if let Some((other, _)) = other {
        differ(at, other, "names or accounts");
    }
    let first = known.ends.iter().min_by_key(|(_, end)| *end);
    let other = known.ends.iter().find(|(_, end)| !known.may_end_at(*end));
    if let (Some((first, _)), Some((other, _))) = (first, other) {
        differ(*first, *other, "ends");
    }
    for (row_at, row) in &known.rows {
        if Phase::of(&row.status, true) == Some(Phase::Held)
            && (&row.name, &row.external_id) != (&grant.name, &grant.external_id)
        {
            differ(at, *row_at, "names or accounts");
            break;
        }
    }
    account(facts, sandbox, known, found);
}

/// The end of an allocation never moves to an earlier time.
fn ends_only_later(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &SandboxFacts<'_>,
    found: &mut Vec<Violation>,
) {
    let mut ends = known.ends.clone();
    ends.sort_by_key(|(at, _)| facts.events[*at].began);
    let mut latest: Option<(usize, i64)> = None;
    for (at, end) in ends {
        if let Some((before, later)) = latest
            && end < later
            && facts.precedes(before, at)
        {
            let sentence = format!("the end of {sandbox} moved to an earlier time");
            found.push(Violation::new(
                Promise::Agreement,
                [sandbox],
                [before, at],
                sentence,
            ));
            return;
        }
        if latest.is_none_or(|(_, later)| end > later) {
            latest = Some((at, end));
        }
    }
}

/// A grant names an existing account by one of its names so far, and a new one has the requested prefix.
fn account(facts: &Facts<'_>, sandbox: &str, known: &SandboxFacts<'_>, found: &mut Vec<Violation>) {
    for sighting in &known.sightings {
        let Some(grant) = sighting.grant else {
            continue;
        };
        let mut wrong = |with: Option<usize>, fault: String| {
            let events = with.into_iter().chain([sighting.at]);
            found.push(Violation::new(Promise::Agreement, [sandbox], events, fault));
        };
        if let EventKind::Allocate {
            prefix: Some(prefix),
            ..
        } = &facts.events[sighting.at].kind
            && sighting.is_new
            && !grant.name.starts_with(prefix.as_str())
        {
            let fault = format!("{} does not have the prefix {prefix}", grant.name);
            wrong(None, fault);
        }
        if let EventKind::Allocate {
            minutes: Some(minutes),
            ..
        } = &facts.events[sighting.at].kind
            && sighting.is_new
            && grant.expires_at - grant.allocated_at > minutes * 60
        {
            wrong(
                None,
                format!("{sandbox} is allocated for longer than requested"),
            );
        }
        let Some((made, _)) = known.names.first() else {
            continue;
        };
        if known.external_id != Some(&grant.external_id) {
            wrong(Some(*made), format!("{sandbox} is another account in CSP"));
        }
        let ended = facts.events[sighting.at].ended;
        let was_called = known
            .names
            .iter()
            .any(|(at, name)| *name == grant.name && facts.events[*at].began <= ended);
        if !was_called {
            let fault = format!("{sandbox} was never named {} until then", grant.name);
            wrong(Some(*made), fault);
        }
    }
}

/// Of two holdings of a pair, one must be able to have ended before the other was allocated. `holdings` are sorted by the
/// moment from which each is certain.
fn one_sandbox((caller, key): (&str, &str), holdings: &[Holding<'_>], found: &mut Vec<Violation>) {
    let mut open: Vec<&Holding<'_>> = Vec::new();
    for holding in holdings {
        // A holding that can have ended by now can have ended before every later one too.
        open.retain(|earlier| earlier.ends > holding.hold.since);
        let clash = open
            .iter()
            .find(|earlier| holding.ends > earlier.hold.since);
        if let Some(earlier) = clash {
            let events = [earlier, &holding]
                .iter()
                .flat_map(|holding| [holding.hold.shown_by, holding.last_seen])
                .collect::<Vec<_>>();
            found.push(Violation::new(
                Promise::OneSandbox,
                [earlier.sandbox, holding.sandbox],
                events,
                format!(
                    "{caller}/{key} holds {} and {} at once",
                    earlier.sandbox, holding.sandbox
                ),
            ));
            return;
        }
        open.push(holding);
    }
}

/// No retry of a pair that holds a sandbox for the whole call is refused. Any other wrong answer is a second sandbox or a
/// used one, which other rules find.
fn replays(
    facts: &Facts<'_>,
    pairs: &BTreeMap<(&str, &str), Vec<Holding<'_>>>,
    found: &mut Vec<Violation>,
) {
    // For each pair and moment, the longest hold among those that began by then.
    let longest: BTreeMap<_, Vec<(Duration, &Holding<'_>)>> = pairs
        .iter()
        .map(|(pair, holdings)| {
            let mut best: Option<&Holding<'_>> = None;
            let running = holdings.iter().map(|holding| {
                let longer = best.filter(|best| best.hold.until >= holding.hold.until);
                let longer = longer.unwrap_or(holding);
                best = Some(longer);
                (holding.hold.since, longer)
            });
            (*pair, running.collect())
        })
        .collect();
    for (at, event) in facts.events.iter().enumerate() {
        let EventKind::Allocate {
            caller,
            key,
            answer:
                answer @ (AllocateAnswer::NoneLeft | AllocateAnswer::Paused | AllocateAnswer::LabFull),
            ..
        } = &event.kind
        else {
            continue;
        };
        let Some(running) = longest.get(&(caller.as_str(), key.as_str())) else {
            continue;
        };
        let before = running.partition_point(|(since, _)| *since < event.began);
        let Some((_, holding)) = before.checked_sub(1).map(|last| running[last]) else {
            continue;
        };
        if event.ended < holding.hold.until {
            found.push(Violation::new(
                Promise::Replay,
                [holding.sandbox],
                [holding.hold.shown_by, at],
                format!(
                    "{caller}/{key} holds {} and gets `{answer:?}`",
                    holding.sandbox
                ),
            ));
        }
    }
}
