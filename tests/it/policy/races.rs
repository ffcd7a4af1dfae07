//! Several writers of the policy, and writers whose answers get lost.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{POLICY, current, document, get, put, set};
use crate::support::{ADMIN, BrokerClient, Pool, Proxy, audit, proxy};

const WRITERS: u32 = 50;
const WITHOUT_LIMITS: [(&str, &str); 2] = [
    ("RATE_LIMIT_PER_SEC", "100000"),
    ("RATE_LIMIT_BURST", "1000000"),
];

/// Creates an admin of this name, and returns its token.
async fn admin(client: &BrokerClient, name: &str) -> String {
    let request = client
        .request(Method::POST, "/v1/admin/tokens")
        .bearer_auth(ADMIN);
    let body = json!({ "name": name, "role": "admin" });
    let answer = client.send(request.json(&body)).await;
    answer.json()["secret"].as_str().unwrap().to_owned()
}

/// Changes the policy to a document with the writer's number, reading it anew as often as others were faster. Returns the
/// number of the version that the writer made, and its attempts.
async fn write(client: &BrokerClient, token: &str, number: u32) -> (u64, u32) {
    let mut from = 0;
    for attempt in 1.. {
        let request = client
            .request(Method::PUT, POLICY)
            .bearer_auth(token)
            .header(header::IF_MATCH, from);
        let answer = client.send(request.json(&document(number))).await;
        if answer.status == 200 {
            return (answer.json()["version"].as_u64().unwrap(), attempt);
        }
        assert_eq!(answer.code(), "POLICY_CHANGED", "{answer:?}");
        from = current(client).await["version"].as_u64().unwrap();
    }
    unreachable!("a writer succeeds when all others have")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_fifty_writers_at_once_has_one_author_and_none_is_lost() {
    let pool = Pool::new().await;
    let (one, other) = tokio::join!(
        pool.broker_with(&WITHOUT_LIMITS),
        pool.broker_with(&WITHOUT_LIMITS)
    );
    // A token is known at once to the broker that created it.
    let client = |number: u32| [&one.client, &other.client][number as usize % 2];
    let mut tokens = Vec::new();
    for number in 1..=WRITERS {
        let token = admin(client(number), &format!("writer-{number}")).await;
        tokens.push((number, token));
    }
    let writers = tokens
        .iter()
        .map(|(number, token)| write(client(*number), token, *number));
    let written = join_all(writers).await;
    let attempts: u32 = written.iter().map(|(_, attempts)| attempts).sum();
    println!("{WRITERS} versions in {attempts} attempts");
    let versions: BTreeSet<_> = written.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=u64::from(WRITERS)).collect());

    let history = get(&one.client, "/history").await.json();
    assert_eq!(history["count"], WRITERS);
    let records = audit::done_actions(&pool, "policy.set").await;
    assert_eq!(records.len(), WRITERS as usize);
    for ((number, _), (version, _)) in tokens.iter().zip(&written) {
        let author = format!("writer-{number}");
        let stored = get(&one.client, &format!("?version={version}"))
            .await
            .json();
        assert_eq!(
            (&stored["author"], &stored["policy"]),
            (&author.as_str().into(), &document(*number))
        );
        let listed = history["versions"].as_array().unwrap();
        let listed = listed.iter().find(|listed| listed["version"] == *version);
        assert_eq!(listed.unwrap()["author"], author.as_str());
        let record = records
            .iter()
            .find(|record| record["actor"] == author.as_str());
        let record = record.unwrap();
        assert_eq!(
            (&record["before"]["version"], &record["after"]["version"]),
            (&(version - 1).into(), &(*version).into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_with_a_fault_makes_one_version_or_none() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    let faults = [
        proxy::Fault::DropRequest,
        proxy::Fault::DropAnswer,
        proxy::Fault::CutAnswer,
        proxy::Fault::Conflict,
        proxy::Fault::ThrottledItem,
    ];
    for (from, fault) in (0..).zip(faults) {
        proxy.inject_once("TransactWriteItems", fault);
        let answer = set(client, from, &document(60 + from)).await;
        assert_eq!(answer["version"], from + 1, "{fault:?}");
        assert_eq!(proxy.injected()[&fault], 1, "{fault:?}");
    }
    assert_eq!(audit::done_actions(&pool, "policy.").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_whose_answer_was_lost_is_repeated_with_the_same_version() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    // Every attempt of the SDK is executed or repeated, and none is answered.
    for _ in 0..3 {
        proxy.inject_once("TransactWriteItems", proxy::Fault::DropAnswer);
    }
    let lost = put(client, 0, &document(60)).await;
    assert_eq!(lost.code(), "STORE_UNAVAILABLE", "{lost:?}");
    let repeated = set(client, 0, &document(60)).await;
    assert_eq!(repeated["version"], 1);
    assert_eq!(audit::done_actions(&pool, "policy.").await.len(), 1);

    // No attempt is executed.
    for _ in 0..3 {
        proxy.inject_once("TransactWriteItems", proxy::Fault::DropRequest);
    }
    let failed = put(client, 1, &document(90)).await;
    assert_eq!(failed.code(), "STORE_UNAVAILABLE", "{failed:?}");
    assert_eq!(current(client).await["policy"], document(60));
    assert_eq!(set(client, 1, &document(90)).await["version"], 2);
    let late = put(client, 0, &document(60)).await;
    assert_eq!(late.code(), "POLICY_CHANGED", "it would undo version 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_document_makes_no_version_whatever_its_order_and_its_writer_expects() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    assert_eq!(set(client, 0, &json!({})).await["version"], 0);
    let ordered = |ids: [&str; 2]| {
        let lab = |id: &str| json!({ "id": id, "max_held": 3 });
        json!({ "lab": ids.map(lab), "defaults": {} })
    };
    let first = set(client, 0, &ordered(["a", "b"])).await;
    for from in [0, 1, 9] {
        let same = set(client, from, &ordered(["b", "a"])).await;
        let attributes = |answer: &Value| (answer["version"].clone(), answer["at"].clone());
        assert_eq!(attributes(&same), attributes(&first), "from {from}");
    }
    assert_eq!(audit::done_actions(&pool, "policy.").await.len(), 1);
    assert_eq!(get(client, "/history").await.json()["count"], 1);
}
