use super::*;
use crate::domain::{NamePrefix, PoolCounts, PoolSnapshot, PoolTarget, RefillProgress};

#[test]
fn failure_is_a_warning_until_the_next_run_or_for_a_day() {
    let failed = |job, interval| JobOverview {
        job,
        off_by: None,
        interval,
        next_due_at: None,
        is_overdue: false,
        last_success_at: None,
        last_run: Some(RunRecord {
            started_by: None,
            id: "run".to_owned(),
            job,
            state: RunState::Failed,
            counts: serde_json::json!({}),
            error: None,
            started_at: UnixSeconds(0),
            updated_at: UnixSeconds(10),
            finished_at: Some(UnixSeconds(10)),
        }),
    };
    let manual = failed(JobName::BulkDelete, None);
    let is_warned = |job: &JobOverview, now| warnings_of_job(job, now).count() == 1;
    assert!(is_warned(&manual, UnixSeconds(10) + DAY));
    assert!(!is_warned(&manual, UnixSeconds(11) + DAY));
    let scheduled = failed(JobName::Sync, Some(Duration::from_mins(10)));
    assert!(is_warned(&scheduled, UnixSeconds(11) + DAY));
}

fn report(available: u64, expected: u64) -> PoolReport {
    PoolReport {
        snapshot: PoolSnapshot {
            counts: PoolCounts {
                available,
                ..PoolCounts::default()
            },
            unreadable: None,
            at: UnixSeconds(0),
        },
        pools: Vec::new(),
        expected,
        quarantined_by_checks: 0,
    }
}

#[test]
fn sandboxes_that_will_be_available_in_time_count_unless_none_is_available() {
    let warning = |available, expected| {
        let warnings = warnings_of_pool(&report(available, expected), 20);
        warnings.into_iter().next()
    };
    assert_eq!(warning(20, 20), None);
    assert_eq!(warning(1, 20), None);
    assert_eq!(
        warning(1, 1),
        Some((
            WarningCode::PoolLow,
            "1 sandbox is available, fewer than 20.".to_owned()
        ))
    );
    assert_eq!(
        warning(3, 12),
        Some((
            WarningCode::PoolLow,
            "3 sandboxes are available, and 9 will be in time, fewer than 20.".to_owned()
        ))
    );
    let (code, message) = warning(0, 30).unwrap();
    assert_eq!(code, WarningCode::PoolEmpty);
    assert!(
        message
            .ends_with("30 sandboxes are being created or checked, and will be available in time.")
    );
    assert!(warning(0, 0).unwrap().1.ends_with("then run sync."));
}

#[test]
fn sandboxes_of_late_and_stopped_pools_are_on_the_way_to_an_empty_pool() {
    let under_way = |state, under_way| PoolStatus {
        refill: Some(RefillProgress {
            under_way,
            ..RefillProgress::default()
        }),
        ..pool(0, state)
    };
    let mut empty = report(0, 0);
    empty.pools = vec![
        under_way(PoolState::Late, 4),
        under_way(PoolState::Stopped, 9),
    ];
    empty.snapshot.counts.provisioning = 2;
    let message = &warnings_of_pool(&empty, 20)[0].1;
    let end = " 6 sandboxes are on the way, but refill of their pools is late or stopped.";
    assert!(message.ends_with(end), "{message}");
}

#[test]
fn several_quarantines_by_checks_are_a_warning() {
    let codes = |quarantined_by_checks| {
        let report = PoolReport {
            quarantined_by_checks,
            ..report(50, 50)
        };
        warnings_of_pool(&report, 20).len()
    };
    assert_eq!((codes(2), codes(3)), (0, 1));
}

fn pool(number: usize, state: PoolState) -> PoolStatus {
    PoolStatus {
        name_prefix: NamePrefix::parse(format!("lab-{number}-")).unwrap(),
        target: PoolTarget {
            target: 50,
            goal: 50,
            schedule: None,
        },
        target_available: 50,
        max_total: None,
        is_created: true,
        counts: PoolCounts::default(),
        refill: None,
        state,
        reason: Some("HTTP 403".to_owned()),
        since: Some(UnixSeconds(7)),
        late_since: None,
        is_waiting: false,
    }
}

fn warnings_of(pools: Vec<PoolStatus>) -> Vec<(WarningCode, String)> {
    warnings_of_pools(&PoolReport {
        pools,
        ..report(7, 7)
    })
}

#[test]
fn late_and_stopped_pools_are_warnings_up_to_a_number() {
    let two = warnings_of(vec![pool(0, PoolState::Late), pool(1, PoolState::Stopped)]);
    let codes: Vec<_> = two.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [WarningCode::PoolLate, WarningCode::RefillStopped]);
    assert!(
        two.iter()
            .all(|(_, text)| text.contains("since 1970-01-01T00:00:07Z: ")),
        "{two:?}"
    );
    assert!(two[1].1.contains("07Z: HTTP 403. "), "{two:?}");
    let many = (0..1000).map(|number| pool(number, PoolState::Late));
    let many = warnings_of(many.collect());
    assert_eq!(many.len(), MAX_POOLS);
    let last = &many[MAX_POOLS - 1].1;
    assert!(
        last.ends_with(" 980 more pools are late, stopped or empty."),
        "{last}"
    );
}

#[test]
fn pool_without_an_available_sandbox_is_a_warning_in_every_state() {
    for state in [PoolState::Watched, PoolState::Filling, PoolState::AtMaximum] {
        let empty = pool(0, state);
        let mut warned = warnings_of(vec![empty.clone()]).into_iter();
        assert_eq!(
            warned.next().unwrap().0,
            WarningCode::PoolEmpty,
            "{state:?}"
        );
        let mut has_one = empty.clone();
        has_one.counts.available = 1;
        assert!(warnings_of(vec![has_one]).is_empty(), "{state:?}");
        let mut needs_none = empty.clone();
        needs_none.target.target = 0;
        assert!(warnings_of(vec![needs_none]).is_empty(), "{state:?}");
        let all_are = PoolReport {
            pools: vec![empty],
            ..report(0, 0)
        };
        assert!(warnings_of_pools(&all_are).is_empty(), "said of all");
    }
}

#[test]
fn rejected_credentials_name_what_stops() {
    let message = |name| {
        let warnings: Vec<_> =
            warnings_of_services(&[], &[(name, Some(UnixSeconds(1_774_000_000)))]).collect();
        let [(WarningCode::CredentialsRejected, message)] = &warnings[..] else {
            panic!("{warnings:?}")
        };
        message.clone()
    };
    assert!(message("csp").contains("Nothing is synchronised"));
    let niosxaas = message("niosxaas");
    assert!(
        niosxaas.contains("No account is checked") && niosxaas.contains("Sync and the deletion"),
        "{niosxaas}"
    );
    assert_eq!(warnings_of_services(&[], &[("csp", None)]).count(), 0);
}
