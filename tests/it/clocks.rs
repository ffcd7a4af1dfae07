//! Clocks that were wrong, and are right again.

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::{
    csp::simulator::{Fault, FaultKind},
    domain::{SandboxId, Status},
    store::Change,
};
use serde_json::Value;

use crate::support::{Pool, START, TestBroker, simulated_csp, warning_codes};

const DAY: Duration = Duration::from_hours(24);

#[tokio::test(flavor = "multi_thread")]
async fn failures_under_a_fast_clock_do_not_stop_deletions_once_it_is_right() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(1).await;
    let broker = pool
        .broker_with(&[
            ("CSP_BASE_URL", &base_url),
            ("CIRCUIT_BREAKER_THRESHOLD", "1"),
        ])
        .await;
    broker.client.job("sync").await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    broker.client.release(&id, "play-1").await;
    simulator.inject([Fault::always(FaultKind::Status { code: 500 })]);
    broker.clock.set(START + DAY);
    assert_eq!(broker.client.job("cleanup").await["deferred"], 1);
    simulator.inject([]);
    broker.clock.set(START);
    assert_eq!(
        broker.client.job("cleanup").await["due"],
        1,
        "the next attempt is a day ahead"
    );
    broker.clock.advance(Duration::from_mins(1));
    assert_eq!(broker.client.job("cleanup").await["deleted"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_a_fast_clock_hide_no_later_run() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    broker.clock.set(START + DAY);
    broker.client.job("auto-expire").await;
    broker.clock.set(START);
    let job = &broker.client.overview().await["jobs"][2];
    assert_eq!(
        (&job["last_success_at"], &job["next_due_at"]),
        (&Value::Null, &START.0.into())
    );
    broker.client.job("auto-expire").await;
    broker.clock.advance(Duration::from_hours(1));
    let job = &broker.client.overview().await["jobs"][2];
    assert_eq!(job["last_run"]["started_at"], START.0);
    assert_eq!(
        (&job["last_success_at"], &job["is_overdue"]),
        (&START.0.into(), &true.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_a_fast_clock_are_left_out() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    broker.clock.set(START + DAY);
    broker.client.allocate("play-1").await;
    assert_eq!(broker.client.overview().await["allocations_last_hour"], 1);
    broker.clock.set(START);
    assert_eq!(broker.client.overview().await["allocations_last_hour"], 0);
    let answer = broker.client.admin(Method::GET, "/v1/admin/samples").await;
    // The broker's own one, of its start.
    let samples = answer.json()["samples"].clone();
    assert_eq!(samples.as_array().unwrap().len(), 1, "{samples}");
    assert!(samples[0]["at"].as_i64().unwrap() <= START.0, "{samples}");
    assert_eq!(samples[0]["allocations"], 0, "{samples}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_removed_or_stale_since_the_future_are_due() {
    let pool = Pool::of(1).await;
    let future = START + DAY * 10;
    let stale = [Change::MarkStale(
        SandboxId::parse("lab-adventure-0000").unwrap(),
        Status::Available,
    )];
    let made = pool.store.apply(None, &stale, 4, future).await.unwrap();
    assert_eq!(made, [true]);
    let (simulator, base_url) = simulated_csp(1).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    assert_eq!(broker.client.job("auto-delete-stale").await["deleted"], 1);

    broker.client.job("sync").await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    broker.client.release(&id, "play-1").await;
    simulator.inject([Fault::always(FaultKind::Forget)]);
    broker.clock.set(future);
    assert_eq!(broker.client.job("cleanup").await["deleted"], 1);
    simulator.inject([]);
    broker.clock.set(START);
    assert_eq!(
        broker.client.job("sync").await["reinstated"],
        1,
        "CSP still lists the account"
    );
}

const OVERDUE: Duration = Duration::from_hours(5);

/// Runs auto-expire and returns the numbers of retired and of deferred allocations.
async fn expire(broker: &TestBroker) -> (u64, u64) {
    let report = broker.client.job("auto-expire").await;
    let count = |name: &str| report[name].as_u64().unwrap();
    (count("expired"), count("deferred"))
}

async fn with_class(size: usize) -> (Pool, TestBroker) {
    let pool = Pool::of(size).await;
    let broker = pool.broker().await;
    for n in 0..size {
        broker.client.allocate(&format!("play-{n}")).await;
    }
    (pool, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_clock_ends_no_class() {
    let (pool, broker) = with_class(12).await;
    for wrong in [START + DAY, START + DAY + Duration::from_mins(9)] {
        broker.clock.set(wrong);
        assert_eq!(expire(&broker).await, (0, 12));
    }
    broker.clock.set(START + 2 * DAY);
    assert_eq!(
        expire(&broker).await,
        (0, 12),
        "no run was a day ago: the clock jumped"
    );
    broker.clock.set(START + DAY);
    assert_eq!(
        expire(&broker).await,
        (0, 12),
        "a time in the future confirms nothing"
    );
    broker.clock.set(START);
    assert_eq!(expire(&broker).await, (0, 0));
    broker.clock.set(START + DAY + Duration::from_mins(20));
    assert_eq!(
        expire(&broker).await,
        (0, 12),
        "the run under the right clock found the opposite"
    );
    assert_eq!(pool.holdings().await.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn overdue_class_is_retired_by_a_run_ten_minutes_after_the_first() {
    let (pool, broker) = with_class(12).await;
    let other = pool.broker().await;
    for broker in [&broker, &other] {
        broker.clock.advance(OVERDUE);
    }
    let first = broker.client.job("auto-expire").await;
    assert_eq!(first["deferred_since"], (START + OVERDUE).0);
    assert!(
        first["expiry_guard"]
            .as_str()
            .unwrap()
            .contains("12 of 12 allocations are overdue"),
        "{first}"
    );
    let overview = broker.client.overview().await;
    let codes = warning_codes(&overview);
    assert!(codes.contains(&"expiry_deferred"), "{overview}");
    other.clock.advance(Duration::from_secs(599));
    assert_eq!(expire(&other).await, (0, 12));
    other.clock.advance(Duration::from_secs(1));
    assert_eq!(expire(&other).await, (12, 0));
    assert!(pool.holdings().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn overdue_class_is_retired_at_once_by_force() {
    let (pool, broker) = with_class(12).await;
    broker.clock.advance(OVERDUE);
    assert_eq!(expire(&broker).await, (0, 12));
    let report = broker.client.job("auto-expire?force=true").await;
    assert_eq!(report["expired"], 12);
    assert!(pool.holdings().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn few_overdue_allocations_are_retired_at_once() {
    let (_pool, all_of_nine) = with_class(9).await;
    all_of_nine.clock.advance(OVERDUE);
    assert_eq!(expire(&all_of_nine).await, (9, 0));

    let pool = Pool::of(13).await;
    let six_of_twelve = pool.broker().await;
    for n in 0..12 {
        if n == 6 {
            six_of_twelve.clock.advance(OVERDUE);
        }
        six_of_twelve.client.allocate(&format!("play-{n}")).await;
    }
    assert_eq!(expire(&six_of_twelve).await, (6, 0));
}
