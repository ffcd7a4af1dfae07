//! Proptest strategies for policy documents.

use jiff::{SignedDuration, Timestamp, tz::Offset};
use proptest::{collection, option, prelude::*};
use serde_json::Value;

use super::*;
use crate::domain::{LabId, NamePrefix};

/// Any terms whose maximum is not below their duration.
fn terms() -> impl Strategy<Value = StatedTerms> {
    let durations = (option::of(1..=43_200_u32), option::of(1..=43_200_u32));
    let replaced = option::of(prop_oneof![
        Just(Replaced::Delete),
        Just(Replaced::Quarantine)
    ]);
    (durations, option::of(0..=100_u32), replaced).prop_map(
        |((duration, max), max_replacements, replaced)| StatedTerms {
            duration_minutes: duration,
            max_duration_minutes: max.map(|max| max.max(duration.unwrap_or(0))),
            max_replacements,
            replaced,
        },
    )
}

/// Ids of labs, and patterns. Few different characters, so that many patterns match.
pub(super) fn lab_id() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab-]{1,4}\\*?",
        1 => Just("*".to_owned()),
        1 => "[!-)+-~]{1,9}\\*?",
        1 => "[é学\u{1F600}]{1,3}\\*?",
    ]
}

fn lab() -> impl Strategy<Value = LabEntry> {
    let name_prefix = option::of("[a-z]{1,5}");
    (lab_id(), name_prefix, terms(), option::of(0..=100_000_u32)).prop_map(
        |(id, name_prefix, terms, max_held)| LabEntry {
            id: LabId::parse(id).unwrap(),
            name_prefix: name_prefix.map(|prefix| NamePrefix::parse(prefix).unwrap()),
            terms,
            max_held,
        },
    )
}

fn creation() -> impl Strategy<Value = PoolCreation> {
    let text = || "[!-~é]([ -~é]{0,9}[!-~é])?";
    let admin =
        (text(), "[a-z]{1,5}@[a-z]{1,5}").prop_map(|(name, email)| AdminUser { email, name });
    let tags = collection::btree_map("[a-z]{1,5}|[a-z][ -~]{0,5}[a-z]", text(), 0..4);
    (option::of(text()), tags, option::of(admin)).prop_map(|(description, tags, admin_user)| {
        PoolCreation {
            description,
            tags,
            admin_user,
        }
    })
}

/// A time of some day in the years around 2026, and whether it has an offset.
fn time() -> impl Strategy<Value = (Timestamp, Option<Offset>)> {
    let offset = option::of(
        (-23 * 4..=23 * 4)
            .prop_map(|quarters: i32| Offset::from_seconds(quarters * 15 * 60).unwrap()),
    );
    (1_700_000_000..1_900_000_000_i64, offset)
        .prop_map(|(second, offset)| (Timestamp::from_second(second).unwrap(), offset))
}

/// A schedule of a day or more, which no change of clocks can turn around.
fn schedule() -> impl Strategy<Value = ScheduleEntry> {
    let zone = prop::sample::select(vec![
        "Europe/Berlin",
        "UTC",
        "America/St_Johns",
        "Pacific/Apia",
    ]);
    let lead = option::of(0..=10_080_u32);
    (time(), time(), 1..100_i64, 0..=1_000_u32, zone, lead).prop_map(
        |((from, from_offset), (_, to_offset), days, target_available, zone, lead_minutes)| {
            let to = from + SignedDuration::from_hours(48 * days);
            let stated = |time: Timestamp, offset| match offset {
                Some(offset) => ScheduleTime::Fixed(time, offset),
                None => ScheduleTime::Local(Offset::UTC.to_datetime(time)),
            };
            let is_local = from_offset.is_none() || to_offset.is_none();
            ScheduleEntry {
                from: stated(from, from_offset),
                to: stated(to, to_offset),
                target_available,
                time_zone: is_local.then(|| ZoneName::parse(zone).unwrap()),
                lead_minutes,
            }
        },
    )
}

/// A pool. Prefixes of one length do not overlap unless they are equal.
fn pool() -> impl Strategy<Value = PoolEntry> {
    let sizes = (option::of(0..=1_000_u32), option::of(1_000..=100_000_u32));
    let schedules = collection::vec(schedule(), 0..4);
    ("[ab]{5}", sizes, schedules, option::of(creation())).prop_map(
        |(prefix, sizes, mut schedule, create)| {
            schedule.sort_by_key(|schedule| schedule.from.to_string());
            schedule.dedup_by(|a, b| a.from == b.from);
            PoolEntry {
                name_prefix: NamePrefix::parse(prefix).unwrap(),
                target_available: sizes.0,
                max_total: sizes.1,
                schedule,
                create,
            }
        },
    )
}

/// Any document without faults.
pub(super) fn document() -> impl Strategy<Value = PolicyDocument> {
    let labs = collection::vec(lab(), 0..12);
    let pools = collection::vec(pool(), 0..6);
    (terms(), labs, pools).prop_map(|(defaults, mut lab, mut pool)| {
        lab.sort_by(|a, b| a.id.cmp(&b.id));
        lab.dedup_by(|a, b| a.id == b.id);
        pool.sort_by(|a, b| a.name_prefix.cmp(&b.name_prefix));
        pool.dedup_by(|a, b| a.name_prefix == b.name_prefix);
        for lab in &mut lab {
            make_consistent(&mut lab.terms, &defaults);
        }
        PolicyDocument {
            defaults,
            lab,
            pool,
        }
    })
}

/// Raises the maximum of an entry where the defaults make it too low.
fn make_consistent(terms: &mut StatedTerms, defaults: &StatedTerms) {
    let duration = terms.duration_minutes.or(defaults.duration_minutes);
    let max = terms.max_duration_minutes.or(defaults.max_duration_minutes);
    if max < duration && max.is_some() {
        terms.max_duration_minutes = duration;
    }
}

/// A document in which one value was replaced by any other.
pub(super) fn damaged() -> impl Strategy<Value = Value> {
    (
        document(),
        any::<prop::sample::Index>(),
        crate::arbitrary::json(),
    )
        .prop_map(|(document, at, damage)| {
            let mut value = serde_json::to_value(document).unwrap();
            let places = count(&value);
            replace(&mut value, &mut at.index(places), &damage);
            value
        })
}

fn children(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Array(values) => values.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    }
}

fn count(value: &Value) -> usize {
    let mut value = value.clone();
    let below: usize = children(&mut value)
        .into_iter()
        .map(|child| count(child))
        .sum();
    1 + below
}

/// Replaces the value that is `left` places further on. Returns whether it was in `value`.
fn replace(value: &mut Value, left: &mut usize, damage: &Value) -> bool {
    if *left == 0 {
        *value = damage.clone();
        return true;
    }
    *left -= 1;
    children(value)
        .into_iter()
        .any(|child| replace(child, left, damage))
}
