//! The code of a time-out names its cause.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;

use crate::support::{
    Answer, BrokerClient, Pool, Proxy, TestBroker,
    proxy::{Fault, Script},
};

/// Time-outs short enough for a test.
const TIMEOUT: (&str, &str) = ("ALLOCATE_TIMEOUT_MS", "1000");

async fn broker_behind_a_proxy(sandboxes: usize) -> (Pool, Proxy, TestBroker) {
    let pool = Pool::of(sandboxes).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = pool
        .broker_with(&[
            ("DDB_ENDPOINT_URL", &endpoint),
            TIMEOUT,
            ("BACKOFF_MAX_MS", "50"),
        ])
        .await;
    (pool, proxy, broker)
}

fn assert_store_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.code(), "STORE_UNAVAILABLE");
    assert_eq!(answer.header("retry-after"), Some("5"));
}

/// Sends allocations at once.
async fn class(client: &BrokerClient, callers: usize) -> Vec<Answer> {
    let allocations = (0..callers).map(|n| {
        let client = client.clone();
        async move { client.allocate(&format!("play-{n}")).await }
    });
    join_all(allocations).await
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_does_not_answer_writes_is_unavailable_to_allocations() {
    let (_pool, proxy, broker) = broker_behind_a_proxy(3).await;
    let _held = proxy.hold_operation("TransactWriteItems");
    // More callers than sandboxes: the others find every candidate reserved.
    for answer in class(&broker.client, 9).await {
        assert_store_unavailable(&answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_does_not_answer_at_all_is_unavailable_to_allocations() {
    let (_pool, proxy, broker) = broker_behind_a_proxy(200).await;
    let _held = proxy.hold(|_| true);
    // More callers than calls at once: the others wait for a slot.
    for answer in class(&broker.client, 150).await {
        assert_store_unavailable(&answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_does_not_answer_scans_is_unavailable_to_allocations() {
    let (_pool, proxy, broker) = broker_behind_a_proxy(0).await;
    let _held = proxy.hold_operation("Query");
    assert_store_unavailable(&broker.client.allocate("play-1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_attempts_are_contention_and_throttled_ones_are_not() {
    let (_pool, proxy, broker) = broker_behind_a_proxy(50).await;
    let always = |fault| Script {
        probabilities: BTreeMap::from([(fault, 1.0)]),
        ..Script::default()
    };
    proxy.play(always(Fault::Conflict));
    let lost = broker.client.allocate("play-1").await;
    assert_eq!(
        (lost.status.as_u16(), lost.code()),
        (503, "POOL_CONTENDED".into())
    );
    assert_eq!(lost.header("retry-after"), Some("1"));
    proxy.play(always(Fault::ThrottledItem));
    assert_store_unavailable(&broker.client.allocate("play-1").await);
    // Lost attempts do not hide that the database does not answer afterwards.
    proxy.play(always(Fault::Conflict));
    let client = broker.client.clone();
    let request = tokio::spawn(async move { client.allocate("play-1").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let held = proxy.hold(|_| true);
    assert_store_unavailable(&request.await.unwrap());
    held.open();
    proxy.calm();
    // The attempt that was held may have allocated.
    let answer = broker.client.allocate("play-1").await;
    assert!(answer.status.is_success(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_does_not_answer_is_unavailable_to_every_other_request() {
    let (_pool, proxy, broker) = broker_behind_a_proxy(1).await;
    let client = &broker.client;
    let id = client.allocate("play-1").await.sandbox_id();
    let _held = proxy.hold(|_| true);
    let (get, list, release, stats, overview, job) = tokio::join!(
        client.get(&id, "play-1"),
        client.list("play-1"),
        client.release(&id, "play-1"),
        client.admin(Method::GET, "/v1/admin/stats"),
        client.admin(Method::GET, "/v1/admin/overview"),
        client.admin(Method::POST, "/v1/admin/sync"),
    );
    for answer in [get, list, release, stats, overview, job] {
        assert_store_unavailable(&answer);
    }
    let ready = client.plain("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["checks"]["dynamodb"], "no answer within 2 s");
}
