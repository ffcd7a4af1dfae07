//! Random pools, compared with a plainer simulation.

use proptest::{collection, option, prelude::*};

use super::*;
use crate::domain::{PoolSupply, PoolTarget};

/// Follows every run of refill and every second of a change, in the plainest way.
fn run_by_run(pools: &[PoolOutlook], at: UnixSeconds, pace: RefillPace) -> Vec<(u64, u64, u64)> {
    let mut state: Vec<_> = pools
        .iter()
        .map(|pool| {
            (
                pool.available,
                pool.warming,
                pool.total,
                pool.changes.clone(),
            )
        })
        .collect();
    let settle = |state: &mut Vec<(u64, u64, u64, PoolChanges)>, until| {
        for (available, warming, total, changes) in state {
            for ((_, change), count) in changes.extract_if(.., |(at, _), _| *at <= until) {
                match change {
                    PoolChange::Gone => *total = total.saturating_sub(count),
                    PoolChange::GivenUp => *warming = warming.saturating_sub(count),
                    PoolChange::Returned => *available += count,
                    PoolChange::Usable | PoolChange::Created => {
                        *warming = warming.saturating_sub(count);
                        *available += count;
                    }
                }
            }
        }
    };
    let mut now = NOW + pace.interval;
    while now <= at {
        settle(&mut state, now);
        let supplies: Vec<_> = pools
            .iter()
            .zip(&state)
            .map(|(pool, (available, ..))| PoolSupply {
                terms: &pool.terms,
                available: *available,
                time_to_available: pool.time_to_available,
            })
            .collect();
        let targets = PoolTarget::at(now, &supplies, Some(pace));
        for _ in 0..pace.batch {
            let turn = |index: &usize| {
                let (pool, (available, warming, total, _)) = (&pools[*index], &state[*index]);
                let has_room = pool.terms.max_total.is_none_or(|max| *total < max.into());
                let may = has_room && pool.creates_from.as_ref().is_ok_and(|from| *from <= now);
                targets[*index].urgency(available + warming).filter(|_| may)
            };
            let indexes = (0..pools.len()).filter(|index| turn(index).is_some());
            let Some(index) = indexes.min_by_key(|index| turn(index)) else {
                break;
            };
            let (_, warming, total, changes) = &mut state[index];
            *warming += 1;
            *total += 1;
            let usable_at = now + pools[index].time_to_available;
            let usable_at = usable_at.max(pools[index].usable_from);
            *changes.entry((usable_at, PoolChange::Created)).or_default() += 1;
        }
        now = now + pace.interval;
    }
    settle(&mut state, at);
    state
        .into_iter()
        .map(|(available, warming, total, _)| (available, warming, total))
        .collect()
}

fn any_terms() -> impl Strategy<Value = PoolTerms> {
    let schedule = (
        -2 * HOUR..6 * HOUR,
        1..3 * HOUR,
        0..40_u32,
        option::weighted(0.3, 0..60_u64),
    );
    let schedules = collection::vec(
        schedule.prop_map(|(from, length, target, lead)| ScheduledTarget {
            lead: lead.map(Duration::from_mins),
            ..schedule_of(from, length, target)
        }),
        0..4,
    );
    (0..30_u32, option::of(20..60_u32), schedules).prop_map(|(target, max_total, schedules)| {
        PoolTerms {
            max_total,
            ..terms(target, &schedules)
        }
    })
}

fn schedule_of(from: i64, length: i64, target: u32) -> ScheduledTarget {
    schedule(from, from + length, target)
}

/// The facts of a pool beside its terms: counts, changes, the time that creations take, and from when sandboxes can become
/// available and be created.
type Facts = (
    u64,
    u64,
    u64,
    Vec<(i64, PoolChange)>,
    (u64, i64),
    Option<i64>,
);

fn any_facts() -> impl Strategy<Value = Facts> {
    let change = prop_oneof![
        Just(PoolChange::Gone),
        Just(PoolChange::GivenUp),
        Just(PoolChange::Usable),
        Just(PoolChange::Returned),
    ];
    let changes = collection::vec((0..8 * HOUR, change), 0..12);
    let creates_from = option::weighted(0.9, prop_oneof![4 => Just(0), 1 => 0..4 * HOUR]);
    let times = (0..1_800_u64, prop_oneof![4 => Just(0), 1 => 0..4 * HOUR]);
    (0..30_u64, 0..6_u64, 0..20_u64, changes, times, creates_from)
}

fn outlook(terms: &PoolTerms, facts: &Facts) -> PoolOutlook {
    let (available, warming, other, changes, (seconds, usable_from), creates_from) = facts;
    let mut counted = PoolChanges::new();
    for (at, change) in changes {
        *counted.entry((after(*at), *change)).or_default() += 1;
    }
    PoolOutlook {
        terms: terms.clone(),
        available: *available,
        warming: *warming,
        total: available + warming + other,
        changes: counted,
        time_to_available: Duration::from_secs(*seconds),
        usable_from: after(*usable_from),
        creates_from: creates_from.map(after).ok_or_else(|| "off".to_owned()),
    }
}

proptest! {
    #[test]
    fn forecast_equals_that_of_every_single_run(
        pools in collection::vec((any_terms(), any_facts()), 1..4), at in 0..8 * HOUR, batch in 1..8_u32, interval in 20..400_u64,
    ) {
        let pace = RefillPace { batch, interval: Duration::from_secs(interval) };
        let outlooks: Vec<_> = pools.iter().map(|(terms, facts)| outlook(terms, facts)).collect();
        let forecasts = forecast(NOW, after(at), &outlooks, Some(pace));
        let expected = run_by_run(&outlooks, after(at), pace);
        for (forecast, expected) in forecasts.iter().zip(expected) {
            prop_assert_eq!((forecast.available, forecast.warming, forecast.total), expected);
        }
        for (forecast, pool) in forecasts.iter().zip(&outlooks) {
            prop_assert_eq!(forecast.available, pool.available + forecast.arriving + forecast.created);
            let max = pool.terms.max_total.map_or(u64::MAX, u64::from);
            prop_assert!(forecast.total <= max.max(pool.total));
            let missing = u64::from(forecast.target).saturating_sub(forecast.available);
            let shortfall = forecast.shortfall.clone();
            prop_assert_eq!(shortfall.as_ref().map_or(0, |shortfall| shortfall.missing), missing);
            if let Some(Shortfall { reason, reached_at, .. }) = shortfall {
                prop_assert!(!reason.is_empty());
                prop_assert!(reached_at.is_none_or(|reached_at| reached_at > after(at)));
            }
        }
    }

    #[test]
    fn later_forecast_never_has_fewer_and_agrees_with_the_time_of_a_shortfall(
        pools in collection::vec((any_terms(), any_facts()), 1..4), at in 0..8 * HOUR, later in 0..HOUR,
    ) {
        let outlooks: Vec<_> = pools.iter().map(|(terms, facts)| outlook(terms, facts)).collect();
        let first = forecast(NOW, after(at), &outlooks, Some(PACE));
        let second = forecast(NOW, after(at + later), &outlooks, Some(PACE));
        for (index, (first, second)) in first.iter().zip(&second).enumerate() {
            prop_assert!(first.available <= second.available);
            let reached_at = first.shortfall.as_ref().and_then(|shortfall| shortfall.reached_at);
            if let Some(reached_at) = reached_at {
                let available = |at| forecast(NOW, at, &outlooks, Some(PACE))[index].available;
                prop_assert!(available(reached_at) >= first.target.into());
                prop_assert!(available(reached_at - Duration::from_secs(1)) < first.target.into());
            }
        }
    }
}
