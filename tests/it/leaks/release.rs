//! The release of leaks in one go.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::Method;
use serde_json::{Value, json};

use super::{LAB, MINUTE, allocate, release};
use crate::support::{ADMIN, BrokerClient, Pool, Proxy, START, audit};

/// An allocation that began at [`START`], as it was listed.
fn seen(id: &str) -> Value {
    json!({ "sandbox_id": id, "allocated_at": START, "expires_at": START + MINUTE * 240 })
}

/// Returns the outcome and the code of each release, after checking the counts of the outcomes.
async fn outcomes(client: &BrokerClient, allocations: &Value) -> Vec<(String, Value)> {
    let answer = release(client, allocations).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let results = body["results"].as_array().unwrap();
    assert_eq!(results.len(), allocations.as_array().unwrap().len());
    for outcome in ["released", "refused", "failed", "not_attempted"] {
        let count = results
            .iter()
            .filter(|result| result["outcome"] == outcome)
            .count();
        assert_eq!(body[outcome], count, "{body}");
    }
    for (result, allocation) in results.iter().zip(allocations.as_array().unwrap()) {
        assert_eq!(result["sandbox_id"], allocation["sandbox_id"]);
        assert_eq!(result["message"].is_null(), result["code"].is_null());
    }
    let outcome = |result: &Value| result["outcome"].as_str().unwrap().to_owned();
    results
        .iter()
        .map(|result| (outcome(result), result["code"].clone()))
        .collect()
}

/// Returns the status of a sandbox.
async fn status(pool: &Pool, id: &str) -> String {
    let sandboxes = pool.sandboxes().await;
    let found = sandboxes.iter().find(|sandbox| sandbox.id().as_str() == id);
    found.unwrap().status.to_string()
}

/// Waits until so many refusals are recorded, and returns their codes and targets, sorted.
async fn refusals(client: &BrokerClient, count: usize) -> Vec<(String, String)> {
    loop {
        let path = "/v1/admin/audit?action=sandbox.release&limit=100";
        let body = client.admin(Method::GET, path).await.json();
        let text = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
        let records = body["records"].as_array().unwrap().iter();
        let refused = records.filter(|record| record["outcome"] != "done");
        let mut found: Vec<_> = refused
            .inspect(|record| assert_eq!(record["reason"], "the class is over"))
            .map(|record| (text(record, "outcome"), text(record, "target")))
            .collect();
        if found.len() >= count {
            found.sort();
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_allocation_that_is_still_the_listed_one_is_released_with_its_record() {
    let pool = Pool::of(6).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let mut held = Vec::new();
    for caller in ["a", "b", "released", "extended", "damaged"] {
        held.push(allocate(&broker, LAB, caller).await);
    }
    broker.clock.advance(MINUTE);
    let newer = allocate(&broker, LAB, "newer").await;
    let [a, b, released, extended, damaged] = held.try_into().unwrap();
    assert_eq!(client.release(&released, "released").await.status, 200);
    let extension = json!({ "minutes": 300, "reason": "the class runs late" });
    assert_eq!(
        client.act(&extended, "extend", &extension).await.status,
        200
    );
    pool.rewrite_sandbox(&damaged, &[("name", Some(AttributeValue::Bool(true)))])
        .await;
    let without_end = json!({ "sandbox_id": b, "allocated_at": START });
    let list = json!([
        seen(&released),
        seen(&extended),
        seen(&a),
        seen(&newer),
        seen("nowhere"),
        seen(&damaged),
        without_end
    ]);
    let refused = |code: &str| ("refused".to_owned(), json!(code));
    let done = || ("released".to_owned(), Value::Null);
    assert_eq!(
        outcomes(client, &list).await,
        [
            refused("SANDBOX_PENDING_DELETION"),
            refused("ALLOCATION_CHANGED"),
            done(),
            refused("ALLOCATION_CHANGED"),
            refused("SANDBOX_NOT_FOUND"),
            refused("SANDBOX_UNREADABLE"),
            done(),
        ]
    );
    let target = |id: &str| format!("sandbox/{id}");
    let mut expected = [
        ("SANDBOX_PENDING_DELETION", target(&released)),
        ("ALLOCATION_CHANGED", target(&extended)),
        ("ALLOCATION_CHANGED", target(&newer)),
        ("SANDBOX_NOT_FOUND", target("nowhere")),
        ("SANDBOX_UNREADABLE", target(&damaged)),
    ]
    .map(|(code, target)| (code.to_owned(), target));
    expected.sort();
    assert_eq!(refusals(client, 5).await, expected);
    pool.rewrite_sandbox(
        &damaged,
        &[("name", Some(AttributeValue::S("lab".to_owned())))],
    )
    .await;
    for (id, expected) in [
        (&a, "pending_deletion"),
        (&b, "pending_deletion"),
        (&extended, "allocated"),
        (&newer, "allocated"),
        (&damaged, "allocated"),
    ] {
        assert_eq!(status(&pool, id).await, expected, "{id}");
    }
    for id in [&a, &b] {
        let [record] = audit::done_to(&pool, id).await.try_into().unwrap();
        assert_eq!(
            [&record["action"], &record["actor"], &record["reason"]],
            ["sandbox.release", "env-admin", "the class is over"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_between_read_and_write_keeps_the_allocation() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let id = allocate(&broker, LAB, "play").await;
    let gate = proxy.hold_operation("TransactWriteItems");
    let list = json!([seen(&id)]);
    let (found, ()) = tokio::join!(outcomes(&broker.client, &list), async {
        gate.wait_for_one().await;
        let later = AttributeValue::N((START + MINUTE * 300).to_string());
        pool.rewrite_sandbox(&id, &[("expires_at", Some(later))])
            .await;
        gate.open();
    });
    assert_eq!(found, [("refused".to_owned(), json!("ALLOCATION_CHANGED"))]);
    assert_eq!(status(&pool, &id).await, "allocated");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_releases_succeed_when_the_request_is_repeated() {
    let pool = Pool::of(2).await;
    let mut proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let list = json!([
        seen(&allocate(&broker, LAB, "a").await),
        seen(&allocate(&broker, LAB, "b").await)
    ]);
    proxy.switch_off().await;
    let failed = ("failed".to_owned(), json!("STORE_UNAVAILABLE"));
    assert_eq!(
        outcomes(&broker.client, &list).await,
        [failed.clone(), failed]
    );
    proxy.switch_on();
    for (outcome, code) in [
        ("released", Value::Null),
        ("refused", json!("SANDBOX_PENDING_DELETION")),
    ] {
        let expected = (outcome.to_owned(), code);
        assert_eq!(
            outcomes(&broker.client, &list).await,
            [expected.clone(), expected]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_names_1_to_500_valid_allocations_and_a_reason() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let id = allocate(&broker, LAB, "play").await;
    let others =
        |count: usize| (0..count).map(|number| seen(&format!("unknown-sandbox-{number:03}")));
    let found = outcomes(client, &others(499).chain([seen(&id)]).collect()).await;
    let unknown = ("refused".to_owned(), json!("SANDBOX_NOT_FOUND"));
    assert!(found[..499].iter().all(|outcome| *outcome == unknown));
    assert_eq!(found[499].0, "released");

    let too_many: Value = others(501).collect();
    for (allocations, fault) in [
        (json!([]), "allocations has 0 entries, and takes 1 to 500"),
        (too_many, "allocations has 501 entries"),
        (
            json!([{ "sandbox_id": " ", "allocated_at": 1 }]),
            "allocations[0].sandbox_id is empty",
        ),
        (
            json!([{ "sandbox_id": "1" }]),
            "missing field `allocated_at`",
        ),
        (
            json!([{ "sandbox_id": "1", "allocated_at": 1, "force": true }]),
            "unknown field `force`",
        ),
    ] {
        let answer = release(client, &allocations).await;
        assert_eq!(answer.code(), "INVALID_BODY");
        assert!(answer.message().contains(fault), "{answer:?}");
    }
    let request = client
        .request(Method::POST, "/v1/admin/leaks/release")
        .bearer_auth(ADMIN);
    let answer = client
        .send(request.json(&json!({ "allocations": [seen("1")] })))
        .await;
    assert!(
        answer.message().contains("missing field `reason`"),
        "{answer:?}"
    );
}
