//! A policy that cannot be read: the last known version stays in force.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use super::{document, get, put, set, status};
use crate::support::{BrokerClient, Pool, Proxy, TestBroker, key, proxy, warning_codes};

/// Waits until the policy in this broker has the version and a fault that contains `fault`, or none.
async fn until(client: &BrokerClient, version: u32, fault: Option<&str>) -> Value {
    let is_expected = |policy: &Value| {
        let found = policy["fault"].as_str();
        let is_fault = match fault {
            Some(fault) => found.is_some_and(|found| found.contains(fault)),
            None => found.is_none(),
        };
        is_fault && policy["version"] == version
    };
    for _ in 0..1500 {
        let policy = status(client).await;
        if is_expected(&policy) {
            return policy;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{}, not {fault:?}", status(client).await)
}

async fn gauge(client: &BrokerClient, name: &str) -> i64 {
    let metrics = client.plain("/metrics").await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

async fn damage(pool: &Pool, sort: &str, attribute: &str, value: Option<AttributeValue>) {
    pool.rewrite(&pool.companion, key("POLICY", sort), &[(attribute, value)])
        .await;
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: u32) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn last_known_version_stays_in_force_while_the_table_cannot_be_read() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let elsewhere = pool.broker().await;
    set(&elsewhere.client, 0, &document(30)).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    let gate = proxy.hold(proxy::Call::reads_policy);
    set(&elsewhere.client, 1, &document(60)).await;
    until(client, 1, Some("the database is unavailable")).await;
    assert_eq!(gauge(client, "broker_policy_readable").await, 0);
    assert_eq!(gauge(client, "broker_policy_version").await, 1);
    assert!(warning_codes(&client.overview().await).contains(&"policy_unreadable"));
    let body = client.allocate_in("cloud-101", "play-1").await.json();
    let time = |name: &str| body[name].as_i64().unwrap();
    assert_eq!(time("expires_at") - time("allocated_at"), 30 * 60);
    gate.open();
    until(client, 2, None).await;
    assert_eq!(gauge(client, "broker_policy_readable").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_version_is_not_in_force_until_another_one_replaces_it() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set(client, 0, &document(30)).await;
    // As if a version had been put in force by hand.
    damage(&pool, "V#0000000002", "document", Some(text("{"))).await;
    damage(&pool, "CURRENT", "version", Some(number(2))).await;
    let policy = until(client, 1, Some("V#0000000002")).await;
    assert_eq!(policy["author"], "env-admin");

    let unreadable = get(client, "").await;
    assert_eq!(
        (unreadable.status.as_u16(), unreadable.code().as_str()),
        (409, "POLICY_UNREADABLE")
    );
    assert!(
        unreadable.message().contains("V#0000000002"),
        "{unreadable:?}"
    );
    assert_eq!(
        get(client, "?version=1").await.json()["policy"],
        document(30)
    );
    let history = get(client, "/history").await.json();
    assert_eq!(history["versions"][0]["author"], "unknown", "{history}");

    // A broker that starts now has no earlier version to go on with.
    let started = pool.broker().await;
    let policy = status(&started.client).await;
    assert_eq!(policy["version"], 0);
    assert!(policy["fault"].as_str().unwrap().contains("V#0000000002"));
    assert_eq!(gauge(&started.client, "broker_policy_readable").await, 0);

    assert_eq!(put(client, 1, &document(60)).await.code(), "POLICY_CHANGED");
    assert_eq!(set(client, 2, &document(60)).await["version"], 3);
    until(client, 3, None).await;
    until(&started.client, 3, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_each_item_leaves_the_last_known_version_in_force() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set(client, 0, &document(30)).await;
    for (attribute, value) in [
        ("version", None),
        ("version", Some(text("two"))),
        ("version", Some(number(0))),
        ("author", Some(number(3))),
        ("at", None),
    ] {
        let before = pool.items_of(&pool.companion).await;
        let before = before
            .iter()
            .find(|item| item["SK"].as_s().unwrap() == "CURRENT");
        let before = before.unwrap().get(attribute).cloned();
        damage(&pool, "CURRENT", attribute, value).await;
        until(client, 1, Some("the item POLICY / CURRENT")).await;
        let answer = get(client, "").await;
        assert_eq!(
            answer.code(),
            "POLICY_UNREADABLE",
            "{attribute}: {answer:?}"
        );
        let answer = put(client, 1, &document(60)).await;
        assert_eq!(
            answer.code(),
            "POLICY_UNREADABLE",
            "{attribute}: {answer:?}"
        );
        damage(&pool, "CURRENT", attribute, before).await;
        until(client, 1, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_policy_stays_in_force_until_a_new_one_begins() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set(client, 0, &document(30)).await;
    set(client, 1, &document(60)).await;
    for sort in ["CURRENT", "V#0000000001", "V#0000000002"] {
        let delete = pool.client.delete_item().table_name(&pool.companion);
        let delete = delete.set_key(Some(key("POLICY", sort)));
        delete.send().await.unwrap();
    }
    until(client, 2, Some("the item POLICY / CURRENT is missing")).await;
    assert_eq!(get(client, "").await.json()["version"], 0);
    assert_eq!(set(client, 0, &document(90)).await["version"], 1);
    until(client, 1, None).await;
    let from_backup = TestBroker::boot(pool.variables(&[])).await;
    assert_eq!(status(&from_backup.client).await["version"], 1);
    assert_eq!(
        get(client, "/history").await.json()["versions"][0]["version"],
        json!(1)
    );
}
