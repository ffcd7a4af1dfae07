mod random;

use std::time::Instant;

use super::*;
use crate::domain::{NamePrefix, PoolCreation};

const NOW: UnixSeconds = UnixSeconds(1_000_000);
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const PACE: RefillPace = RefillPace {
    batch: 5,
    interval: Duration::from_mins(1),
};

/// Returns a time after now.
fn after(seconds: i64) -> UnixSeconds {
    UnixSeconds(NOW.0 + seconds)
}

fn schedule(from: i64, to: i64, target_available: u32) -> ScheduledTarget {
    ScheduledTarget {
        from: after(from),
        to: after(to),
        target_available,
        lead: None,
    }
}

fn terms(target_available: u32, schedules: &[ScheduledTarget]) -> PoolTerms {
    PoolTerms {
        name_prefix: NamePrefix::parse("lab").unwrap(),
        target_available,
        max_total: None,
        schedules: schedules.to_vec(),
        create: Some(PoolCreation::default()),
    }
}

/// A pool of available sandboxes, whose new ones take four minutes.
fn pool(terms: &PoolTerms, available: u64) -> PoolOutlook {
    PoolOutlook {
        terms: terms.clone(),
        available,
        warming: 0,
        total: available,
        changes: PoolChanges::new(),
        time_to_available: Duration::from_mins(4),
        usable_from: NOW,
        creates_from: Ok(NOW),
    }
}

fn one(at: i64, pool: &PoolOutlook) -> PoolForecast {
    forecast(NOW, after(at), std::slice::from_ref(pool), Some(PACE)).remove(0)
}

#[test]
fn class_of_tomorrow_is_warm_when_it_begins() {
    let terms = terms(10, &[schedule(20 * HOUR, 22 * HOUR, 60)]);
    let pool = pool(&terms, 10);
    let before = one(20 * HOUR - 1, &pool);
    assert_eq!((before.target, before.shortfall), (10, None));
    let begin = one(20 * HOUR, &pool);
    assert_eq!((begin.target, begin.available, begin.created), (60, 60, 50));
    assert_eq!(begin.schedule, Some(terms.schedules[0]));
    assert_eq!(begin.shortfall, None);
    // The first ones are created 14 minutes before, and usable after 4.
    let between = one(20 * HOUR - 7 * MINUTE, &pool);
    assert!((11..60).contains(&between.available), "{between:?}");
    assert!(between.warming > 0, "{between:?}");
    let long_after = one(23 * HOUR, &pool);
    assert_eq!((long_after.target, long_after.available), (10, 60));
}

#[test]
fn pool_that_is_late_says_why_and_when_it_is_ready() {
    let terms = terms(0, &[schedule(5 * MINUTE, 2 * HOUR, 60)]);
    let begin = one(5 * MINUTE, &pool(&terms, 0));
    assert_eq!((begin.target, begin.available), (60, 5));
    let shortfall = begin.shortfall.unwrap();
    assert_eq!(shortfall.missing, 55);
    assert!(
        shortfall
            .reason
            .starts_with("The time is too short: refill creates at most 5")
    );
    // Twelve runs, the first in a minute, and four minutes.
    assert_eq!(shortfall.reached_at, Some(after(16 * MINUTE)));
    let later = one(14 * MINUTE, &pool(&terms, 0)).shortfall.unwrap();
    assert!(
        later.reason.starts_with("10 are being created then"),
        "{later:?}"
    );
    assert_eq!(one(16 * MINUTE, &pool(&terms, 0)).shortfall, None);
}

#[test]
fn class_that_ends_before_it_is_ready_is_never_ready() {
    let terms = terms(0, &[schedule(5 * MINUTE, 10 * MINUTE, 60)]);
    let shortfall = one(9 * MINUTE, &pool(&terms, 0)).shortfall.unwrap();
    assert_eq!(shortfall.reached_at, None);
}

#[test]
fn sandboxes_under_way_count_when_they_are_expected() {
    let terms = terms(10, &[]);
    let mut pool = PoolOutlook {
        warming: 4,
        total: 12,
        ..pool(&terms, 7)
    };
    for (at, change, count) in [
        (2 * MINUTE, PoolChange::Usable, 3),
        (3 * MINUTE, PoolChange::Returned, 1),
        (9 * MINUTE, PoolChange::GivenUp, 1),
    ] {
        pool.changes.insert((after(at), change), count);
    }
    let expected = [
        (119, 7, 4),
        (120, 10, 1),
        (180, 11, 1),
        (10 * MINUTE, 11, 0),
    ];
    for (at, available, warming) in expected {
        let forecast = one(at, &pool);
        assert_eq!(
            (forecast.available, forecast.warming),
            (available, warming),
            "{at}"
        );
        assert_eq!(forecast.available, 7 + forecast.arriving, "{at}");
        assert_eq!(forecast.created, 0, "{at}");
    }
    // One that is given up is replaced, and keeps its place.
    pool.changes.clear();
    pool.changes
        .insert((after(9 * MINUTE), PoolChange::GivenUp), 4);
    let replaced = one(13 * MINUTE, &pool);
    assert_eq!(
        (replaced.available, replaced.created, replaced.total),
        (10, 3, 15)
    );
}

#[test]
fn deletions_make_room_below_the_maximum() {
    let mut terms = terms(10, &[]);
    terms.max_total = Some(20);
    let mut pool = PoolOutlook {
        total: 20,
        ..pool(&terms, 4)
    };
    pool.changes.insert((after(HOUR), PoolChange::Gone), 2);
    pool.changes.insert((after(2 * HOUR), PoolChange::Gone), 9);
    let full = one(30 * MINUTE, &pool);
    let shortfall = full.shortfall.unwrap();
    assert_eq!((full.available, shortfall.missing), (4, 6));
    assert_eq!(
        shortfall.reason,
        "The pool will have 20 sandboxes in all statuses but stale, and its max_total is 20."
    );
    assert_eq!(shortfall.reached_at, Some(after(2 * HOUR + 4 * MINUTE)));
    let half = one(HOUR + 5 * MINUTE, &pool);
    assert_eq!((half.available, half.created, half.total), (6, 2, 20));
    let ready = one(2 * HOUR + 5 * MINUTE, &pool);
    assert_eq!((ready.available, ready.created, ready.total), (10, 6, 15));
}

#[test]
fn pool_that_nothing_fills_keeps_what_it_has() {
    let terms = terms(10, &[]);
    let reason = "REFILL_MODE is off.".to_owned();
    let off = PoolOutlook {
        creates_from: Err(reason.clone()),
        ..pool(&terms, 4)
    };
    for pace in [None, Some(PACE)] {
        let forecast = &forecast(NOW, after(9 * HOUR), std::slice::from_ref(&off), pace)[0];
        assert_eq!((forecast.available, forecast.created), (4, 0));
        let shortfall = forecast.shortfall.clone().unwrap();
        assert_eq!(
            (shortfall.reason, shortfall.reached_at),
            (reason.clone(), None)
        );
    }
}

#[test]
fn pause_of_refill_delays_its_creations() {
    let terms = terms(5, &[]);
    let paused = PoolOutlook {
        creates_from: Ok(after(HOUR)),
        ..pool(&terms, 0)
    };
    let during = one(30 * MINUTE, &paused).shortfall.unwrap();
    assert_eq!(during.reason, "Refill is paused until later.");
    assert_eq!(during.reached_at, Some(after(HOUR + 4 * MINUTE)));
    assert_eq!(one(HOUR + 4 * MINUTE, &paused).shortfall, None);
}

#[test]
fn nothing_becomes_available_while_syncs_are_paused() {
    let terms = terms(5, &[]);
    let mut pool = PoolOutlook {
        usable_from: after(HOUR),
        ..pool(&terms, 0)
    };
    let during = one(30 * MINUTE, &pool).shortfall.unwrap();
    assert_eq!(during.reached_at, Some(after(HOUR)));
    assert_eq!(one(HOUR, &pool).shortfall, None);
    pool.usable_from = UnixSeconds::NEVER;
    let forever = one(HOUR, &pool).shortfall.unwrap();
    assert_eq!((forever.missing, forever.reached_at), (5, None));
}

#[test]
fn pools_share_the_pace() {
    let terms = terms(50, &[]);
    let both = [pool(&terms, 0), pool(&terms, 0)];
    let at = |minutes: i64| {
        let forecasts = forecast(NOW, after(minutes * MINUTE), &both, Some(PACE));
        forecasts
            .iter()
            .map(|pool| pool.available)
            .collect::<Vec<_>>()
    };
    assert_eq!(at(5).iter().sum::<u64>(), 5);
    let half = at(14);
    assert_eq!(half.iter().sum::<u64>(), 50);
    assert!(half[0].abs_diff(half[1]) <= 1, "{half:?}");
    assert_eq!(at(24), [50, 50]);
}

#[test]
fn forecast_of_now_has_the_present_counts() {
    let terms = terms(10, &[]);
    let forecast = one(0, &pool(&terms, 3));
    assert_eq!((forecast.available, forecast.created), (3, 0));
    assert_eq!(forecast.shortfall.unwrap().missing, 7);
    assert!(super::forecast(NOW, after(HOUR), &[], Some(PACE)).is_empty());
}

#[test]
fn forecast_of_a_thousand_pools_with_schedules_is_cheap() {
    let pools: Vec<_> = (0..1_000)
        .map(|pool| {
            let schedules: Vec<_> = (1..=7_u32)
                .map(|day| {
                    let from = i64::from(day) * 20 * HOUR + pool * 7 % (4 * HOUR);
                    schedule(from, from + HOUR, 10 * day)
                })
                .collect();
            self::pool(&terms(5, &schedules), 0)
        })
        .collect();
    let began = Instant::now();
    let forecasts = forecast(NOW, after(7 * 24 * HOUR), &pools, Some(PACE));
    let took = began.elapsed();
    // The schedules want 70,000 sandboxes, so every run creates five until the last one is over, after 143 hours.
    let created: u64 = forecasts
        .iter()
        .map(|pool| pool.created + pool.warming)
        .sum();
    let at_most = 143 * 60 * 5;
    let tolerance = at_most / 50;
    assert!(created.abs_diff(at_most) <= tolerance, "{created}");
    assert!(took.as_secs() < 15, "{took:?}");
}

#[test]
fn forecast_of_twenty_million_creations_is_cheap() {
    let schedules: Vec<_> = (0..3)
        .map(|n| schedule(n * 9 * HOUR, 2_000 * HOUR, 100_000))
        .collect();
    let terms = terms(100_000, &schedules);
    let pools: Vec<_> = (0..200).map(|_| pool(&terms, 0)).collect();
    let pace = RefillPace {
        batch: 100,
        interval: Duration::from_secs(1),
    };
    let began = Instant::now();
    let forecasts = forecast(NOW, NOW + LONGEST_FORECAST, &pools, Some(pace));
    let took = began.elapsed();
    assert_eq!(forecasts[0].available, 100_000);
    assert!(took.as_secs() < 30, "{took:?}");
}
