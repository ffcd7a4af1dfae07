use super::*;
use crate::domain::{Account, NamePrefix, PoolCreation, Quarantine, SandboxId};

const MINUTE: i64 = 60;
const NOW: UnixSeconds = UnixSeconds(1_000_000);

fn at(minutes: i64) -> UnixSeconds {
    UnixSeconds(NOW.0 + minutes * MINUTE)
}

/// Checks every minute, auto-expire every 2 minutes, cleanup every 3, sync every 10, and half an hour of grace.
fn timetable() -> Timetable {
    Timetable {
        now: NOW,
        grace: Duration::from_mins(30),
        expiry_interval: Duration::from_mins(2),
        cleanup_interval: Duration::from_mins(3),
        sync_interval: Duration::from_mins(10),
        check_interval: Some(Duration::from_mins(1)),
        provision_timeout: Duration::from_mins(30),
        expiry_from: NOW,
        deletions_from: NOW,
        sync_from: NOW,
    }
}

fn terms() -> PoolTerms {
    PoolTerms {
        name_prefix: NamePrefix::parse("lab").unwrap(),
        target_available: 5,
        max_total: None,
        schedules: Vec::new(),
        create: Some(PoolCreation::default()),
    }
}

fn sandbox(name: &str, status: Status) -> Sandbox {
    let account = Account {
        sandbox_id: SandboxId::parse(name).unwrap(),
        name: name.to_owned(),
        external_id: format!("identity/accounts/{name}"),
        sfdc_account_id: None,
        created_at: None,
    };
    Sandbox {
        status,
        ..Sandbox::available(account)
    }
}

/// Returns a creation that began a minute ago.
fn creation(name: &str, state: CreationState) -> Creation {
    let prefix = NamePrefix::parse("lab").unwrap();
    Creation {
        name: name.to_owned(),
        state,
        attempted_at: Some(at(-1)),
        attempts: 1,
        listed_at: Some(at(-1)),
        ..Creation::intended(&prefix, 1, at(-2))
    }
}

/// Counts sandboxes and creations; four minutes were measured.
fn tally(
    terms: &PoolTerms,
    creations: &[Creation],
    sandboxes: &[Sandbox],
    timetable: &Timetable,
) -> Tally {
    let refill = RefillFacts {
        creations: creations.to_vec(),
        measured: Some((37, Duration::from_mins(4))),
        creates_from: Ok(NOW),
        is_stopped: false,
    };
    let mut tally = Tally::new(terms, refill, timetable);
    for sandbox in sandboxes {
        tally.add(sandbox, timetable);
    }
    tally.close(timetable)
}

/// Returns the expected changes, each with its time in minutes from now.
fn changes(tally: &Tally) -> Vec<(i64, PoolChange, u64)> {
    let changes = tally.outlook.changes.iter();
    let changes = changes.map(|((at, change), count)| ((at.0 - NOW.0) / MINUTE, *change, *count));
    changes.collect()
}

fn counts(tally: &Tally) -> (u64, u64, u64) {
    let outlook = &tally.outlook;
    (outlook.available, outlook.warming, outlook.total)
}

#[test]
fn every_status_but_stale_counts_towards_the_total() {
    let terms = terms();
    let sandboxes = Status::ALL.map(|status| sandbox("lab-1", status));
    let tally = tally(&terms, &[], &sandboxes, &timetable());
    assert_eq!(counts(&tally), (1, 1, Status::ALL.len() as u64 - 1));
}

#[test]
fn allocation_makes_room_when_auto_expire_and_cleanup_have_run_after_its_grace_period() {
    let terms = terms();
    let mut held = sandbox("lab-1", Status::Allocated);
    held.expires_at = Some(at(60));
    let mut overdue = sandbox("lab-2", Status::Allocated);
    overdue.expires_at = Some(at(-90));
    let mut retried = sandbox("lab-3", Status::PendingDeletion);
    retried.maintenance.next_deletion_at = Some(at(15));
    let released = sandbox("lab-4", Status::PendingDeletion);
    let sandboxes = [held, overdue, retried, released];
    let expected = |timetable: &Timetable| changes(&tally(&terms, &[], &sandboxes, timetable));
    let gone = |minutes| (minutes, PoolChange::Gone, 1);
    assert_eq!(
        expected(&timetable()),
        [gone(3), gone(5), gone(18), gone(95)]
    );
    let paused = Timetable {
        expiry_from: at(100),
        deletions_from: at(20),
        ..timetable()
    };
    assert_eq!(
        expected(&paused),
        [(23, PoolChange::Gone, 2), (105, PoolChange::Gone, 2)]
    );
}

#[test]
fn quarantine_with_an_end_leads_back_or_away() {
    let terms = terms();
    let quarantined = |from, until| Sandbox {
        quarantine: Quarantine {
            from: Some(from),
            until,
            ..Quarantine::default()
        },
        ..sandbox("lab-1", Status::Quarantined)
    };
    for (from, until, expected) in [
        (Status::Available, None, None),
        (
            Status::Available,
            Some(at(60)),
            Some((62, PoolChange::Returned, 1)),
        ),
        (
            Status::Available,
            Some(at(-60)),
            Some((2, PoolChange::Returned, 1)),
        ),
        (Status::Stale, Some(at(60)), Some((62, PoolChange::Gone, 1))),
        (
            Status::Allocated,
            Some(at(60)),
            Some((65, PoolChange::Gone, 1)),
        ),
        (Status::Provisioning, Some(at(60)), None),
    ] {
        let tally = tally(&terms, &[], &[quarantined(from, until)], &timetable());
        assert_eq!(
            changes(&tally),
            expected.into_iter().collect::<Vec<_>>(),
            "{from}"
        );
        assert_eq!(counts(&tally), (0, 0, 1));
    }
}

#[test]
fn new_sandbox_is_expected_after_the_measured_time_from_its_creation() {
    let terms = terms();
    let mut listed = sandbox("lab-r000001", Status::Provisioning);
    listed.inserted_at = Some(NOW);
    // Found by its name, or by its id if that is known.
    let by_name = creation("lab-r000001", CreationState::Listed);
    let by_id = Creation {
        external_id: Some(listed.account.external_id.clone()),
        ..creation("another name", CreationState::Created)
    };
    for creations in [&[by_name][..], &[by_id][..]] {
        let tally = tally(
            &terms,
            creations,
            std::slice::from_ref(&listed),
            &timetable(),
        );
        assert_eq!(changes(&tally), [(3, PoolChange::Usable, 1)]);
        assert_eq!(counts(&tally), (0, 1, 1));
    }
    // Not created by refill: from what is known of the account.
    let unknown = tally(&terms, &[], std::slice::from_ref(&listed), &timetable());
    assert_eq!(changes(&unknown), [(4, PoolChange::Usable, 1)]);
    listed.account.created_at = Some(at(2));
    let created = tally(&terms, &[], std::slice::from_ref(&listed), &timetable());
    assert_eq!(changes(&created), [(6, PoolChange::Usable, 1)]);
    listed.inserted_at = None;
    listed.account.created_at = Some(at(-2));
    let created = tally(&terms, &[], std::slice::from_ref(&listed), &timetable());
    assert_eq!(changes(&created), [(2, PoolChange::Usable, 1)]);
}

#[test]
fn new_sandbox_of_an_old_account_is_not_overdue() {
    let terms = terms();
    let mut listed = sandbox("lab-1", Status::Provisioning);
    listed.account.created_at = Some(at(-90 * 24 * 60));
    listed.inserted_at = Some(at(-1));
    let tally = tally(&terms, &[], &[listed], &timetable());
    assert_eq!(changes(&tally), [(3, PoolChange::Usable, 1)]);
    assert_eq!(tally.overdue, 0);
}

#[test]
fn creation_without_a_sandbox_is_under_way() {
    let terms = terms();
    let creations = [
        creation("lab-r000001", CreationState::Attempted),
        creation("lab-r000002", CreationState::Created),
        creation("lab-r000003", CreationState::Listed),
        creation("lab-r000004", CreationState::Intended),
        Creation {
            listed_at: Some(at(-11)),
            ..creation("lab-r000005", CreationState::Listed)
        },
    ];
    let tally = tally(&terms, &creations, &[], &timetable());
    assert_eq!(counts(&tally), (0, 3, 3));
    assert_eq!(changes(&tally), [(3, PoolChange::Usable, 3)]);
    assert_eq!(tally.overdue, 0);
}

#[test]
fn sandbox_that_takes_longer_than_measured_is_not_relied_on() {
    let terms = terms();
    let late = |minutes: i64| Creation {
        attempted_at: Some(at(-minutes)),
        ..creation("lab-r000001", CreationState::Created)
    };
    for (minutes, given_up) in [(5, 25), (29, 1), (300, 1)] {
        let tally = tally(&terms, &[late(minutes)], &[], &timetable());
        assert_eq!(changes(&tally), [(given_up, PoolChange::GivenUp, 1)]);
        assert_eq!((counts(&tally), tally.overdue), ((0, 1, 1), 1));
    }
    // Without checks, a sync makes it available.
    let without_checks = Timetable {
        check_interval: None,
        ..timetable()
    };
    let unchecked = tally(&terms, &[late(5)], &[], &without_checks);
    assert_eq!(changes(&unchecked), [(10, PoolChange::Usable, 1)]);
    assert_eq!(unchecked.overdue, 0);
}

#[test]
fn nothing_becomes_usable_while_syncs_are_paused() {
    let terms = terms();
    let paused = Timetable {
        sync_from: at(120),
        ..timetable()
    };
    let creations = [creation("lab-r000001", CreationState::Created)];
    let tally = tally(&terms, &creations, &[], &paused);
    assert_eq!(changes(&tally), [(120, PoolChange::Usable, 1)]);
    assert_eq!(tally.outlook.usable_from, at(120));
}
