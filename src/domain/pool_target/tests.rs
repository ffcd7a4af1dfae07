use proptest::{collection, option, prelude::*};

use super::*;
use crate::domain::{NamePrefix, PoolCreation};

const HOUR: i64 = 3600;
const TEN: UnixSeconds = UnixSeconds(10 * HOUR);
const PACE: RefillPace = RefillPace {
    batch: 5,
    interval: Duration::from_mins(1),
};
const WARM_UP: Duration = Duration::from_mins(4);

fn schedule(from: i64, to: i64, target_available: u32) -> ScheduledTarget {
    ScheduledTarget {
        from: UnixSeconds(from),
        to: UnixSeconds(to),
        target_available,
        lead: None,
    }
}

fn pool(target_available: u32, schedules: &[ScheduledTarget]) -> PoolTerms {
    PoolTerms {
        name_prefix: NamePrefix::parse("lab").unwrap(),
        target_available,
        max_total: None,
        schedules: schedules.to_vec(),
        create: Some(PoolCreation::default()),
    }
}

fn supply(terms: &PoolTerms, available: u64) -> PoolSupply<'_> {
    PoolSupply {
        terms,
        available,
        time_to_available: WARM_UP,
    }
}

fn target(now: UnixSeconds, terms: &PoolTerms, available: u64) -> PoolTarget {
    PoolTarget::at(now, &[supply(terms, available)], Some(PACE))[0]
}

#[test]
fn largest_target_in_force_replaces_that_of_the_pool() {
    let (night, class, exam) = (
        schedule(0, 20 * HOUR, 2),
        schedule(10 * HOUR, 12 * HOUR, 60),
        schedule(11 * HOUR, 13 * HOUR, 80),
    );
    let terms = pool(50, &[night, class, exam]);
    for (at, expected, stated_by) in [
        (-1, 50, None),
        (0, 2, Some(night)),
        (10 * HOUR, 60, Some(class)),
        (11 * HOUR, 80, Some(exam)),
        (13 * HOUR - 1, 80, Some(exam)),
        (13 * HOUR, 2, Some(night)),
        (20 * HOUR, 50, None),
    ] {
        let target = target(UnixSeconds(at), &terms, 80);
        assert_eq!((target.target, target.goal), (expected, expected), "{at}");
        assert_eq!(target.schedule, stated_by, "{at}");
    }
}

#[test]
fn creation_for_a_schedule_begins_as_early_as_it_takes() {
    // 48 sandboxes: 10 runs, and 4 minutes until the last one is available.
    let class = schedule(10 * HOUR, 12 * HOUR, 60);
    let terms = pool(12, &[class]);
    let begin = TEN - Duration::from_mins(14);
    let before = target(begin - Duration::from_secs(1), &terms, 12);
    assert_eq!((before.target, before.goal), (12, 12));
    assert_eq!(before.schedule, None);
    let in_lead = target(begin, &terms, 12);
    assert_eq!((in_lead.target, in_lead.goal), (12, 60));
    assert_eq!(in_lead.schedule, Some(class));
    // Fewer are missing: later.
    assert_eq!(target(begin, &terms, 17).goal, 12);
    let minute_later = begin + Duration::from_mins(1);
    assert_eq!(target(minute_later, &terms, 17).goal, 60);
    // Nothing is missing: the lead is the time that one creation takes.
    assert_eq!(target(TEN - WARM_UP, &terms, 60).goal, 60);
}

#[test]
fn stated_lead_overrides_the_measured_one() {
    let class = ScheduledTarget {
        lead: Some(Duration::from_hours(2)),
        ..schedule(10 * HOUR, 12 * HOUR, 60)
    };
    let begin = TEN - Duration::from_hours(2);
    let mut terms = pool(0, &[class]);
    for create in [Some(PoolCreation::default()), None] {
        terms.create = create;
        for available in [0, 60, 1_000_000] {
            assert_eq!(target(begin, &terms, available).goal, 60);
            let earlier = begin - Duration::from_secs(1);
            assert_eq!(target(earlier, &terms, available).goal, 0);
        }
    }
    terms.schedules[0].lead = Some(Duration::ZERO);
    assert_eq!(target(TEN - Duration::from_secs(1), &terms, 0).goal, 0);
    assert_eq!(target(TEN, &terms, 0).goal, 60);
}

#[test]
fn schedule_ahead_does_not_lower_the_target() {
    let terms = pool(50, &[schedule(10 * HOUR, 12 * HOUR, 5)]);
    assert_eq!(target(TEN - Duration::from_secs(1), &terms, 0).goal, 50);
    assert_eq!(target(TEN, &terms, 0).goal, 5);
}

#[test]
fn pool_that_nothing_fills_has_no_lead() {
    let mut terms = pool(0, &[schedule(10 * HOUR, 12 * HOUR, 60)]);
    let just_before = TEN - Duration::from_secs(1);
    let without_pace = PoolTarget::at(just_before, &[supply(&terms, 0)], None);
    assert_eq!(without_pace[0].goal, 0);
    terms.create = None;
    assert_eq!(target(just_before, &terms, 0).goal, 0);
    assert_eq!(target(TEN, &terms, 0).goal, 60);
}

#[test]
fn pools_that_share_the_pace_begin_earlier() {
    let (a, b) = (
        pool(0, &[schedule(10 * HOUR, 12 * HOUR, 50)]),
        pool(0, &[schedule(10 * HOUR, 11 * HOUR, 50)]),
    );
    let mut watched = b.clone();
    watched.create = None;
    let goal = |now, other: &PoolTerms| {
        let targets = PoolTarget::at(now, &[supply(&a, 0), supply(other, 0)], Some(PACE));
        targets[0].goal
    };
    let alone = TEN - Duration::from_mins(14);
    let both = TEN - Duration::from_mins(24);
    let second = Duration::from_secs(1);
    assert_eq!(
        (goal(alone - second, &watched), goal(alone, &watched)),
        (0, 50)
    );
    assert_eq!((goal(both - second, &b), goal(both, &b)), (0, 50));
}

#[test]
fn sandboxes_that_are_missing_now_come_before_those_of_schedules_ahead() {
    let (soon, later) = (schedule(100, 200, 10), schedule(110, 200, 1_000));
    let target = |target, goal, schedule| PoolTarget {
        target,
        goal,
        schedule,
    };
    let base = target(100, 100, None);
    let (soon, later) = (target(0, 10, Some(soon)), target(5, 1_000, Some(later)));
    let in_order = [
        base.urgency(20),
        base.urgency(21),
        base.urgency(99),
        soon.urgency(9),
        later.urgency(5),
        later.urgency(999),
    ];
    assert!(
        in_order.is_sorted() && in_order[0].is_some(),
        "{in_order:?}"
    );
    assert!(later.urgency(4) < soon.urgency(0));
    for target in [base, soon, later] {
        assert_eq!(target.urgency(target.goal.into()), None);
        assert_eq!(target.urgency(u64::MAX), None);
    }
}

fn any_schedule() -> impl Strategy<Value = ScheduledTarget> {
    let lead = option::weighted(0.3, (0..120_u64).prop_map(Duration::from_mins));
    (0..48 * HOUR, 1..8 * HOUR, 0..100_u32, lead).prop_map(|(from, length, target, lead)| {
        ScheduledTarget {
            lead,
            ..schedule(from, from + length, target)
        }
    })
}

fn any_pool() -> impl Strategy<Value = PoolTerms> {
    let schedules = collection::vec(any_schedule(), 0..6);
    let create = option::weighted(0.8, Just(PoolCreation::default()));
    (0..100_u32, schedules, create).prop_map(|(target, schedules, create)| PoolTerms {
        create,
        ..pool(target, &schedules)
    })
}

fn any_pace() -> impl Strategy<Value = RefillPace> {
    (1..8_u32, 1..600_u64).prop_map(|(batch, seconds)| RefillPace {
        batch,
        interval: Duration::from_secs(seconds),
    })
}

/// Pools with their available sandboxes.
fn any_pools() -> impl Strategy<Value = Vec<(PoolTerms, u64)>> {
    collection::vec((any_pool(), 0..120_u64), 1..5)
}

fn supplies(pools: &[(PoolTerms, u64)]) -> Vec<PoolSupply<'_>> {
    let supplies = pools
        .iter()
        .map(|(terms, available)| supply(terms, *available));
    supplies.collect()
}

proptest! {
    #[test]
    fn target_is_stated_somewhere_and_the_goal_is_never_below_it(
        pools in any_pools(), now in -HOUR..60 * HOUR, pace in option::of(any_pace()),
    ) {
        let now = UnixSeconds(now);
        let targets = PoolTarget::at(now, &supplies(&pools), pace);
        prop_assert_eq!(targets.len(), pools.len());
        for (target, (terms, _)) in targets.iter().zip(&pools) {
            let in_force = terms.schedules.iter().filter(|s| s.from <= now && now < s.to);
            let largest = in_force.map(|s| s.target_available).max();
            prop_assert_eq!(target.target, largest.unwrap_or(terms.target_available));
            prop_assert!(target.goal >= target.target);
            if target.goal > target.target {
                let ahead = target.schedule.unwrap();
                prop_assert!(ahead.from > now && ahead.target_available == target.goal);
                prop_assert!(terms.schedules.contains(&ahead));
            }
            let stated = target.schedule.map_or(terms.target_available, |s| s.target_available);
            prop_assert_eq!(target.goal, stated);
        }
    }

    #[test]
    fn fewer_available_sandboxes_never_lower_the_goal(
        pools in any_pools(), fewer in collection::vec(0..120_u64, 5), now in -HOUR..60 * HOUR, pace in any_pace(),
    ) {
        let now = UnixSeconds(now);
        let many = PoolTarget::at(now, &supplies(&pools), Some(pace));
        let mut pools = pools;
        for ((_, available), fewer) in pools.iter_mut().zip(fewer) {
            *available = available.saturating_sub(fewer);
        }
        let few = PoolTarget::at(now, &supplies(&pools), Some(pace));
        for (few, many) in few.iter().zip(&many) {
            prop_assert!(few.goal >= many.goal, "{few:?} {many:?}");
        }
    }

    #[test]
    fn lead_that_has_begun_lasts_until_the_schedule_begins(
        class in any_schedule(), available in 0..120_u64, before in 0..10_000_u64, later in 0..10_000_u64, pace in any_pace(),
    ) {
        let terms = pool(0, &[class]);
        let at = |before| {
            let now = class.from - Duration::from_secs(before);
            PoolTarget::at(now, &[supply(&terms, available)], Some(pace))[0].goal
        };
        prop_assert!(at(before.min(later)) >= at(before.max(later)));
        prop_assert_eq!(at(0), class.target_available);
    }

    /// Runs refill over the pools, each sandbox available after the time that creations take.
    #[test]
    fn pools_are_warm_when_their_schedules_begin(
        targets in collection::vec((0..60_u32, 0..60_u64), 1..5), pace in any_pace(), offset in 0..600_i64,
    ) {
        let terms: Vec<_> = targets
            .iter()
            .map(|(target, _)| pool(0, &[schedule(100 * HOUR, 101 * HOUR, *target)]))
            .collect();
        let mut available: Vec<u64> = targets.iter().map(|(_, available)| *available).collect();
        let mut made: Vec<Vec<UnixSeconds>> = vec![Vec::new(); terms.len()];
        let start = UnixSeconds(99 * HOUR + offset);
        let mut now = start - pace.time_to_create(300, WARM_UP);
        while now < UnixSeconds(100 * HOUR) {
            for (available, made) in available.iter_mut().zip(&mut made) {
                let usable = made.extract_if(.., |at| *at + WARM_UP <= now).count();
                *available += usable as u64;
            }
            let pools: Vec<_> = terms.iter().zip(&available).map(|(terms, n)| supply(terms, *n)).collect();
            let targets = PoolTarget::at(now, &pools, Some(pace));
            for _ in 0..pace.batch {
                let turn = |pool: &usize| targets[*pool].urgency(available[*pool] + made[*pool].len() as u64);
                let next = (0..terms.len()).filter(|pool| turn(pool).is_some()).min_by_key(turn);
                if let Some(pool) = next {
                    made[pool].push(now);
                }
            }
            now = now + pace.interval;
        }
        for ((target, before), (available, made)) in targets.iter().zip(available.iter().zip(&made)) {
            let usable = made.iter().filter(|at| **at + WARM_UP <= UnixSeconds(100 * HOUR)).count() as u64;
            prop_assert_eq!(available + usable, (*before).max((*target).into()));
        }
    }
}
