//! The faults of documents.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{strategy, *};

/// The faults of a document, as `path: got …; takes …`.
fn faults(value: &Value) -> Vec<String> {
    let faults = PolicyDocument::parse(value).unwrap_err();
    assert_eq!(faults.more, 0);
    faults.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn every_fault_is_reported_with_path_value_and_possible_values() {
    let id = "takes 1 to 256 printable characters: the id of a lab, or the beginning of ids with one * at its end";
    let fields = "takes one of the fields id, name_prefix, duration_minutes, max_duration_minutes, \
                  max_replacements, replaced, max_held";
    let faults = faults(&json!({
        "defaults": {"duration_minutes": 90.5, "replaced": "keep"},
        "lab": [
            {"id": "a", "max_hold": 3},
            {"id": " a "},
            5,
            {},
            {"id": "a*b", "max_held": -1, "quota": 5},
            {"id": null, "name_prefix": "x\ny"},
        ],
        "pool": [
            {"name_prefix": "lab", "target_available": 5, "max_total": 4},
            {"name_prefix": "lab-2", "create": {
                "description": "", "tags": {"a": 1, "b\t": "c"}, "admin_user": {"email": "a@"},
            }},
        ],
        "pools": [],
    }));
    let expected = [
        "defaults.duration_minutes: got 90.5; takes a whole number from 1 to 43200".into(),
        "defaults.replaced: got \"keep\"; takes \"delete\" or \"quarantine\"".into(),
        format!("lab[0].max_hold: got an unknown field; {fields}; did you mean max_held?"),
        "lab[1].id: got \" a \"; takes another id than lab[0]".into(),
        "lab[2]: got 5; takes an object".into(),
        format!("lab[3].id: got nothing; {id}"),
        format!("lab[4].id: got \"a*b\"; {id}"),
        "lab[4].max_held: got -1; takes a whole number from 0 to 100000".into(),
        format!("lab[4].quota: got an unknown field; {fields}"),
        format!("lab[5].id: got nothing; {id}"),
        "lab[5].name_prefix: got \"x\\ny\"; takes 1 to 256 printable characters".into(),
        "pool[0].target_available: got 5; takes at most 4, the max_total beside it".into(),
        "pool[1].create.description: got \"\"; takes 1 to 500 printable characters".into(),
        "pool[1].create.tags.a: got 1; takes 1 to 256 printable characters".into(),
        "pool[1].create.tags.\"b\\t\": got a name that is not printable, or too long; \
         takes 1 to 256 printable characters"
            .into(),
        "pool[1].create.admin_user.email: got \"a@\"; takes the address of an administrator, such as \
         labs@example.com"
            .into(),
        "pool[1].create.admin_user.name: got nothing; takes 1 to 256 printable characters".into(),
        "pool[1].name_prefix: got \"lab-2\"; takes a prefix that does not overlap with \"lab\" of pool[0]"
            .into(),
        "pools: got an unknown field; takes one of the fields defaults, lab, pool; did you mean pool?"
            .into(),
    ];
    let expected: [String; 19] = expected;
    assert_eq!(faults, expected);
}

#[test]
fn maximum_below_the_duration_in_force_is_a_fault_of_the_field_that_states_it() {
    let stated = faults(&json!({
        "defaults": {"duration_minutes": 240, "max_duration_minutes": 480},
        "lab": [
            {"id": "own", "duration_minutes": 60, "max_duration_minutes": 59},
            {"id": "max", "max_duration_minutes": 239},
            {"id": "duration", "duration_minutes": 481},
            {"id": "equal", "duration_minutes": 480},
            {"id": "unreadable", "duration_minutes": "60", "max_duration_minutes": 90},
        ],
    }));
    assert_eq!(
        stated,
        [
            "lab[0].max_duration_minutes: got 59; takes at least 60, the duration_minutes beside it",
            "lab[1].max_duration_minutes: got 239; takes at least 240, the duration_minutes of the defaults",
            "lab[2].duration_minutes: got 481; takes at most 480, the max_duration_minutes of the defaults",
            "lab[4].duration_minutes: got \"60\"; takes a whole number from 1 to 43200",
        ]
    );
    let of_the_defaults = json!({
        "defaults": {"duration_minutes": 2, "max_duration_minutes": 1}, "lab": [{"id": "a"}, {"id": "b"}],
    });
    assert_eq!(faults(&of_the_defaults).len(), 1);
}

#[test]
fn prefix_overlaps_with_a_longer_and_with_a_shorter_one() {
    for prefixes in [["lab", "lab"], ["lab", "lab-1"], ["lab-1", "lab"]] {
        let pools = prefixes.map(|prefix| json!({"name_prefix": prefix}));
        let faults = faults(&json!({ "pool": pools }));
        assert!(faults[0].starts_with("pool[1].name_prefix: "), "{faults:?}");
    }
    let apart = ["b", "a", "ab", "lab-1", "lab-2"].map(|prefix| json!({"name_prefix": prefix}));
    assert!(PolicyDocument::parse(&json!({"pool": apart[3..]})).is_ok());
    assert_eq!(faults(&json!({"pool": apart})).len(), 1);
}

#[test]
fn prefix_of_created_sandboxes_leaves_room_for_a_number() {
    let pool =
        |prefix: &str, create: Value| json!({"pool": [{"name_prefix": prefix, "create": create}]});
    let (longest, too_long) = ("é".repeat(100), "é".repeat(101));
    assert!(PolicyDocument::parse(&pool(&longest, json!({}))).is_ok());
    assert!(PolicyDocument::parse(&pool(&too_long, json!(null))).is_ok());
    let faults = faults(&pool(&too_long, json!({})));
    assert_eq!(faults.len(), 1);
    let expected =
        "takes at most 200 bytes beside create: the names of new sandboxes have a number after it";
    assert!(faults[0].ends_with(expected), "{faults:?}");
}

#[test]
fn document_of_another_type_is_one_fault() {
    for value in [json!(null), json!([]), json!("x"), json!({"lab": {}})] {
        assert_eq!(faults(&value).len(), 1);
    }
    assert_eq!(
        faults(&json!([]))[0],
        "the document: got a list; takes an object"
    );
}

#[test]
fn null_states_nothing() {
    let stated = json!({"defaults": null, "lab": [{"id": "a", "max_held": null}], "pool": null});
    let document = PolicyDocument::parse(&stated).unwrap();
    assert_eq!(
        serde_json::to_value(document).unwrap(),
        json!({"lab": [{"id": "a"}]})
    );
}

#[test]
fn number_of_entries_and_size_are_limited() {
    let labs: Vec<Value> = (0..10_001).map(|n| json!({"id": n.to_string()})).collect();
    assert!(PolicyDocument::parse(&json!({"lab": labs[1..]})).is_ok());
    let too_many = faults(&json!({"lab": labs}));
    assert_eq!(
        too_many,
        ["lab: got 10001 entries; takes a list of at most 10000 objects"]
    );
    let long = |n: usize| json!({"id": format!("{n:0250}")});
    let labs: Vec<Value> = (0..1_100).map(long).collect();
    let too_long = faults(&json!({"lab": labs}));
    assert_eq!(
        too_long,
        ["the document: got 286009 bytes; takes at most 262144 bytes as JSON"]
    );
}

#[test]
fn stored_document_may_have_unknown_fields_but_no_other_faults() {
    let newer = json!({
        "defaults": {"max_idle_minutes": 5}, "schedule": [],
        "lab": [{"id": "a", "max_held": 2, "until": "18:00"}],
        "pool": [{"name_prefix": "a", "schedule": [{
            "from": "2026-11-28T10:00:00Z", "to": "2026-11-28T12:00:00Z", "target_available": 2, "every": "week",
        }]}],
    });
    let document = PolicyDocument::stored(&newer).unwrap();
    let known = json!({
        "lab": [{"id": "a", "max_held": 2}],
        "pool": [{"name_prefix": "a", "schedule": [{
            "from": "2026-11-28T10:00:00Z", "to": "2026-11-28T12:00:00Z", "target_available": 2,
        }]}],
    });
    assert_eq!(serde_json::to_value(document).unwrap(), known);
    assert_eq!(faults(&newer).len(), 4);
    let unreadable = json!({"lab": [{"id": "a", "max_held": "2", "until": "18:00"}]});
    assert_eq!(PolicyDocument::stored(&unreadable).unwrap_err().count(), 1);
}

proptest! {
    #[test]
    fn any_value_is_a_document_or_short_faults(
        value in prop_oneof![crate::arbitrary::json(), strategy::damaged()],
    ) {
        match PolicyDocument::parse(&value) {
            Ok(document) => {
                prop_assert_eq!(PolicyDocument::stored(&value), Ok(document.clone()));
                let written = serde_json::to_value(&document).unwrap();
                prop_assert_eq!(PolicyDocument::parse(&written), Ok(document));
            }
            Err(faults) => {
                prop_assert!(!faults.faults.is_empty());
                for PolicyFault { path, got, takes } in faults.faults {
                    prop_assert!(!path.is_empty() && path.chars().count() <= 160, "{path}");
                    prop_assert!(!got.is_empty() && got.chars().count() <= 70, "{got}");
                    prop_assert!(!takes.is_empty() && takes.chars().count() <= 240, "{takes}");
                    prop_assert!(![path, got].concat().contains(char::is_control));
                }
            }
        }
    }
}
