//! Schedules: their texts, their faults, and their times.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{strategy, *};
use crate::domain::{LeaseTerms, ScheduledTarget};

const ENVIRONMENT: LeaseTerms = LeaseTerms {
    lab_duration_hours: 4,
    inherited_hours: 4,
    grace: Duration::from_mins(30),
};

fn pool(schedule: &Value) -> Value {
    json!({"pool": [{"name_prefix": "lab", "max_total": 100, "schedule": schedule}]})
}

fn read(schedule: &Value) -> Result<PolicyDocument, PolicyFaults> {
    PolicyDocument::parse(&pool(&json!([schedule])))
}

fn faults(schedule: &Value) -> Vec<String> {
    let faults = read(schedule).unwrap_err().faults;
    faults.iter().map(ToString::to_string).collect()
}

fn resolved(document: &PolicyDocument) -> Vec<ScheduledTarget> {
    Policy::new(document, ENVIRONMENT).pools()[0]
        .schedules
        .clone()
}

/// Returns when a period in a time zone begins and ends.
fn period(from: &str, to: &str, zone: &str) -> (i64, i64) {
    let schedule = json!({"from": from, "to": to, "target_available": 1, "time_zone": zone});
    let schedule = resolved(&read(&schedule).unwrap())[0];
    (schedule.from.0, schedule.to.0)
}

fn second(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

#[test]
fn times_have_an_offset_or_a_time_zone_beside_them() {
    let ten = second("2026-11-28T10:00:00+01:00");
    for (from, zone, stored) in [
        (
            "2026-11-28T10:00:00+01:00",
            None,
            "2026-11-28T10:00:00+01:00",
        ),
        (" 2026-11-28t09:00:00z", None, "2026-11-28T09:00:00Z"),
        ("2026-11-28 04:30-0430", None, "2026-11-28T04:30:00-04:30"),
        (
            "2026-11-28T10:00",
            Some("europe/berlin"),
            "2026-11-28T10:00:00",
        ),
        (
            "2026-11-28T14:30:00.0",
            Some("Asia/Kolkata"),
            "2026-11-28T14:30:00",
        ),
        ("2026-11-28T09:00:00", Some("utc"), "2026-11-28T09:00:00"),
    ] {
        // The other time may be of the other kind.
        for to in ["2026-11-28T12:00:00Z", "2026-11-28T18:00:00"] {
            let mut schedule =
                json!({"from": from, "to": to, "target_available": 60, "lead_minutes": 45});
            let zone = zone.or((!to.ends_with('Z')).then_some("Europe/Berlin"));
            if let Some(zone) = zone {
                schedule["time_zone"] = zone.into();
            }
            let document = read(&schedule).unwrap();
            assert_eq!(document.pool[0].schedule[0].from.to_string(), stored);
            let schedule = resolved(&document)[0];
            assert_eq!(schedule.from.0, ten, "{from} {zone:?}");
            assert_eq!(schedule.target_available, 60);
            assert_eq!(schedule.lead, Some(Duration::from_mins(45)));
        }
    }
}

#[test]
fn time_zone_is_stored_as_the_database_names_it() {
    let schedule = json!({
        "from": "2026-11-28T10:00:00", "to": "2026-11-28T12:00:00", "target_available": 1,
        "time_zone": " AMERICA/new_york ",
    });
    let document = serde_json::to_value(read(&schedule).unwrap()).unwrap();
    assert_eq!(
        document["pool"][0]["schedule"][0]["time_zone"],
        "America/New_York"
    );
}

#[test]
fn toml_may_have_dates_of_its_own() {
    let toml = |from: &str, to: &str, zone: &str| {
        let text = format!(
            "[[pool]]\nname_prefix = \"lab\"\n[[pool.schedule]]\nfrom = {from}\nto = {to}\ntarget_available = 1\n{zone}"
        );
        PolicyDocument::from_toml(&text).and_then(|value| PolicyDocument::parse(&value))
    };
    let zone = "time_zone = \"Europe/Berlin\"";
    let times = [
        toml("2026-11-28T10:00:00+01:00", "2026-11-28T11:00:00Z", ""),
        toml("2026-11-28 10:00:00", "2026-11-28T12:00:00", zone),
        toml("\"2026-11-28T10:00:00\"", "2026-11-28T11:00:00Z", zone),
    ];
    for document in times {
        let document = document.unwrap();
        let schedule = resolved(&document)[0];
        assert_eq!(schedule.from.0, second("2026-11-28T09:00:00Z"));
        assert_eq!(schedule.to.0, second("2026-11-28T11:00:00Z"));
        // Written as texts, which are the same in JSON.
        let again = PolicyDocument::from_toml(&document.to_toml()).unwrap();
        assert_eq!(PolicyDocument::parse(&again), Ok(document));
    }
    let faults = toml("2026-11-28", "10:00:00", zone).unwrap_err().faults;
    let paths: Vec<_> = faults
        .iter()
        .map(|fault| (&*fault.path, &*fault.got))
        .collect();
    assert_eq!(
        paths,
        [
            ("pool[0].schedule[0].from", "\"2026-11-28\""),
            ("pool[0].schedule[0].to", "\"10:00:00\""),
        ]
    );
}

#[test]
fn period_covers_both_readings_of_a_time_when_clocks_are_set() {
    // On 2026-03-29, 02:00 to 03:00 does not exist in Berlin; on 2026-10-25, it comes twice.
    let berlin = |from, to| period(from, to, "Europe/Berlin");
    for (from, to, expected) in [
        (
            "2026-03-29T02:30:00",
            "2026-03-29T12:00:00",
            ("2026-03-29T00:30:00Z", "2026-03-29T10:00:00Z"),
        ),
        (
            "2026-03-28T12:00:00",
            "2026-03-29T02:30:00",
            ("2026-03-28T11:00:00Z", "2026-03-29T01:30:00Z"),
        ),
        (
            "2026-10-25T02:30:00",
            "2026-10-25T02:45:00",
            ("2026-10-25T00:30:00Z", "2026-10-25T01:45:00Z"),
        ),
        (
            "2026-03-29T02:15:00",
            "2026-03-29T02:45:00",
            ("2026-03-29T00:15:00Z", "2026-03-29T01:45:00Z"),
        ),
        // The first and the last moment beside the gap exist once.
        (
            "2026-03-29T01:59:59",
            "2026-03-29T03:00:00",
            ("2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"),
        ),
    ] {
        let expected = (second(expected.0), second(expected.1));
        assert_eq!(berlin(from, to), expected, "{from} to {to}");
    }
    // The same hour of each day, whatever its offset.
    let summer = berlin("2026-07-01T10:00:00", "2026-07-01T12:00:00");
    assert_eq!(summer.0, second("2026-07-01T08:00:00Z"));
    // Samoa had no 2011-12-30 at all.
    let samoa = period("2011-12-30T10:00:00", "2011-12-31T10:00:00", "Pacific/Apia");
    assert_eq!(
        samoa,
        (
            second("2011-12-29T20:00:00Z"),
            second("2011-12-30T20:00:00Z")
        )
    );
}

#[test]
fn every_fault_of_a_schedule_is_reported() {
    let time = "takes a date and time in whole seconds, such as 2026-11-28T10:00:00+01:00, or without the offset beside \
                a time_zone";
    let at = "pool[0].schedule[0]";
    assert_eq!(
        faults(&json!({})),
        [
            format!("{at}.from: got nothing; {time}"),
            format!("{at}.to: got nothing; {time}"),
            format!("{at}.target_available: got nothing; takes a whole number from 0 to 100000"),
        ]
    );
    let (from, to) = ("2026-11-28T10:00:00Z", "2026-11-28T12:00:00Z");
    for (field, value, expected) in [
        ("from", json!(1_795_860_000), format!("got 1795860000; {time}")),
        ("from", json!("tomorrow"), format!("got \"tomorrow\"; {time}")),
        ("from", json!("2026-11-28"), format!("got \"2026-11-28\"; {time}")),
        ("from", json!("2026-11-31T10:00:00Z"), format!("got \"2026-11-31T10:00:00Z\"; {time}")),
        ("from", json!("2026-11-28T10:00:00.5Z"), format!("got \"2026-11-28T10:00:00.5Z\"; {time}")),
        (
            "from",
            json!("2026-11-28T10:00:00+01:00[Europe/Berlin]"),
            format!("got \"2026-11-28T10:00:00+01:00[Europe/Berlin]\"; {time}"),
        ),
        (
            "from",
            json!("2026-11-28T10:00:00+01:00:30"),
            format!("got \"2026-11-28T10:00:00+01:00:30\"; {time}"),
        ),
        (
            "from",
            json!("2026-11-28T10:00:00"),
            "got \"2026-11-28T10:00:00\"; takes an offset at its end, such as +01:00, or a time_zone beside it".into(),
        ),
        ("to", json!(from), format!("got \"{from}\"; takes a time after {from}, when it begins")),
        ("target_available", json!(101), "got 101; takes at most 100, the max_total of the pool".into()),
        ("lead_minutes", json!(10_081), "got 10081; takes a whole number from 0 to 10080".into()),
        (
            "time_zone",
            json!("Mars/Olympus"),
            "got \"Mars/Olympus\"; takes a name of the IANA time zone database, such as Europe/Berlin".into(),
        ),
        (
            "time_zone",
            json!("Etc/Unknown"),
            "got \"Etc/Unknown\"; takes a name of the IANA time zone database, such as Europe/Berlin".into(),
        ),
        ("time_zone", json!("UTC"), "got \"UTC\"; takes nothing: from and to have offsets".into()),
        (
            "until",
            json!(to),
            "got an unknown field; takes one of the fields from, to, target_available, time_zone, lead_minutes".into(),
        ),
    ] {
        let mut schedule = json!({"from": from, "to": to, "target_available": 100});
        schedule[field] = value;
        assert_eq!(faults(&schedule), [format!("{at}.{field}: {expected}")]);
    }
    let beyond = json!({
        "from": "9999-12-31T23:00:00", "to": "9999-12-31T23:30:00", "target_available": 1, "time_zone": "America/New_York",
    });
    assert_eq!(faults(&beyond).len(), 1);
}

#[test]
fn two_schedules_of_a_pool_have_two_periods() {
    let schedule = |to: &str, target: u32| json!({"from": "2026-11-28T10:00:00Z", "to": to, "target_available": target});
    let (twelve, one) = ("2026-11-28T12:00:00Z", "2026-11-28T13:00:00Z");
    let both = pool(&json!([schedule(twelve, 1), schedule(one, 1)]));
    assert!(PolicyDocument::parse(&both).is_ok());
    let twice = pool(&json!([
        schedule(one, 3),
        schedule(twelve, 1),
        schedule(twelve, 2)
    ]));
    let faults = PolicyDocument::parse(&twice).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "pool[0].schedule[2].from: got \"2026-11-28T10:00:00Z\"; takes another period than that of schedule[1]"
    );
}

#[test]
fn pool_has_at_most_a_hundred_schedules() {
    let schedules = |count: u32| {
        let schedule = |n| json!({"from": format!("{}-01-01T10:00:00Z", 2000 + n), "to": "9999-01-01T00:00:00Z", "target_available": 1});
        pool(&(0..count).map(schedule).collect())
    };
    assert!(PolicyDocument::parse(&schedules(100)).is_ok());
    let faults = PolicyDocument::parse(&schedules(101)).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "pool[0].schedule: got 101 entries; takes a list of at most 100 objects"
    );
}

#[test]
fn pools_are_found_by_the_names_of_their_sandboxes() {
    let prefixes =
        ["lab-b", "lab-a", "z", "lab", "Lab-"].map(|prefix| json!({"name_prefix": prefix}));
    let document = json!({"pool": prefixes[..3], "defaults": {}});
    let policy = Policy::new(&PolicyDocument::parse(&document).unwrap(), ENVIRONMENT);
    let pool_of = |name| {
        let index = policy.pool_of(name)?;
        Some(policy.pools()[index].name_prefix.as_str())
    };
    for (name, prefix) in [
        ("lab-a", Some("lab-a")),
        ("lab-a-r000001", Some("lab-a")),
        ("lab-b\u{10ffff}", Some("lab-b")),
        ("lab-", None),
        ("lab-c", None),
        ("lab-aé", Some("lab-a")),
        ("a", None),
        ("", None),
        ("zz", Some("z")),
        ("é", None),
    ] {
        assert_eq!(pool_of(name), prefix, "{name}");
    }
    assert_eq!(Policy::of_environment(ENVIRONMENT).pool_of("lab"), None);
}

proptest! {
    #[test]
    fn every_schedule_of_a_document_is_resolved_in_order(document in strategy::document()) {
        let policy = Policy::new(&document, ENVIRONMENT);
        prop_assert_eq!(policy.pools().len(), document.pool.len());
        for (terms, entry) in policy.pools().iter().zip(&document.pool) {
            prop_assert_eq!(&terms.name_prefix, &entry.name_prefix);
            prop_assert_eq!(terms.schedules.len(), entry.schedule.len());
            prop_assert!(terms.schedules.is_sorted_by_key(|schedule| schedule.from));
            for schedule in &terms.schedules {
                prop_assert!(schedule.from < schedule.to);
            }
            let name = format!("{}-r000001", entry.name_prefix);
            let pool = policy.pool_of(&name).map(|index| &policy.pools()[index]);
            prop_assert_eq!(pool, Some(terms));
        }
    }

    #[test]
    fn period_differs_from_what_clocks_show_by_a_change_of_offset_at_most(
        from in 0..2_000_000_000_i64, length in 1..100_000_i64, zone in prop::sample::select(vec![
            "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Europe/Dublin",
        ]),
    ) {
        let clock = |second| jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_second(second).unwrap()).to_string();
        let (begin, end) = period(&clock(from), &clock(from + length), zone);
        prop_assert!(begin < end);
        let difference = (end - begin - length).abs();
        prop_assert!(difference <= 2 * 3600, "{difference}");
    }

    #[test]
    fn any_text_is_a_time_that_survives_or_none(text in prop_oneof![
        crate::arbitrary::text(),
        "-?[0-9]{4,6}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?(\\[[A-Za-z/]{1,9}\\])?",
    ]) {
        if let Some(time) = ScheduleTime::parse(&text) {
            let written = time.to_string();
            prop_assert_eq!(ScheduleTime::parse(&written), Some(time), "{}", written);
        }
        if let Some(zone) = ZoneName::parse(&text) {
            let written = serde_json::to_value(&zone).unwrap();
            prop_assert_eq!(ZoneName::parse(written.as_str().unwrap()), Some(zone));
        }
    }
}
