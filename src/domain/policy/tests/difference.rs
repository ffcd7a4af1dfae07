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
