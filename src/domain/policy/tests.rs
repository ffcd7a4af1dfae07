//! Tests over the parts of the policy.

use serde_json::{Value, json};

use super::*;

/// The faults of a document, as `path: got; takes`.
fn faults(value: &Value) -> Vec<String> {
    let faults = PolicyDocument::parse(value).unwrap_err();
    faults.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn example_is_read_and_written_alike() {
    let text = r#"[defaults]
duration_minutes = 240
replaced = "delete"

[[lab]]
id = "cloud-security-101"
name_prefix = "lab-adventure"
duration_minutes = 120
max_held = 60

[[pool]]
name_prefix = "lab-adventure"
target_available = 50
max_total = 120

[pool.create]
description = "Hands-on labs"

[pool.create.tags]
instruqt = "labs"

[pool.create.admin_user]
email = "labs@example.com"
name = "Labs"
"#;
    let document = PolicyDocument::parse(&PolicyDocument::from_toml(text).unwrap()).unwrap();
    assert_eq!(document.to_toml(), text);
}

#[test]
fn every_fault_is_reported() {
    let faults = faults(&json!({
        "defaults": {"duration_minutes": 90.5, "replaced": "keep"},
        "lab": [{"id": "a", "max_hold": 3}, {"id": "a"}, 5, {}, {"id": "a*b", "max_held": -1}],
        "pool": [{"name_prefix": "lab", "target_available": 5, "max_total": 4}, {"name_prefix": "lab-2"}],
        "pools": [],
    }));
    let expected = [
        "defaults.duration_minutes: got 90.5; takes a whole number from 1 to 43200",
        "defaults.replaced: got \"keep\"; takes \"delete\" or \"quarantine\"",
        "lab[0].max_hold: got an unknown field; takes one of the fields id, name_prefix, duration_minutes, \
         max_duration_minutes, max_replacements, replaced, max_held; did you mean max_held?",
        "lab[1].id: got \"a\"; takes another id than lab[0]",
        "lab[2]: got 5; takes an object",
        "lab[3].id: got nothing; takes 1 to 256 printable characters: the id of a lab, or the beginning of ids with one \
         * at its end",
        "lab[4].id: got \"a*b\"; takes 1 to 256 printable characters: the id of a lab, or the beginning of ids with \
         one * at its end",
        "lab[4].max_held: got -1; takes a whole number from 0 to 100000",
        "pool[0].target_available: got 5; takes at most 4, the max_total beside it",
        "pool[1].name_prefix: got \"lab-2\"; takes a prefix that does not overlap with \"lab\" of pool[0]",
        "pools: got an unknown field; takes one of the fields defaults, lab, pool; did you mean pool?",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn toml_that_json_does_not_have_is_a_fault_with_its_place() {
    for (text, fault) in [
        (
            "[defaults]\nduration_minutes = \n",
            "line 2, column 20: got \"duration_minutes = \"; takes TOML: string values must \
             be quoted, expected literal string",
        ),
        (
            "a=1\na=2",
            "line 2, column 1: got \"a=2\"; takes TOML: duplicate key",
        ),
        (
            "lab = [{id = 1979-05-27}]",
            "lab[0].id: got 1979-05-27; takes no date: a policy has none; put a text in quotes",
        ),
        ("a = nan", "a: got nan; takes a finite number"),
    ] {
        let faults = PolicyDocument::from_toml(text).unwrap_err();
        assert_eq!(faults.to_string(), fault);
    }
}
