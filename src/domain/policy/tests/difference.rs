//! The difference between two documents.

use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{strategy, *};

fn document(value: &Value) -> PolicyDocument {
    PolicyDocument::parse(value).unwrap()
}

fn sorted(mut document: PolicyDocument) -> PolicyDocument {
    document.lab.sort_by(|a, b| a.id.cmp(&b.id));
    document
        .pool
        .sort_by(|a, b| a.name_prefix.cmp(&b.name_prefix));
    for pool in &mut document.pool {
        pool.schedule
            .sort_by_key(|schedule| schedule.from.to_string());
    }
    document
}

/// The values of a document by their paths, down to those that are no objects.
fn values(document: &PolicyDocument) -> Map<String, Value> {
    let mut values = Map::new();
    add(
        "defaults",
        &serde_json::to_value(&document.defaults).unwrap(),
        &mut values,
    );
    for lab in &document.lab {
        add(
            &format!("lab[{}]", lab.id),
            &serde_json::to_value(lab).unwrap(),
            &mut values,
        );
    }
    for pool in &document.pool {
        let path = format!("pool[{}]", pool.name_prefix);
        add(&path, &serde_json::to_value(pool).unwrap(), &mut values);
    }
    values
}

fn add(path: &str, value: &Value, values: &mut Map<String, Value>) {
    match value {
        Value::Array(schedules) => {
            for schedule in schedules {
                let text = |name: &str| schedule[name].as_str().unwrap_or_default();
                let period = format!("{}/{} {}", text("from"), text("to"), text("time_zone"));
                add(&format!("{path}[{}]", period.trim_end()), schedule, values);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                add(&format!("{path}.{}", path::key(name)), value, values);
            }
        }
        value => {
            values.insert(path.to_owned(), value.clone());
        }
    }
}

#[test]
fn change_has_the_path_and_the_values_before_and_after() {
    let before = document(&json!({
        "defaults": {"duration_minutes": 60},
        "lab": [{"id": "a", "max_held": 1}, {"id": "gone"}, {"id": "same", "max_held": 3}],
        "pool": [{"name_prefix": "p", "create": {"tags": {"x": "1", "two words": "2"}}}, {"name_prefix": "q"}],
    }));
    let after = document(&json!({
        "defaults": {"replaced": "quarantine"},
        "lab": [{"id": "same", "max_held": 3}, {"id": "a", "max_held": 2}, {"id": "new", "max_held": 0}],
        "pool": [{"name_prefix": "q", "create": {}}, {"name_prefix": "p", "create": {"tags": {"x": "1"}}}],
    }));
    let change = |path: &str, before: Value, after: Value| PolicyChange {
        path: path.to_owned(),
        before: Some(before).filter(|value| !value.is_null()),
        after: Some(after).filter(|value| !value.is_null()),
    };
    assert_eq!(
        PolicyDocument::difference(&before, &after),
        [
            change("defaults.duration_minutes", json!(60), json!(null)),
            change("defaults.replaced", json!(null), json!("quarantine")),
            change("lab[a].max_held", json!(1), json!(2)),
            change("lab[gone]", json!({"id": "gone"}), json!(null)),
            change("lab[new]", json!(null), json!({"id": "new", "max_held": 0})),
            change("pool[p].create.tags.\"two words\"", json!("2"), json!(null)),
            change("pool[q].create", json!(null), json!({})),
        ]
    );
}

#[test]
fn schedules_are_matched_by_their_periods() {
    let schedule = |day: u32, target: u32, zone: Option<&str>| {
        let time = |hour| match zone {
            Some(_) => format!("2026-11-{day}T{hour}:00:00"),
            None => format!("2026-11-{day}T{hour}:00:00Z"),
        };
        let mut schedule = json!({"from": time(10), "to": time(12), "target_available": target});
        if let Some(zone) = zone {
            schedule["time_zone"] = zone.into();
        }
        schedule
    };
    let pool = |schedules: &[Value]| {
        document(&json!({"pool": [{"name_prefix": "p", "schedule": schedules}]}))
    };
    let (berlin, paris) = (Some("Europe/Berlin"), Some("Europe/Paris"));
    let before = pool(&[
        schedule(28, 60, None),
        schedule(29, 10, berlin),
        schedule(30, 5, None),
    ]);
    let after = pool(&[
        schedule(30, 5, None),
        schedule(28, 80, None),
        schedule(29, 10, paris),
    ]);
    let change = |path: &str, before: Option<Value>, after: Option<Value>| PolicyChange {
        path: format!("pool[p].schedule[{path}"),
        before,
        after,
    };
    assert_eq!(
        PolicyDocument::difference(&before, &after),
        [
            change(
                "2026-11-28T10:00:00Z/2026-11-28T12:00:00Z].target_available",
                Some(json!(60)),
                Some(json!(80)),
            ),
            change(
                "2026-11-29T10:00:00/2026-11-29T12:00:00 Europe/Berlin]",
                Some(schedule(29, 10, berlin)),
                None,
            ),
            change(
                "2026-11-29T10:00:00/2026-11-29T12:00:00 Europe/Paris]",
                None,
                Some(schedule(29, 10, paris)),
            ),
        ]
    );
    // The first schedule of a pool, and the last one.
    let (none, one) = (pool(&[]), pool(&[schedule(28, 60, None)]));
    for (before, after) in [(&none, &one), (&one, &none)] {
        let changes = PolicyDocument::difference(before, after);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].path.ends_with("T12:00:00Z]"), "{changes:?}");
    }
}

#[test]
fn difference_of_many_labs_is_cheap() {
    let labs = |step: usize| -> Vec<Value> {
        (0..10_000_usize)
            .map(|n| json!({"id": n.to_string(), "max_held": n.is_multiple_of(step).then_some(n)}))
            .collect()
    };
    let before = document(&json!({"lab": labs(2)}));
    let mut after = document(&json!({"lab": labs(3)}));
    after.lab.reverse();
    let start = Instant::now();
    let changes = PolicyDocument::difference(&before, &after);
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    let has_changed = |n: &usize| n.is_multiple_of(2) != n.is_multiple_of(3);
    assert_eq!(changes.len(), (0..10_000).filter(has_changed).count());
}

proptest! {
    #[test]
    fn difference_is_empty_only_between_equal_documents(
        (before, after) in (strategy::document(), strategy::document()),
        shuffled in strategy::document().prop_flat_map(|document| {
            let (lab, pool) = (document.lab.clone(), document.pool.clone());
            (Just(document), Just(lab).prop_shuffle(), Just(pool).prop_shuffle())
        }),
    ) {
        let equal = sorted(before.clone()) == sorted(after.clone());
        prop_assert_eq!(PolicyDocument::difference(&before, &after).is_empty(), equal);
        let (document, lab, pool) = shuffled;
        let same = PolicyDocument { lab, pool, ..document.clone() };
        prop_assert_eq!(PolicyDocument::difference(&document, &same), []);
    }

    #[test]
    fn changes_applied_to_one_document_are_the_other(
        (before, after) in (strategy::document(), strategy::document()),
    ) {
        let mut applied = values(&before);
        for change in PolicyDocument::difference(&before, &after) {
            if let Some(value) = &change.before {
                let mut removed = Map::new();
                add(&change.path, value, &mut removed);
                for (path, value) in removed {
                    prop_assert_eq!(applied.remove(&path), Some(value), "{}", path);
                }
            }
            if let Some(value) = &change.after {
                add(&change.path, value, &mut applied);
            }
        }
        // An object without fields is a value of its own, which disappears with its first field.
        for values in [&mut applied, &mut values(&after)] {
            values.retain(|_, value| value != &json!({}));
        }
        let mut expected = values(&after);
        expected.retain(|_, value| value != &json!({}));
        prop_assert_eq!(applied, expected);
    }
}
