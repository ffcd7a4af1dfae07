//! The maximum of an extension is that of the lab, by the policy in force.

use reqwest::Method;
use serde_json::{Value, json};

use super::HOUR;
use crate::support::{ADMIN, BrokerClient, Pool, START};

/// Sets the terms of the labs whose ids begin with `cloud-`, on top of version `from`.
async fn set(client: &BrokerClient, from: u32, minutes: u32, max_minutes: u32) {
    let lab = json!({
        "id": "cloud-*", "duration_minutes": minutes, "max_duration_minutes": max_minutes
    });
    let request = client.request(Method::PUT, "/v1/admin/policy");
    let request = request.bearer_auth(ADMIN).header("If-Match", from);
    let answer = client.send(request.json(&json!({ "lab": [lab] }))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn allocate(client: &BrokerClient, caller: &str, lab: &str) -> String {
    let request = client.allocation(caller);
    let request = request.header("X-Instruqt-Track-ID", lab);
    client.send(request).await.sandbox_id()
}

/// Extends to ten hours at most; returns the two ends in hours after the start.
async fn extend(client: &BrokerClient, id: &str, caller: &str) -> (i64, i64) {
    let body = client.extend(id, caller, 600).await.json();
    let hours = |name: &str| (body[name].as_i64().unwrap() - START.0) / HOUR;
    (hours("expires_at"), hours("max_expires_at"))
}

#[tokio::test(flavor = "multi_thread")]
async fn maximum_of_a_lab_holds_for_its_allocations_also_once_it_is_raised_or_lowered() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set(client, 0, 120, 300).await;
    let id = allocate(client, "play-1", "cloud-101").await;
    assert_eq!(extend(client, &id, "play-1").await, (5, 5));
    set(client, 1, 120, 480).await;
    assert_eq!(extend(client, &id, "play-1").await, (8, 8));
    set(client, 2, 60, 60).await;
    let refused = client.extend(&id, "play-1", 600).await;
    assert_eq!(refused.code(), "EXTENSION_LIMIT_REACHED");
    assert!(
        refused.message().contains("at most 60 minutes"),
        "{refused:?}"
    );
    let unchanged: Value = client.extend(&id, "play-1", 60).await.json();
    let end = START.0 + 8 * HOUR;
    let body = json!({ "sandbox_id": id, "expires_at": end, "max_expires_at": end });
    assert_eq!(unchanged, body);
    // Another lab has the terms of the environment.
    let other = allocate(client, "play-2", "network-101").await;
    let refused = client.extend(&other, "play-2", 600).await;
    assert!(
        refused.message().contains("at most 240 minutes"),
        "{refused:?}"
    );
}
