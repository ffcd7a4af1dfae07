//! The new sandbox and its allocation, and what is left of the old one.

use aws_sdk_dynamodb::types::AttributeValue::{N, S};
use reqwest::Method;
use serde_json::json;

use super::{HOUR, claim, details};
use crate::support::{ADMIN, Answer, BrokerClient, Pool, START, TRACK, simulated_csp};

fn expires_at(answer: &Answer) -> i64 {
    answer.json()["expires_at"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn holder_receives_another_sandbox_on_the_terms_of_its_allocation() {
    let pool = Pool::with_names(["lab-1", "lab-2", "other-1", "other-2"]).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let request = client
        .allocation_in("cloud-101", "play-1")
        .header("X-Sandbox-Name-Prefix", "lab-")
        .header("Idempotency-Key", "first-host");
    let old = client.send(request).await.sandbox_id();
    broker.clock.advance(HOUR);
    let answer = client.replace(&old, "play-1").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let new = answer.sandbox_id();
    assert!(new != old && new.starts_with("lab-"), "{new}");
    assert_eq!(answer.json()["allocated_at"], (START + HOUR).0);
    assert_eq!(expires_at(&answer), (START + HOUR * 5).0);

    let of_new = details(client, &new).await;
    let sandbox = &of_new["sandbox"];
    assert_eq!(sandbox["status"], "allocated");
    assert_eq!(sandbox["allocated_to_track"], "play-1");
    assert_eq!(sandbox["idempotency_key"], "first-host");
    assert_eq!(sandbox["track_name"], "cloud-101");
    assert_eq!(sandbox["name_prefix"], "lab-");
    assert_eq!(sandbox["replaces"], old);
    let of_old = details(client, &old).await;
    let sandbox = &of_old["sandbox"];
    assert_eq!(sandbox["status"], "pending_deletion");
    assert_eq!(sandbox["replaced_by"], new);
    assert_eq!(sandbox["replacement_reason"], "DNS does not resolve");
    assert_eq!(sandbox["released_by"], "env-track");
    assert_eq!(pool.holdings().await["play-1"], [new.as_str()]);
    let claim = claim(&pool).await;
    assert_eq!(claim["sandbox_id"], S(new));
    assert_eq!(claim["replacements"], N("1".to_owned()));
    let metrics = client.plain("/metrics").await.text;
    let counted = "broker_replacements_total{outcome=\"success\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_allocation_has_the_time_of_the_lab_and_at_least_that_of_the_old_one() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let first = client.allocate("play-1").await.sandbox_id();
    let body = json!({ "minutes": 720, "reason": "the class runs late" });
    let extended = client.act(&first, "extend", &body).await;
    assert_eq!(extended.status, 200, "{extended:?}");
    let second = client.replace(&first, "play-1").await;
    assert_eq!(expires_at(&second), (START + HOUR * 12).0);
    broker.clock.advance(HOUR * 11);
    let third = client.replace(&second.sandbox_id(), "play-1").await;
    assert_eq!(expires_at(&third), (START + HOUR * 15).0);
    // The end of the old ones is past, and does not concern the new one.
    broker.clock.advance(HOUR * 3);
    let report = client.job("auto-expire?force=true").await;
    assert_eq!(report["expired"], 0, "{report}");
    assert_eq!(client.allocate("play-1").await.json(), third.json());
    let late = client.act(&second.sandbox_id(), "extend", &body).await;
    assert_eq!(late.code(), "SANDBOX_PENDING_DELETION");
}

#[tokio::test(flavor = "multi_thread")]
async fn timeline_tells_the_replacement_of_both_sandboxes() {
    let pool = Pool::of(2).await;
    let (_simulator, base_url) = simulated_csp(0).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    let client = &broker.client;
    let old = client.allocate("play-1").await.sandbox_id();
    broker.clock.advance(HOUR);
    let new = client.replace(&old, "play-1").await.sandbox_id();
    let event = async |id: &str, name: &str| {
        let details = details(client, id).await;
        let events = details["events"].as_array().unwrap();
        let found = events.iter().find(|event| event["action"] == name);
        found
            .unwrap_or_else(|| panic!("no {name}: {details:#}"))
            .clone()
    };
    for deleted in [false, true] {
        if deleted {
            client.job("cleanup").await;
        }
        let replaced = event(&old, "replaced").await;
        assert_eq!(replaced["actor"], "env-track");
        assert_eq!(replaced["reason"], "DNS does not resolve");
        assert_eq!(replaced["after"]["replaced_by"], new);
        assert_eq!(replaced["at"], (START + HOUR).0, "{replaced}");
        assert_eq!(event(&new, "allocated").await["after"]["replaces"], old);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_replaces_within_its_bounds_only() {
    let pool = Pool::with_names(["lab-a-1", "lab-a-2", "lab-b-1", "other-1", "other-2"]).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let mut tokens = Vec::new();
    for (name, bounds) in [
        ("lab", json!({ "labs": ["one"] })),
        ("other-lab", json!({ "labs": ["two"] })),
        ("prefix", json!({ "name_prefixes": ["lab-a"] })),
    ] {
        let mut body = json!({ "name": name, "role": "track" });
        body.as_object_mut()
            .unwrap()
            .extend(bounds.as_object().unwrap().clone());
        let request = client
            .request(Method::POST, "/v1/admin/tokens")
            .bearer_auth(ADMIN);
        let answer = client.send(request.json(&body)).await.json();
        tokens.push(answer["secret"].as_str().unwrap().to_owned());
    }
    let request = client
        .allocation_in("one", "play-1")
        .header("X-Sandbox-Name-Prefix", "lab-");
    let mut current = client.send(request).await.sandbox_id();
    let replace = async |id: &str, token: &str| {
        let request = client.request(Method::POST, &format!("/v1/sandboxes/{id}/replace"));
        let request = request.header("X-Instruqt-Sandbox-ID", "play-1");
        let body = json!({ "reason": "broken" });
        client.send(request.bearer_auth(token).json(&body)).await
    };
    assert_eq!(
        replace(&current, &tokens[1]).await.code(),
        "LAB_NOT_ALLOWED"
    );
    let first = current.clone();
    current = replace(&first, &tokens[0]).await.sandbox_id();
    assert!(current.starts_with("lab-"), "{current}");
    // A repeated request by another principal.
    assert_eq!(replace(&first, &tokens[1]).await.code(), "LAB_NOT_ALLOWED");
    assert_eq!(replace(&first, TRACK).await.sandbox_id(), current);
}

/// The prefix of the old allocation is wider than the bounds of the token, or an earlier version did not store it.
#[tokio::test(flavor = "multi_thread")]
async fn bound_token_receives_a_sandbox_within_its_name_prefixes() {
    for stored in [Some("lab-"), None] {
        let pool = Pool::with_names(["lab-a-1"]).await;
        let broker = pool.broker().await;
        let client = &broker.client;
        let body = json!({ "name": "prefix", "role": "track", "name_prefixes": ["x", "lab-a"] });
        let request = client
            .request(Method::POST, "/v1/admin/tokens")
            .bearer_auth(ADMIN);
        let answer = client.send(request.json(&body)).await.json();
        let token = answer["secret"].as_str().unwrap();
        let old = client.allocate("play-1").await.sandbox_id();
        let stored = stored.map(|prefix| S(prefix.to_owned()));
        pool.rewrite_sandbox(&old, &[("name_prefix", stored)]).await;
        pool.add(["lab-b-1", "other-1"]).await;
        let replace = async |client: &BrokerClient| {
            let request = client.request(Method::POST, &format!("/v1/sandboxes/{old}/replace"));
            let request = request
                .header("X-Instruqt-Sandbox-ID", "play-1")
                .bearer_auth(token);
            client
                .send(request.json(&json!({ "reason": "broken" })))
                .await
        };
        assert_eq!(replace(client).await.code(), "NO_SANDBOXES_AVAILABLE");
        pool.add(["lab-a-2"]).await;
        // The first broker may answer from its last scan for a moment.
        let another = pool.broker().await;
        let answer = replace(&another.client).await;
        assert_eq!(
            (answer.status.as_u16(), answer.sandbox_id()),
            (201, "lab-a-2".to_owned())
        );
    }
}
