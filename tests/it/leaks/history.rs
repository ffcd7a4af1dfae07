//! The histories of labs, which cleanup writes.

use serde_json::{Value, json};

use super::{LAB, MINUTE, allocate, ids, page};
use crate::support::{Pool, Proxy, START, TestBroker, proxy::Fault, simulated_csp};

/// The number of plays whose durations count.
const PLAYS: usize = 20;

/// Boots a broker on a pool of 40 sandboxes, whose cleanup makes no pauses.
async fn broker(pool: &Pool, endpoint: &str) -> TestBroker {
    let (_, base_url) = simulated_csp(40).await;
    let variables = [
        ("DDB_ENDPOINT_URL", endpoint),
        ("CSP_BASE_URL", base_url.as_str()),
        ("CLEANUP_BATCH_DELAY_SEC", "0"),
        ("CLEANUP_BATCH_SIZE", "7"),
    ];
    let broker = pool.broker_with(&variables).await;
    broker.client.job("sync").await;
    broker
}

/// Runs [`PLAYS`] plays of the lab, each of 50 minutes, that release their sandboxes.
async fn play(broker: &TestBroker) {
    let callers: Vec<_> = (0..PLAYS).map(|number| format!("play-{number}")).collect();
    let mut held = Vec::new();
    for caller in &callers {
        held.push(allocate(broker, LAB, caller).await);
    }
    broker.clock.advance(MINUTE * 50);
    for (id, caller) in held.iter().zip(&callers) {
        assert_eq!(broker.client.release(id, caller).await.status, 200);
    }
}

async fn labs(broker: &TestBroker) -> Vec<Value> {
    let page = page(&broker.client, "").await;
    page["labs"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_has_the_durations_of_plays_that_released_their_sandboxes() {
    let pool = Pool::new().await;
    let broker = broker(&pool, pool.engine.endpoint()).await;
    let client = &broker.client;
    // Long plays that are not in the history: not released by their holder, replaced, or without a lab.
    let by_operator = allocate(&broker, LAB, "by-operator").await;
    let replaced = allocate(&broker, LAB, "replaced").await;
    allocate(&broker, LAB, "expires").await;
    allocate(&broker, "ipam-201", "expires-too").await;
    let no_lab = client.allocate("no-lab").await.sandbox_id();
    broker.clock.advance(MINUTE * 120);
    let new = client.replace(&replaced, "replaced").await.sandbox_id();
    play(&broker).await;
    let reason = json!({ "reason": "the student has left" });
    assert_eq!(
        client.act(&by_operator, "release", &reason).await.status,
        200
    );
    assert_eq!(client.release(&new, "replaced").await.status, 200);
    assert_eq!(client.release(&no_lab, "no-lab").await.status, 200);
    assert!(labs(&broker).await.is_empty(), "before cleanup");
    broker.clock.advance(MINUTE * 300);
    assert_eq!(client.job("auto-expire?force=true").await["expired"], 2);
    assert_eq!(client.job("cleanup").await["deleted"], PLAYS + 6);
    let [lab] = labs(&broker).await.try_into().unwrap();
    let count = lab["durations"].as_u64().unwrap();
    assert!((10..=PLAYS as u64).contains(&count), "{lab}");
    let now = START + MINUTE * (120 + 50 + 300);
    let expected = json!({
        "lab": LAB, "durations": count, "usual_sec": 3000, "suspected_after_sec": 4500, "updated_at": now
    });
    assert_eq!(lab, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn later_plays_of_a_lab_are_judged_by_its_history() {
    let pool = Pool::new().await;
    let broker = broker(&pool, pool.engine.endpoint()).await;
    play(&broker).await;
    broker.client.job("cleanup").await;
    let id = allocate(&broker, LAB, "left").await;
    broker.clock.advance(MINUTE * 75);
    assert_eq!(ids(&page(&broker.client, "").await), [""; 0]);
    broker.clock.advance(MINUTE);
    assert_eq!(ids(&page(&broker.client, "").await), [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_succeeds_if_no_history_can_be_written() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = broker(&pool, &proxy.endpoint()).await;
    play(&broker).await;
    proxy.until_quiet().await;
    // The first update of a run takes the lease. That of the history fails at all three attempts.
    proxy.inject_after(1, "UpdateItem", Fault::ServerError);
    proxy.inject_once("UpdateItem", Fault::ServerError);
    proxy.inject_once("UpdateItem", Fault::ServerError);
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["status"], &report["deleted"]),
        (&json!("completed"), &json!(PLAYS))
    );
    assert_eq!(proxy.injected()[&Fault::ServerError], 3);
    assert!(labs(&broker).await.is_empty());
}
