//! The difference between two policy documents.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{document::PolicyDocument, path::key};

/// A value that two documents do not have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyChange {
    /// The path of the value. Labs and pools are named by their ids and prefixes, schedules by their periods:
    /// `lab[cloud-101].max_held`.
    pub path: String,
    /// The value before; `None` if there was none.
    pub before: Option<Value>,
    /// The value after; `None` if there is none.
    pub after: Option<Value>,
}

impl PolicyDocument {
    /// Returns the changes from one document to another, in the order of their paths: none if the documents are equal but
    /// for the order of labs, pools and schedules. A new or removed lab, pool or schedule is one change.
    #[must_use]
    pub fn difference(before: &Self, after: &Self) -> Vec<PolicyChange> {
        let mut changes = Vec::new();
        let (old, new) = (json(&before.defaults), json(&after.defaults));
        compare("defaults", Some(old), Some(new), &mut changes);
        compare_entries(
            "lab",
            (&before.lab, &after.lab),
            |lab| lab.id.as_str(),
            &mut changes,
        );
        compare_entries(
            "pool",
            (&before.pool, &after.pool),
            |pool| pool.name_prefix.as_str(),
            &mut changes,
        );
        changes
    }
}

/// Compares the entries of two lists that have the same name.
fn compare_entries<T: PartialEq + Serialize>(
    list: &str,
    (before, after): (&[T], &[T]),
    name_of: fn(&T) -> &str,
    changes: &mut Vec<PolicyChange>,
) {
    let mut pairs: BTreeMap<&str, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for entry in before {
        pairs.entry(name_of(entry)).or_default().0 = Some(entry);
    }
    for entry in after {
        pairs.entry(name_of(entry)).or_default().1 = Some(entry);
    }
    for (name, (before, after)) in pairs {
        if before != after {
            let path = format!("{list}[{name}]");
            compare(&path, before.map(json), after.map(json), changes);
        }
    }
}

/// Compares two values, objects field by field, and the schedules of a pool one by one.
fn compare(
    path: &str,
    before: Option<Value>,
    after: Option<Value>,
    changes: &mut Vec<PolicyChange>,
) {
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            compare_objects(path, before, after, changes);
        }
        (before, after) if is_list(before.as_ref()) || is_list(after.as_ref()) => {
            compare_schedules(path, before, after, changes);
        }
        (before, after) if before != after => changes.push(PolicyChange {
            path: path.to_owned(),
            before,
            after,
        }),
        _ => {}
    }
}

fn is_list(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_array)
}

/// Compares the schedules of a pool, the only lists in an entry. A pool without any has no list.
fn compare_schedules(
    path: &str,
    before: Option<Value>,
    after: Option<Value>,
    changes: &mut Vec<PolicyChange>,
) {
    let (mut before, mut after) = (by_period(before), by_period(after));
    let periods: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    for period in periods {
        let path = format!("{path}[{period}]");
        let (before, after) = (before.remove(&period), after.remove(&period));
        compare(&path, before, after, changes);
    }
}

fn by_period(schedules: Option<Value>) -> BTreeMap<String, Value> {
    let Some(Value::Array(schedules)) = schedules else {
        return BTreeMap::new();
    };
    let named = schedules.into_iter().map(|schedule| {
        let text = |name: &str| schedule[name].as_str().unwrap_or_default();
        let period = format!("{}/{} {}", text("from"), text("to"), text("time_zone"));
        (period.trim_end().to_owned(), schedule)
    });
    named.collect()
}

fn compare_objects(
    path: &str,
    mut before: Map<String, Value>,
    mut after: Map<String, Value>,
    changes: &mut Vec<PolicyChange>,
) {
    let names: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    for name in names {
        let path = format!("{path}.{}", key(&name));
        compare(&path, before.remove(&name), after.remove(&name), changes);
    }
}

#[expect(
    clippy::expect_used,
    reason = "a part of a document is an object of texts and numbers"
)]
fn json(part: &impl Serialize) -> Value {
    serde_json::to_value(part).expect("a part of a document has a form in JSON")
}
