//! The terms of labs.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{strategy, *};
use crate::domain::{LabId, LeaseTerms};

const ENVIRONMENT: LeaseTerms = LeaseTerms {
    lab_duration_hours: 4,
    inherited_hours: 4,
    grace: Duration::from_mins(30),
};

fn policy(document: &Value) -> Policy {
    Policy::new(&PolicyDocument::parse(document).unwrap(), ENVIRONMENT)
}

fn lab(id: &str) -> LabId {
    LabId::parse(id).unwrap()
}

fn minutes(policy: &Policy, id: &str) -> (u64, u64) {
    let terms = policy.terms_of(Some(&lab(id)));
    (
        terms.duration.as_secs() / 60,
        terms.max_duration.as_secs() / 60,
    )
}

#[test]
fn environment_alone_permits_no_extension() {
    for policy in [Policy::of_environment(ENVIRONMENT), policy(&json!({}))] {
        let expected = LabTerms {
            duration: Duration::from_hours(4),
            max_duration: Duration::from_hours(4),
            max_replacements: 3,
            replaced: Replaced::Delete,
            name_prefix: None,
            max_held: None,
        };
        assert_eq!(*policy.terms_of(None), expected);
        assert_eq!(*policy.terms_of(Some(&lab("any"))), expected);
        assert!(!policy.names(&lab("any")));
    }
}

#[test]
fn entry_with_the_id_goes_before_patterns_and_the_longest_pattern_before_others() {
    let policy = policy(&json!({
        "defaults": {"duration_minutes": 5},
        "lab": [
            {"id": "cloud-*", "duration_minutes": 1, "max_held": 7},
            {"id": "cloud-101", "duration_minutes": 2, "max_held": 0},
            {"id": "cloud-1*", "duration_minutes": 3},
            {"id": "クラウド*", "duration_minutes": 4},
        ],
    }));
    for (id, expected) in [
        ("cloud-101", 2),
        ("cloud-1012", 3),
        ("cloud-1", 3),
        ("cloud-2", 1),
        ("cloud-", 1),
        ("cloud", 5),
        ("Cloud-101", 5),
        ("クラウド-1", 4),
        ("クラウ", 5),
    ] {
        assert_eq!(minutes(&policy, id).0, expected, "{id}");
        assert_eq!(policy.names(&lab(id)), expected != 5, "{id}");
    }
    assert_eq!(policy.terms_of(None).duration, Duration::from_mins(5));
    assert_eq!(policy.terms_of(Some(&lab("cloud-2"))).max_held, Some(7));
    let quotas: Vec<_> = policy.quotas().collect();
    assert_eq!(quotas, [(&lab("cloud-101"), 0)]);
}

#[test]
fn missing_terms_are_those_of_the_defaults_and_then_of_the_environment() {
    let entries = json!([
        {"id": "none"},
        {"id": "duration", "duration_minutes": 90},
        {"id": "max", "max_duration_minutes": 600},
        {"id": "short", "max_duration_minutes": 60},
    ]);
    for (defaults, expected) in [
        // The environment states 240 minutes. Its duration is no fault beside a maximum, but is capped.
        (json!({}), [(240, 240), (90, 90), (240, 600), (60, 60)]),
        (
            json!({"max_duration_minutes": 120}),
            [(120, 120), (90, 120), (240, 600), (60, 60)],
        ),
        (
            json!({"duration_minutes": 30}),
            [(30, 30), (90, 90), (30, 600), (30, 60)],
        ),
        (
            json!({"duration_minutes": 30, "max_duration_minutes": 100}),
            [(30, 100), (90, 100), (30, 600), (30, 60)],
        ),
    ] {
        let policy = policy(&json!({"defaults": defaults, "lab": entries}));
        let terms = ["none", "duration", "max", "short"].map(|id| minutes(&policy, id));
        assert_eq!(terms, expected, "{defaults}");
    }
    let policy = policy(&json!({
        "defaults": {"max_replacements": 1, "replaced": "quarantine"},
        "lab": [{"id": "own", "max_replacements": 0, "replaced": "delete"}, {"id": "none"}],
    }));
    let terms = |id| {
        let terms = policy.terms_of(Some(&lab(id)));
        (terms.max_replacements, terms.replaced)
    };
    assert_eq!(terms("own"), (0, Replaced::Delete));
    assert_eq!(terms("none"), (1, Replaced::Quarantine));
}

/// The shortest time of a lookup in several rounds: a round is slower only by what else the machine does.
fn lookup_time(policy: &Policy, labs: &[LabId]) -> Duration {
    let round = || {
        let start = Instant::now();
        for lab in labs {
            black_box(policy.terms_of(Some(black_box(lab))));
        }
        start.elapsed() / u32::try_from(labs.len()).unwrap()
    };
    (0..20).map(|_| round()).min().unwrap()
}

#[test]
fn lookup_among_ten_thousand_labs_costs_as_much_as_among_ten() {
    let policy_of = |count: usize| {
        let id = |n: usize| json!({"id": format!("l{n}{}", ["", "*"][n % 2])});
        policy(&json!({"lab": (0..count).map(id).collect::<Vec<_>>()}))
    };
    let (few, many) = (policy_of(10), policy_of(10_000));
    let named: Vec<LabId> = (0..1_000).map(|n| lab(&format!("l{}", n * 10))).collect();
    let unnamed: Vec<LabId> = (0..1_000).map(|n| lab(&format!("cloud-{n}"))).collect();
    assert!(named.iter().all(|lab| many.names(lab)));
    for labs in [&named, &unnamed] {
        let times = (lookup_time(&few, labs), lookup_time(&many, labs));
        // The patterns of the large policy have four lengths, those of the small one have one.
        assert!(times.1 < times.0 * 10, "{times:?}");
    }
}

proptest! {
    #[test]
    fn lookup_equals_a_search_through_all_entries(
        document in strategy::document(),
        ids in proptest::collection::vec(strategy::lab_id(), 1..9),
    ) {
        let policy = Policy::new(&document, ENVIRONMENT);
        for id in ids.into_iter().chain(document.lab.iter().map(|lab| lab.id.as_str().to_owned())) {
            let id = lab(&id);
            let exact = document.lab.iter().find(|lab| lab.id == id && lab.pattern().is_none());
            let matches = |lab: &&LabEntry| lab.pattern().is_some_and(|start| id.as_str().starts_with(start));
            let longest = document.lab.iter().filter(matches).max_by_key(|lab| lab.id.as_str().len());
            let entry = exact.or(longest);
            prop_assert_eq!(policy.names(&id), entry.is_some());
            let terms = policy.terms_of(Some(&id));
            prop_assert_eq!(terms.max_held, entry.and_then(|entry| entry.max_held));
            prop_assert_eq!(&terms.name_prefix, &entry.and_then(|entry| entry.name_prefix.clone()));
            let stated = entry.map(|entry| entry.terms.clone()).unwrap_or_default();
            if let Some(minutes) = stated.duration_minutes {
                prop_assert_eq!(terms.duration, Duration::from_mins(minutes.into()));
            }
            if entry.is_none() {
                prop_assert_eq!(terms, policy.terms_of(None));
            }
        }
    }

    #[test]
    fn terms_never_exceed_their_maximum(
        document in strategy::document(), hours in 1..=720_u32, wanted in proptest::option::of(1..=43_200_u64),
    ) {
        let environment = LeaseTerms { lab_duration_hours: hours, ..ENVIRONMENT };
        let policy = Policy::new(&document, environment);
        let wanted = wanted.map(Duration::from_mins);
        let labs = document.lab.iter().map(|entry| Some(&entry.id)).chain([None]);
        for lab in labs {
            let terms = policy.terms_of(lab);
            prop_assert!(terms.duration <= terms.max_duration);
            prop_assert!(terms.duration(wanted) <= terms.max_duration);
            prop_assert!(terms.duration >= Duration::from_mins(1));
        }
    }
}
