//! Documents as JSON and as TOML.

use proptest::prelude::*;

use super::{strategy, *};

type Read = fn(&str) -> Result<serde_json::Value, PolicyFaults>;

#[test]
fn toml_is_written_as_an_operator_would_write_it() {
    let text = r#"[defaults]
duration_minutes = 240
max_duration_minutes = 480
max_replacements = 3
replaced = "delete"

[[lab]]
id = "cloud-security-101"
name_prefix = "lab-adventure"
duration_minutes = 120
max_duration_minutes = 300
max_held = 60

[[lab]]
id = "workshop-*"
replaced = "quarantine"

[[pool]]
name_prefix = "lab-adventure"
target_available = 50
max_total = 120

[[pool.schedule]]
from = "2026-11-28T10:00:00"
to = "2026-11-28T12:00:00"
target_available = 80
time_zone = "Europe/Berlin"
lead_minutes = 45

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
    assert_eq!(PolicyDocument::default().to_toml(), "");
}

#[test]
fn text_that_cannot_be_read_is_a_fault_with_its_place() {
    let (json, toml): (Read, Read) = (PolicyDocument::from_json, PolicyDocument::from_toml);
    for (read, text, fault) in [
        (
            toml,
            "[defaults]\nduration_minutes = \n",
            "line 2, column 20: got \"duration_minutes = \"; takes TOML: string values must be quoted, expected \
             literal string",
        ),
        (
            toml,
            "a=1\nb=2\na=2",
            "line 3, column 1: got \"a=2\"; takes TOML: duplicate key",
        ),
        (
            json,
            "{\"lab\": [\n  {\"id\": \"é\", \"id\": \"b\"}]}",
            "line 2, column 18: got \"  {\\\"id\\\": \\\"é\\\", \\\"id\\\": \\\"b\\\"}]}\"; takes JSON: the field id is there twice",
        ),
        (
            json,
            "{\"lab\": [}",
            "line 1, column 10: got \"{\\\"lab\\\": [}\"; takes JSON: expected value",
        ),
        (
            json,
            "",
            "line 1, column 1: got \"\"; takes JSON: EOF while parsing a value",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), fault);
    }
}

#[test]
fn every_value_that_json_does_not_have_is_a_fault_with_its_path() {
    let text = "lab = [{id = 1979-05-27, max_held = 99999999999999999999}]\ndefaults.max_replacements = nan";
    let faults = PolicyDocument::from_toml(text).unwrap_err();
    let faults: Vec<String> = faults.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "defaults.max_replacements: got \"nan\"; takes a finite number",
            "lab[0].id: got 1979-05-27; takes no date: only from and to of a schedule are dates. Put a text in quotes",
            "lab[0].max_held: got \"99999999999999999999\"; takes a smaller number",
        ]
    );
}

proptest! {
    #[test]
    fn document_survives_json_and_toml(document in strategy::document()) {
        let json = serde_json::to_string(&document).unwrap();
        let json = PolicyDocument::from_json(&json).unwrap();
        prop_assert_eq!(PolicyDocument::parse(&json), Ok(document.clone()));
        let toml = PolicyDocument::from_toml(&document.to_toml()).unwrap();
        prop_assert_eq!(toml, json);
    }

    #[test]
    fn any_text_is_a_value_or_a_fault(text in prop_oneof![
        crate::arbitrary::text(),
        "(\\[\\[?[ab.]{0,5}\\]?\\]?\n?|[ab.\"]{1,3} ?= ?[1-9.:{}\\[\\]\"'T-]{0,9}[\n,]?){0,8}",
        "[{}\\[\\]\":,ab1é\n ]{0,40}",
    ]) {
        for read in [PolicyDocument::from_json, PolicyDocument::from_toml] {
            if let Err(faults) = read(&text) {
                prop_assert!(!faults.faults.is_empty());
                prop_assert!(!faults.faults[0].path.is_empty());
            }
        }
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
            && let Ok(unique) = PolicyDocument::from_json(&text)
        {
            prop_assert_eq!(value, unique);
        }
    }
}
