//! The examples of docs/policy.md and examples/policy.toml.

use std::fs;

use serde_json::json;

use super::*;

fn manual() -> String {
    fs::read_to_string("docs/policy.md").unwrap()
}

/// The blocks of a language in a Markdown text.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    text.split(&opening)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

fn document(toml: &str) -> PolicyDocument {
    PolicyDocument::parse(&PolicyDocument::from_toml(toml).unwrap()).unwrap()
}

#[test]
fn example_file_has_no_faults_and_every_field() {
    let example = fs::read_to_string("examples/policy.toml").unwrap();
    let written = document(&example).to_toml();
    let fields = "[defaults] [[lab]] [[pool]] [[pool.schedule]] [pool.create] [pool.create.tags] [pool.create.admin_user] id \
                  name_prefix duration_minutes max_duration_minutes max_replacements replaced max_held target_available \
                  max_total from to time_zone lead_minutes description email name";
    for field in fields.split(' ') {
        assert!(written.contains(field), "{field}");
    }
}

#[test]
fn example_of_the_manual_has_no_faults() {
    for example in blocks(&manual(), "toml") {
        let document = document(example);
        assert!(!document.lab.is_empty() || !document.pool.is_empty());
    }
}

#[test]
fn faults_in_the_manual_are_those_of_the_broker() {
    let document = json!({
        "defaults": {"duration_minutes": 240},
        "lab": [
            {"id": "a"},
            {"id": "b"},
            {"id": "c", "duration_minutes": "abc"},
            {"id": "d", "max_hold": 5},
            {"id": "e", "max_duration_minutes": 60},
        ],
        "pool": [{"name_prefix": "lab"}, {"name_prefix": "lab-2"}],
    });
    let mut faults = PolicyDocument::parse(&document).unwrap_err().faults;
    let toml = "[defaults]\n\n[[lab]]\nid = \"a\"\n\n[[lab]]\nduration_minutes = \n";
    faults.extend(PolicyDocument::from_toml(toml).unwrap_err().faults);
    let manual = manual();
    let listed: Vec<serde_json::Value> = blocks(&manual, "json")
        .iter()
        .flat_map(|block| block.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json!(faults), json!(listed));
}
