//! The maximum of an extension is that of the lab, by the policy in force.

use serde_json::{Value, json};

use super::HOUR;
use crate::support::{BrokerClient, Pool, START};

/// Sets the terms of the labs whose ids begin with `cloud-`, on top of version `from`.
async fn set(client: &BrokerClient, from: u64, minutes: u32, max_minutes: u32) {
    let lab = json!({
        "id": "cloud-*", "duration_minutes": minutes, "max_duration_minutes": max_minutes
    });
    client.set_policy(from, &json!({ "lab": [lab] })).await;
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
    let id = client.allocate_in("cloud-101", "play-1").await.sandbox_id();
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
    let other = client.allocate_in("network-101", "play-2").await;
    let refused = client.extend(&other.sandbox_id(), "play-2", 600).await;
    assert!(
        refused.message().contains("at most 240 minutes"),
        "{refused:?}"
    );
}
