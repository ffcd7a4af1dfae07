//! Conditional writes as they are at the wire, and what they become without one of their conditions.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::body::Bytes;
use serde_json::Value;

use super::Call;

/// A conditional write, by what it writes and on which condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// Which action on which kind of item, from which state to which.
    pub action: String,
    pub text: String,
}

impl Condition {
    /// The parts that all have to hold.
    pub fn conjuncts(&self) -> Vec<&str> {
        conjuncts(&self.text)
    }

    /// The condition without each of its parts.
    pub fn mutants(&self) -> impl Iterator<Item = Mutant> {
        self.conjuncts().into_iter().map(|conjunct| Mutant {
            condition: self.clone(),
            conjunct: conjunct.to_owned(),
            used: AtomicUsize::new(0),
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} IF {}", self.action, self.text)
    }
}

/// A condition that lacks one of its parts.
#[derive(Debug)]
pub struct Mutant {
    pub condition: Condition,
    pub conjunct: String,
    /// How many writes were made without it.
    used: AtomicUsize,
}

impl Mutant {
    fn weakened(&self, expression: &str) -> String {
        // Engines refuse values that no expression uses, so the part stays, and does not matter.
        let always = format!(
            "({} OR attribute_exists(PK) OR attribute_not_exists(PK))",
            self.conjunct
        );
        let parts: Vec<_> = conjuncts(expression)
            .into_iter()
            .map(|part| if part == self.conjunct { &always } else { part })
            .collect();
        parts.join(" AND ")
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} without [{}]", self.condition.action, self.conjunct)?;
        if self.condition.conjuncts().len() > 1 {
            write!(f, " of [{}]", self.condition.text)?;
        }
        Ok(())
    }
}

/// The parts of an expression that AND joins at its top.
pub(super) fn conjuncts(expression: &str) -> Vec<&str> {
    const AND: &str = " AND ";
    let (mut parts, mut depth, mut start, mut at) = (Vec::new(), 0, 0, 0);
    while let Some(character) = expression[at..].chars().next() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && expression[at..].starts_with(AND) => {
                parts.push(&expression[start..at]);
                at += AND.len();
                start = at;
                continue;
            }
            _ => {}
        }
        at += character.len_utf8();
    }
    parts.push(&expression[start..]);
    parts
}

#[derive(Default)]
pub(super) struct Conditions(Mutex<BTreeSet<Condition>>);

impl Conditions {
    /// Notes the conditions of a write. Returns its body without what the mutant lacks, if that changes it.
    pub(super) fn note(&self, call: &Call, mutant: Option<&Mutant>) -> Option<Bytes> {
        let mut body = call.json();
        let mut is_changed = false;
        let mut look = |kind: &str, action: &mut Value| {
            let Some(condition) = condition_of(kind, action) else {
                return;
            };
            let matching = mutant.filter(|mutant| mutant.condition == condition);
            if let Some(mutant) = matching {
                action["ConditionExpression"] = mutant.weakened(&condition.text).into();
                mutant.used.fetch_add(1, Ordering::Relaxed);
                is_changed = true;
            }
            self.0.lock().unwrap().insert(condition);
        };
        match body["TransactItems"].as_array_mut() {
            Some(actions) => {
                for action in actions.iter_mut().filter_map(Value::as_object_mut) {
                    for (kind, action) in action {
                        look(kind, action);
                    }
                }
            }
            None => look(&call.operation, &mut body),
        }
        is_changed.then(|| body.to_string().into())
    }

    pub(super) fn seen(&self) -> Vec<Condition> {
        self.0.lock().unwrap().iter().cloned().collect()
    }
}

fn condition_of(kind: &str, action: &Value) -> Option<Condition> {
    let text = action["ConditionExpression"].as_str()?.to_owned();
    let key = if action["Key"].is_object() {
        &action["Key"]
    } else {
        &action["Item"]
    };
    let partition = key["PK"]["S"].as_str()?;
    let item = partition.split('#').next().unwrap_or(partition);
    // Lease and record of a job are items of one partition.
    let sort = key["SK"]["S"].as_str()?.split('#').next()?;
    let value = |name: &str| action["ExpressionAttributeValues"][name]["S"].as_str();
    let states = match (value(":from"), value(":to")) {
        (Some(from), Some(to)) => format!(" {from} to {to}"),
        (Some(from), None) => format!(" {from}"),
        _ => action["Item"]["status"]["S"]
            .as_str()
            .map(|to| format!(" {to}"))
            .unwrap_or_default(),
    };
    Some(Condition {
        action: format!("{kind} {item}/{sort}{states}"),
        text,
    })
}

#[test]
fn an_expression_is_divided_at_its_top_only() {
    assert_eq!(
        conjuncts("#a = :a AND (b OR c AND d) AND NOT (attribute_type(e, :s) AND f)"),
        [
            "#a = :a",
            "(b OR c AND d)",
            "NOT (attribute_type(e, :s) AND f)"
        ]
    );
}
