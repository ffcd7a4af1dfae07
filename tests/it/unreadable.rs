//! Stored texts that the rules for input would reject, and unreadable items.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue::{self, N, Null, S};
use reqwest::Method;
use sandbox_broker::domain::LeaseTerms;
use serde_json::{Value, json};

use crate::support::{Pool, START, TestBroker, simulated_csp};

/// An attribute to set, or to remove.
type Attribute = (&'static str, Option<AttributeValue>);

async fn hold(pool: &Pool, id: &str, caller: &str) {
    let attributes = [
        ("status", Some(S("allocated".to_owned()))),
        ("allocated_to_track", Some(S(caller.to_owned()))),
        ("idempotency_key", Some(S(caller.to_owned()))),
        ("track_name", Some(S("Lab\t1".to_owned()))),
        ("allocated_at", Some(N(START.0.to_string()))),
    ];
    pool.rewrite_sandbox(id, &attributes).await;
}

async fn status(pool: &Pool, id: &str) -> &'static str {
    let sandboxes = pool.sandboxes().await;
    let found = sandboxes.iter().find(|sandbox| sandbox.id().as_str() == id);
    found.map_or("gone", |sandbox| sandbox.status.as_str())
}

async fn list(broker: &TestBroker, query: &str) -> Value {
    let path = format!("/v1/admin/sandboxes?{query}");
    broker.client.admin(Method::GET, &path).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_holder_outside_of_the_rules_for_input_is_treated_as_any_other() {
    let pool = Pool::with_names(["a", "b", "c", "d", "e"]).await;
    let long = "x".repeat(400);
    let callers = [
        ("a", "Jane Doe"),
        ("b", "tab\tin it"),
        ("c", long.as_str()),
        ("d", "null"),
        ("e", "学生 7"),
    ];
    for (id, caller) in callers {
        hold(&pool, id, caller).await;
    }
    let (_simulator, base_url) = simulated_csp(0).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    let client = &broker.client;
    assert_eq!(client.stats().await["allocated"], 5);
    let listed = list(&broker, "status=allocated").await;
    assert_eq!(
        (&listed["count"], &listed["unreadable"]),
        (&json!(5), &json!([]))
    );
    for (query, id) in [("q=jane%20d", "a"), ("q=tab%09in", "b"), ("q=xxxx", "c")] {
        let found = list(&broker, query).await;
        assert_eq!(found["sandboxes"][0]["sandbox_id"], id, "{query}");
    }
    // The migration at the start wrote their claims.
    for (id, caller) in [("a", "Jane Doe"), ("e", "学生 7")] {
        let repeated = client.allocate(caller).await;
        assert_eq!(
            (repeated.status.as_u16(), repeated.sandbox_id()),
            (200, id.to_owned())
        );
        assert_eq!(client.list(caller).await.json()["count"], 1);
        assert_eq!(client.release(id, caller).await.status, 200);
    }
    broker.clock.advance(Duration::from_hours(49));
    assert_eq!(client.job("auto-expire?force=true").await["expired"], 3);
    assert_eq!(client.job("cleanup").await["deleted"], 5);
    assert_eq!(status(&pool, "b").await, "gone");
}

/// Adds one item for each way to be unreadable to a pool with two sandboxes, and returns their number.
async fn spoil(pool: &Pool) -> u64 {
    let spoiled: [(&str, &[Attribute]); 6] = [
        ("no-status", &[("status", None)]),
        (
            "unknown-status",
            &[("status", Some(S("deleted".to_owned())))],
        ),
        ("no-start", &[("allocated_at", None)]),
        ("null-name", &[("name", Some(Null(true)))]),
        ("no-account", &[("external_id", None)]),
        ("another", &[("sandbox_id", Some(S("other".to_owned())))]),
    ];
    for (id, attributes) in spoiled {
        pool.add([id]).await;
        pool.rewrite_sandbox(id, attributes).await;
    }
    spoiled.len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_items_are_shown_with_their_faults() {
    let pool = Pool::of(2).await;
    let count = spoil(&pool).await;
    let broker = pool.broker().await;
    let (mut faults, mut sandboxes, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = list(&broker, &format!("limit=1&cursor={cursor}")).await;
        sandboxes += page["count"].as_u64().unwrap();
        faults.extend(page["unreadable"].as_array().unwrap().clone());
        match page["cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!((sandboxes, faults.len() as u64), (2, count));
    let of = |id: &str| {
        let key = format!("SBX#{id}");
        faults.iter().find(|item| item["key"] == key).unwrap()
    };
    assert_eq!(of("no-status")["fault"], "status: is missing");
    assert_eq!(
        of("unknown-status")["fault"],
        "status: unknown status \"deleted\""
    );
    assert_eq!(of("no-start")["fault"], "allocated_at: is missing");
    assert_eq!(of("null-name")["fault"], "name: is missing");
    assert_eq!(of("null-name")["attributes"]["name"], Value::Null);
    assert_eq!(
        of("null-name")["attributes"]["external_id"],
        "identity/accounts/null-name"
    );
    assert_eq!(of("another")["attributes"]["allocated_at"], 0);
    let found = list(&broker, "q=UNKNOWN-status").await;
    assert_eq!(found["unreadable"][0]["key"], "SBX#unknown-status");
    assert_eq!(
        (
            &found["count"],
            found["unreadable"].as_array().unwrap().len()
        ),
        (&json!(0), 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_items_are_counted_by_migration_and_sync() {
    let pool = Pool::of(2).await;
    let (_simulator, base_url) = simulated_csp(1).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    let client = &broker.client;
    assert_eq!(client.stats().await["unreadable"], 0);
    let count = spoil(&pool).await;
    let terms = LeaseTerms {
        lab_duration_hours: 4,
        inherited_hours: 48,
        grace: Duration::ZERO,
    };
    let migration = pool.store.migrate(terms, START).await.unwrap();
    assert_eq!(migration.unreadable as u64, count);
    pool.rewrite_sandbox("no-status", &[("status", Some(S("stale".to_owned())))])
        .await;
    let count = count - 1;
    assert_eq!(client.job("sync?force=true").await["unreadable"], count);
    assert_eq!(client.stats().await["unreadable"], count);
    broker.clock.advance(Duration::from_mins(1));
    let overview = client.overview().await;
    assert_eq!(overview["counts"]["unreadable"], count);
    let warnings = overview["warnings"].as_array().unwrap();
    let warning = warnings
        .iter()
        .find(|warning| warning["code"] == "items_unreadable");
    let message = warning.unwrap()["message"].as_str().unwrap();
    assert!(message.starts_with("5 items"), "{message}");
    let metrics = client.plain("/metrics").await.text;
    assert!(
        metrics.contains(&format!("broker_pool_unreadable {count}\n")),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_count_unreadable_items_and_process_the_others() {
    let pool = Pool::with_names(["a", "b", "c", "d"]).await;
    for id in ["a", "b", "c", "d"] {
        hold(&pool, id, id).await;
    }
    pool.rewrite_sandbox("b", &[("name", None)]).await;
    // No caller can release it, but it expires.
    pool.rewrite_sandbox("c", &[("allocated_to_track", None)])
        .await;
    let (_simulator, base_url) = simulated_csp(0).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    broker.clock.advance(Duration::from_hours(49));
    let report = broker.client.job("auto-expire").await;
    assert_eq!(
        (&report["expired"], &report["unreadable"]),
        (&json!(3), &json!(1))
    );
    pool.rewrite_sandbox("a", &[("external_id", None)]).await;
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["deleted"], &report["unreadable"]),
        (&json!(2), &json!(1))
    );
}
