use super::*;

fn pool(prefix: &str, state: PoolState) -> PoolStatus {
    let is_late = state == PoolState::Late;
    PoolStatus {
        name_prefix: NamePrefix::parse(prefix).unwrap(),
        target: PoolTarget {
            target: 50,
            goal: 60,
            schedule: None,
        },
        target_available: 50,
        max_total: None,
        is_created: true,
        counts: PoolCounts {
            available: 7,
            provisioning: 3,
            ..PoolCounts::default()
        },
        refill: Some(RefillProgress {
            under_way: 2,
            time_to_available: is_late.then_some(Duration::from_mins(12)),
            ..RefillProgress::default()
        }),
        state,
        reason: None,
        since: None,
        late_since: is_late.then_some(UnixSeconds(1)),
        is_waiting: is_late,
    }
}

fn series(metrics: &Metrics) -> Vec<String> {
    let text = metrics.text();
    let lines = text.lines().filter(|line| line.contains("{pool="));
    lines.map(str::to_owned).collect()
}

#[test]
fn pool_has_a_series_of_each_gauge_while_it_is_in_the_policy() {
    let metrics = Metrics::new();
    let mut history = PoolHistory::default();
    history.report(&metrics, &[pool("a-", PoolState::Late)]);
    assert_eq!(
        series(&metrics),
        [
            "broker_pool_creations_under_way{pool=\"a-\"} 2",
            "broker_pool_late{pool=\"a-\"} 1",
            "broker_pool_ready{pool=\"a-\"} 7",
            "broker_pool_refill_stopped{pool=\"a-\"} 0",
            "broker_pool_target{pool=\"a-\"} 60",
            "broker_pool_time_to_available_seconds{pool=\"a-\"} 720",
            "broker_pool_warming{pool=\"a-\"} 3",
        ]
    );
    history.report(&metrics, &[pool("b-", PoolState::Stopped)]);
    let after = series(&metrics);
    assert!(after.iter().all(|line| line.contains("{pool=\"b-\"}")));
    assert_eq!(after.len(), 6, "its time is not known: {after:?}");
    assert!(after.contains(&"broker_pool_refill_stopped{pool=\"b-\"} 1".to_owned()));
    history.report(&metrics, &[]);
    assert!(series(&metrics).is_empty());
}

#[test]
fn pool_waits_from_the_count_on_that_found_too_much_missing() {
    let metrics = Metrics::new();
    let mut history = PoolHistory::default();
    let mut waiting_since = |state| {
        history.report(&metrics, &[pool("a-", state)]);
        let known = history.0.values().next().copied();
        known.and_then(|known| known.waiting_since)
    };
    assert_eq!(waiting_since(PoolState::Filling), None);
    let first = waiting_since(PoolState::Late);
    assert!(first.is_some());
    assert_eq!(waiting_since(PoolState::Late), first);
    assert_eq!(waiting_since(PoolState::Filling), None);
    assert!(waiting_since(PoolState::Late) > first);
}

#[test]
fn growth_is_that_of_the_last_hour() {
    let mut growth = HourlyGrowth::default();
    let start = Instant::now();
    let mut at = |minutes, total| growth.record(total, start + Duration::from_mins(minutes));
    assert_eq!(at(0, 10), 0, "what was before is not known");
    assert_eq!(at(30, 12), 2);
    assert_eq!(at(59, 13), 3);
    assert_eq!(at(90, 13), 1, "since minute 30");
    assert_eq!(at(200, 13), 0);
    assert_eq!(at(201, 4), 0, "the table was restored");
    assert_eq!(at(202, 5), 1);
}
