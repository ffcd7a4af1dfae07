//! The conditions of writes as they go over the wire, and mutants of them.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::call::Call;

/// A conditional write: its action and its condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// The kind of action, the kind of item, and the states before and after.
    pub action: String,
    pub text: String,
}

impl Condition {
    /// Returns the parts of the condition, all of which must hold.
    pub fn conjuncts(&self) -> Vec<&str> {
        conjuncts(&self.text)
    }

    /// Returns a mutant for each part of the condition.
    pub fn mutants(&self) -> impl Iterator<Item = Mutant> {
        self.conjuncts().into_iter().map(|conjunct| Mutant {
            condition: self.clone(),
            conjunct: conjunct.to_owned(),
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} IF {}", self.action, self.text)
    }
}

/// A condition of which one part always holds.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub condition: Condition,
    pub conjunct: String,
}

impl Mutant {
    fn weakened(&self, expression: &str) -> String {
        // Servers reject values that no expression uses, so the part stays in the expression.
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

/// Splits an expression at the ANDs of its top level.
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
pub(super) struct Conditions {
    seen: Mutex<BTreeSet<Condition>>,
    mutant: Mutex<Option<Arc<Mutant>>>,
}

impl Conditions {
    pub(super) fn weaken(&self, mutant: Option<Mutant>) {
        *self.mutant.lock().unwrap() = mutant.map(Arc::new);
    }

    /// Records the conditions of a write, and weakens those that the mutant is about.
    pub(super) fn apply(&self, call: &mut Call) {
        if !call.is_write() {
            return;
        }
        let mutant = self.mutant.lock().unwrap().clone();
        let mut body = call.json();
        let mut is_changed = false;
        let mut apply_to = |kind: &str, action: &mut Value| {
            let Some(condition) = condition_of(kind, action) else {
                return;
            };
            let matching = mutant.as_ref().filter(|it| it.condition == condition);
            if let Some(mutant) = matching {
                action["ConditionExpression"] = mutant.weakened(&condition.text).into();
                is_changed = true;
            }
            self.seen.lock().unwrap().insert(condition);
        };
        match body["TransactItems"].as_array_mut() {
            Some(actions) => {
                for action in actions.iter_mut().filter_map(Value::as_object_mut) {
                    for (kind, action) in action {
                        apply_to(kind, action);
                    }
                }
            }
            None => apply_to(&call.operation, &mut body),
        }
        if is_changed {
            call.body = body.to_string().into();
        }
    }

    pub(super) fn seen(&self) -> Vec<Condition> {
        self.seen.lock().unwrap().iter().cloned().collect()
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
    // The lease and the run records of a job share a partition. Tombstones, tokens and their names are sorted by ids and
    // names.
    let sort = match item {
        "TOMBSTONES" | "TOKENS" => "id",
        "TOKEN_NAMES" => "name",
        _ => key["SK"]["S"].as_str()?.split('#').next()?,
    };
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
fn expression_is_split_at_its_top_level_only() {
    assert_eq!(
        conjuncts("#a = :a AND (b OR c AND d) AND NOT (attribute_type(e, :s) AND f)"),
        [
            "#a = :a",
            "(b OR c AND d)",
            "NOT (attribute_type(e, :s) AND f)"
        ]
    );
}
