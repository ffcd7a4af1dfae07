use proptest::prelude::*;

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_774_000_000);
const PACE: RefillPace = RefillPace {
    batch: 5,
    interval: Duration::from_mins(1),
};
const TAKES: Duration = Duration::from_mins(12);

fn ago(minutes: u64) -> UnixSeconds {
    NOW - Duration::from_mins(minutes)
}

fn counts(available: u64, provisioning: u64, allocated: u64) -> PoolCounts {
    PoolCounts {
        provisioning,
        available,
        allocated,
        ..PoolCounts::default()
    }
}

/// Returns the status of a pool with a target of 50 and a maximum of 120.
fn status(counts: PoolCounts, refill: Option<RefillProgress>) -> PoolStatus {
    after(Duration::ZERO, counts, refill)
}

/// Returns the status of the same pool, if more has been missing for so long than one run begins.
fn after(waited: Duration, counts: PoolCounts, refill: Option<RefillProgress>) -> PoolStatus {
    under(false, waited, counts, refill)
}

fn under(
    is_paused: bool,
    waited: Duration,
    counts: PoolCounts,
    refill: Option<RefillProgress>,
) -> PoolStatus {
    let terms = PoolTerms {
        name_prefix: NamePrefix::parse("lab-").unwrap(),
        target_available: 50,
        max_total: Some(120),
        schedules: Vec::new(),
        create: None,
    };
    let target = PoolTarget {
        target: 50,
        goal: 50,
        schedule: None,
    };
    let facts = PoolFacts {
        terms: &terms,
        target,
        counts,
        refill,
        waited,
        is_paused,
    };
    PoolStatus::at(NOW, facts, PACE, TAKES)
}

fn creations(under_way: u64, oldest: Option<UnixSeconds>) -> RefillProgress {
    RefillProgress {
        under_way,
        oldest,
        below_since: Some(ago(600)),
        ..RefillProgress::default()
    }
}

fn refused() -> Refusal {
    Refusal {
        reason: "HTTP 403: quota of accounts".to_owned(),
        since: Some(ago(20)),
    }
}

#[test]
fn pool_that_nothing_fills_is_watched_however_empty_it_is() {
    let status = status(counts(0, 0, 50), None);
    assert_eq!(
        (status.state, status.late_since),
        (PoolState::Watched, None)
    );
}

#[test]
fn pause_of_refill_is_the_reason_of_a_pool_that_would_be_filling() {
    let paused = |available, refill| {
        let status = under(true, Duration::ZERO, counts(available, 0, 0), Some(refill));
        (status.state, status.reason)
    };
    let reason = Some("refill is paused".to_owned());
    assert_eq!(paused(40, creations(0, None)), (PoolState::Filling, reason));
    assert_eq!(paused(50, creations(0, None)), (PoolState::Full, None));
    let refill = RefillProgress {
        refusal: Some(refused()),
        ..creations(0, None)
    };
    let stopped = (PoolState::Stopped, Some(refused().reason));
    assert_eq!(
        paused(40, refill),
        stopped,
        "the pause ends, the refusal may not"
    );
}

#[test]
fn pool_at_its_target_is_full_even_if_an_old_refusal_or_creation_is_left() {
    let refill = RefillProgress {
        refusal: Some(refused()),
        ..creations(1, Some(ago(600)))
    };
    let status = status(counts(50, 3, 10), Some(refill));
    assert_eq!(
        (status.state, status.reason, status.late_since),
        (PoolState::Full, None, None)
    );
}

#[test]
fn pool_with_traffic_is_below_its_target_all_the_time_without_being_late() {
    // Ten minutes of one allocation a minute, each replaced at once.
    let steady = status(counts(40, 6, 60), Some(creations(3, Some(ago(11)))));
    assert_eq!(
        (steady.state, steady.since),
        (PoolState::Filling, Some(ago(600)))
    );
}

#[test]
fn creation_that_takes_longer_than_the_pace_permits_makes_the_pool_late() {
    // Ten are missing: two runs, and the time until one is available.
    let permitted = 12 + 2;
    let at = |age| status(counts(40, 6, 60), Some(creations(4, Some(ago(age)))));
    assert_eq!(at(permitted).state, PoolState::Filling);
    let late = at(permitted + 1);
    assert_eq!(
        (late.state, late.since, late.late_since),
        (PoolState::Late, Some(ago(1)), Some(ago(1)))
    );
    assert_eq!(
        late.reason.unwrap(),
        format!(
            "a creation takes 12 minutes, and the oldest that is under way began at {}",
            ago(permitted + 1).iso()
        )
    );
}

#[test]
fn fast_creations_are_not_late_within_ten_minutes() {
    let fast = RefillProgress {
        time_to_available: Some(Duration::from_secs(30)),
        ..creations(1, Some(ago(10)))
    };
    assert_eq!(
        status(counts(49, 0, 0), Some(fast)).state,
        PoolState::Filling
    );
}

#[test]
fn pool_is_late_if_more_is_missing_for_long_than_one_run_begins() {
    // 30 are missing: six runs.
    let at = |waited, under_way| {
        let waited = Duration::from_mins(waited);
        after(waited, counts(20, 0, 0), Some(creations(under_way, None)))
    };
    assert_eq!(at(18, 0).state, PoolState::Filling);
    let late = at(19, 0);
    assert_eq!((late.state, late.since), (PoolState::Late, Some(ago(1))));
    assert!(late.is_waiting);
    let begun = at(19, 25);
    assert_eq!(begun.state, PoolState::Filling, "one run begins the rest");
    assert!(!begun.is_waiting);
}

#[test]
fn pool_is_late_if_for_long_no_creation_has_begun_of_the_few_that_are_missing() {
    let at = |waited, counts, under_way| {
        let refill = creations(under_way, None);
        after(Duration::from_mins(waited), counts, Some(refill))
    };
    let missing = counts(48, 0, 0);
    assert_eq!(at(12, missing, 0).state, PoolState::Filling);
    let late = at(14, missing, 0);
    assert!(late.is_waiting);
    assert_eq!((late.state, late.since), (PoolState::Late, Some(ago(1))));
    assert!(!at(14, missing, 1).is_waiting);
    assert!(!at(14, counts(47, 1, 0), 0).is_waiting);
}

#[test]
fn refusal_stops_a_pool_although_the_refused_creation_is_under_way() {
    let refill = RefillProgress {
        refusal: Some(refused()),
        ..creations(1, Some(ago(21)))
    };
    let stopped = status(counts(49, 0, 10), Some(refill.clone()));
    assert!(stopped.is_stopped());
    assert_eq!(
        (stopped.reason.as_deref(), stopped.since),
        (Some("HTTP 403: quota of accounts"), Some(ago(20)))
    );
    assert!(stopped.late_since.is_some(), "late as well");
    let enough = status(counts(45, 5, 10), Some(refill));
    assert!(!enough.is_stopped(), "nothing more is wanted");
}

#[test]
fn pool_at_its_maximum_is_not_late() {
    let mut full = counts(20, 0, 100);
    full.stale = 7;
    let at_maximum = status(full, Some(creations(0, None)));
    assert_eq!(
        (at_maximum.state, at_maximum.late_since),
        (PoolState::AtMaximum, None)
    );
    let last_ones = status(counts(20, 0, 90), Some(creations(10, Some(ago(1)))));
    assert_eq!(last_ones.state, PoolState::AtMaximum);
    let late = status(counts(20, 10, 90), Some(creations(0, Some(ago(99)))));
    assert_eq!(
        late.state,
        PoolState::Late,
        "those that it may have do not come"
    );
    let room = status(counts(20, 0, 99), Some(creations(0, None)));
    assert_eq!(room.state, PoolState::Filling);
}

#[test]
fn only_sandboxes_that_come_in_time_are_expected() {
    let all = counts(20, 30, 0);
    assert_eq!(expected_available(&all, &[]), 50, "without a policy");
    let filling = status(counts(20, 10, 0), Some(creations(5, Some(ago(1)))));
    let late = status(counts(0, 20, 0), Some(creations(9, Some(ago(99)))));
    assert_eq!(
        (filling.state, late.state),
        (PoolState::Filling, PoolState::Late)
    );
    let pools = [filling.clone(), late];
    assert_eq!(expected_available(&all, &pools), 20 + 10 + 5);
    assert_eq!(expected_available(&all, &[filling]), 20 + 30 + 5);
}

fn any_counts() -> impl Strategy<Value = PoolCounts> {
    prop::array::uniform7(0..80_u64).prop_map(|numbers| {
        let mut counts = PoolCounts::default();
        for (status, number) in crate::domain::Status::ALL.into_iter().zip(numbers) {
            counts.set(status, number);
        }
        counts
    })
}

fn any_progress() -> impl Strategy<Value = RefillProgress> {
    let time = || prop::option::of((0..2000_u64).prop_map(ago));
    (0..80_u64, time(), time(), any::<bool>()).prop_map(
        |(under_way, oldest, below_since, stops)| RefillProgress {
            under_way,
            oldest,
            below_since,
            refusal: stops.then(refused),
            time_to_available: None,
        },
    )
}

proptest! {
    /// The state says whether the pool has enough, and late is always a matter of what is missing.
    #[test]
    fn any_state_agrees_with_the_counts(
        counts in any_counts(), refill in prop::option::of(any_progress()), waited in 0..5000_u64,
    ) {
        let has_refill = refill.is_some();
        let status = after(Duration::from_secs(waited), counts, refill);
        prop_assert_eq!(status.state == PoolState::Watched, !has_refill);
        prop_assert_eq!(status.state == PoolState::Full, has_refill && counts.available >= 50);
        if status.late_since.is_some() {
            prop_assert!(counts.available < 50 && matches!(status.state, PoolState::Late | PoolState::Stopped));
        }
        prop_assert_eq!(status.since.is_some_and(|since| since > NOW), false);
        let expected = expected_available(&counts, &[status]);
        prop_assert!(expected >= counts.available);
    }
}
