//! Refill and checks (H): accounts are created once under a name, and as many as are wanted; none is forgotten; and none is
//! allocated that is not usable.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    super::event::EventKind,
    Promise, Violation,
    facts::{Facts, SandboxFacts},
};

/// An account that CSP created by the order of a broker.
#[derive(Clone, Copy)]
struct Order<'a> {
    at: usize,
    sandbox: &'a str,
    name: &'a str,
    is_usable: bool,
}

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let orders: Vec<_> = facts
        .events
        .iter()
        .enumerate()
        .filter_map(|(at, event)| match &event.kind {
            EventKind::AccountOrdered {
                sandbox,
                name,
                is_usable,
                ..
            } => Some(Order {
                at,
                sandbox,
                name,
                is_usable: *is_usable,
            }),
            _ => None,
        })
        .collect();
    created_once(&orders, found);
    at_most_the_target(facts, &orders, found);
    usable_before_allocated(facts, &orders, found);
    for (sandbox, known) in &facts.sandboxes {
        let is_usable = orders
            .iter()
            .all(|it| it.sandbox != *sandbox || it.is_usable);
        found.extend(set_aside_for_a_reason(facts, sandbox, known, is_usable));
        found.extend(stays_aside(facts, sandbox, known));
    }
    none_is_forgotten(facts, &orders, found);
}

fn created_once(orders: &[Order<'_>], found: &mut Vec<Violation>) {
    let mut first: BTreeMap<&str, &Order<'_>> = BTreeMap::new();
    for order in orders {
        if let Some(first) = first.get(order.name) {
            found.push(Violation::new(
                Promise::CreatedOnce,
                [first.sandbox, order.sandbox],
                [first.at, order.at],
                format!(
                    "{} and {} are both {}",
                    first.sandbox, order.sandbox, order.name
                ),
            ));
            return;
        }
        first.insert(order.name, order);
    }
}

/// When an account is created, no more of its pool wait for a holder, with itself, than the largest target so far.
fn at_most_the_target(facts: &Facts<'_>, orders: &[Order<'_>], found: &mut Vec<Violation>) {
    let mut pools: BTreeMap<&str, Vec<(Duration, usize)>> = BTreeMap::new();
    for event in facts.events {
        if let EventKind::PoolSet { prefix, target } = &event.kind {
            pools
                .entry(prefix)
                .or_default()
                .push((event.began, *target));
        }
    }
    for (prefix, targets) in pools {
        let of_pool: Vec<_> = orders
            .iter()
            .filter(|it| it.name.starts_with(prefix))
            .collect();
        for order in &of_pool {
            let created = &facts.events[order.at];
            let targets = targets.iter().filter(|(began, _)| *began <= created.ended);
            let Some(largest) = targets.map(|(_, target)| *target).max() else {
                continue;
            };
            let waiting = of_pool
                .iter()
                .filter(|earlier| facts.precedes(earlier.at, order.at))
                .filter_map(|earlier| Some((earlier, waits_after(facts, earlier, created.ended)?)));
            let waiting: Vec<_> = waiting.collect();
            if waiting.len() < largest {
                continue;
            }
            let sandboxes = waiting.iter().map(|(it, _)| it.sandbox);
            let mut about: Vec<_> = sandboxes.chain([order.sandbox]).collect();
            about.sort_unstable();
            let events = waiting.iter().flat_map(|(it, shown_by)| [it.at, *shown_by]);
            let sentence = format!(
                "{} is created although {} of {largest} sandboxes wait in {prefix}",
                order.sandbox,
                waiting.len()
            );
            found.push(Violation::new(
                Promise::Wanted,
                about,
                events.chain([order.at]),
                sentence,
            ));
            return;
        }
    }
}

/// Returns the first event after the moment that shows that the sandbox of an order has waited for a holder all the time
/// since it was created.
fn waits_after(facts: &Facts<'_>, order: &Order<'_>, moment: Duration) -> Option<usize> {
    let known = facts.sandboxes.get(order.sandbox)?;
    let waits = |status: &str| matches!(status, "provisioning" | "available");
    let rows = known.rows.iter().filter(|(_, row)| waits(&row.status));
    let news = known.sightings.iter().filter(|sighting| sighting.is_new);
    let shown_by = rows
        .map(|(at, _)| *at)
        .chain(news.map(|sighting| sighting.at))
        .filter(|at| facts.events[*at].began >= moment)
        .min_by_key(|at| facts.events[*at].ended)?;
    let (created, shown) = (facts.events[order.at].began, facts.events[shown_by].ended);
    // Refill does not count a sandbox that is aside or stale, and cannot know that it comes back.
    let aside = known.first_act(facts.events, &["quarantine", "restore", "delete"]);
    let may_be_aside =
        aside.is_some_and(|began| began < shown) || known.hidden.is_some_and(|began| began < shown);
    let may_be_stale = facts.events.iter().any(|event| {
        matches!(event.kind, EventKind::ListsBroken) && event.ended > created && event.began < shown
    });
    (!may_be_aside && !may_be_stale).then_some(shown_by)
}

fn usable_before_allocated(facts: &Facts<'_>, orders: &[Order<'_>], found: &mut Vec<Violation>) {
    for order in orders.iter().filter(|order| !order.is_usable) {
        let known = facts.sandboxes.get(order.sandbox);
        let Some(sighting) = known.and_then(|known| known.sightings.first()) else {
            continue;
        };
        found.push(Violation::new(
            Promise::Usable,
            [order.sandbox],
            [order.at, sighting.at],
            format!(
                "{} holds {}, whose account is not usable",
                sighting.caller, order.sandbox
            ),
        ));
    }
}

/// Returns the first item that shows the sandbox in a quarantine by a check, before it had a holder.
fn set_aside_by_check(facts: &Facts<'_>, known: &SandboxFacts<'_>) -> Option<usize> {
    let aside = known.rows.iter().filter(|(_, row)| {
        let is_by_check = row.quarantined_by.as_deref() == Some("check");
        row.status == "quarantined" && is_by_check
    });
    aside
        .map(|(at, _)| *at)
        .min_by_key(|at| facts.events[*at].ended)
}

/// A check sets aside a sandbox that was available only if its account is not usable any more.
fn set_aside_for_a_reason(
    facts: &Facts<'_>,
    sandbox: &str,
    known: &SandboxFacts<'_>,
    is_usable: bool,
) -> Option<Violation> {
    let aside = set_aside_by_check(facts, known)?;
    let may_be_gone = known.hidden.is_some() || !known.deletions.is_empty();
    let available = known
        .rows
        .iter()
        .find(|(at, row)| row.status == "available" && facts.precedes(*at, aside));
    let (available, _) = available.filter(|_| is_usable && !may_be_gone)?;
    Some(Violation::new(
        Promise::SetAside,
        [sandbox],
        [*available, aside],
        format!("{sandbox} is set aside by a check although its account is usable"),
    ))
}

/// A sandbox in a quarantine by a check is not allocated unless an operator ends it.
fn stays_aside(facts: &Facts<'_>, sandbox: &str, known: &SandboxFacts<'_>) -> Option<Violation> {
    let aside = set_aside_by_check(facts, known)?;
    let restored = known.first_act(facts.events, &["restore"]);
    let allocated = known.sightings.iter().find(|sighting| {
        let is_restored = restored.is_some_and(|began| began < facts.events[sighting.at].ended);
        facts.precedes(aside, sighting.at) && !is_restored
    })?;
    Some(Violation::new(
        Promise::SetAside,
        [sandbox],
        [aside, allocated.at],
        format!(
            "{} holds {sandbox}, which a check has set aside",
            allocated.caller
        ),
    ))
}

/// In the calm phase, once pools had time to fill, no creation is open, and every account has an item, which a check has
/// judged.
fn none_is_forgotten(facts: &Facts<'_>, orders: &[Order<'_>], found: &mut Vec<Violation>) {
    let settled = facts
        .events
        .iter()
        .enumerate()
        .find_map(|(at, event)| match &event.kind {
            EventKind::Creations { open } => Some((at, open)),
            _ => None,
        });
    let Some((settled, open)) = settled else {
        return;
    };
    if !open.is_empty() {
        let sentence = format!("creations that never end: {open:?}");
        let about: [&str; 0] = [];
        found.push(Violation::new(
            Promise::NotForgotten,
            about,
            [settled],
            sentence,
        ));
    }
    let after = facts
        .tables
        .iter()
        .filter(|at| facts.precedes(settled, **at));
    let Some(table) = after.min_by_key(|at| facts.events[**at].began) else {
        return;
    };
    let EventKind::Table {
        sandboxes,
        tombstones,
        ..
    } = &facts.events[*table].kind
    else {
        return;
    };
    let rows: BTreeMap<_, _> = sandboxes
        .iter()
        .map(|row| (row.sandbox.as_str(), row))
        .collect();
    let gone: BTreeSet<_> = tombstones.iter().map(String::as_str).collect();
    for order in orders
        .iter()
        .filter(|order| facts.precedes(order.at, settled))
    {
        let known = facts.sandboxes.get(order.sandbox);
        let is_deleted = known.is_some_and(|known| !known.deletions.is_empty());
        let fault = match rows.get(order.sandbox) {
            Some(row) if row.status == "provisioning" => "is never judged",
            Some(_) => continue,
            None if is_deleted || gone.contains(order.sandbox) => continue,
            None => "has no item",
        };
        found.push(Violation::new(
            Promise::NotForgotten,
            [order.sandbox],
            [order.at, settled, *table],
            format!("{}, created as {}, {fault}", order.sandbox, order.name),
        ));
    }
}
