//! Quotas of labs.

mod held;
mod races;
mod rules;

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::domain::{Sandbox, Status};
use serde_json::{Value, json};

use crate::support::{Answer, BrokerClient, Pool};

const LAB: &str = "cloud-101";

/// Replaces the policy by one with these labs. It is in force on this broker at once.
async fn set_labs(client: &BrokerClient, labs: Value) {
    let stored = client.admin(Method::GET, "/v1/admin/policy").await.json();
    let version = stored["version"].as_u64().unwrap();
    client.set_policy(version, &json!({ "lab": labs })).await;
}

async fn set_quota(client: &BrokerClient, max_held: u32) {
    set_labs(client, json!([{ "id": LAB, "max_held": max_held }])).await;
}

async fn version_in_force(client: &BrokerClient) -> u64 {
    let overview = client.overview().await;
    overview["policy"]["version"].as_u64().unwrap()
}

/// Waits until a broker has the same policy in force as another.
async fn until_known(client: &BrokerClient, other: &BrokerClient) {
    let version = version_in_force(other).await;
    while version_in_force(client).await != version {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Allocates a sandbox to a caller of the lab.
async fn allocate(client: &BrokerClient, caller: &str) -> Answer {
    client.allocate_in(LAB, caller).await
}

/// Allocates a sandbox that the lab must get; returns its id.
async fn allocated(client: &BrokerClient, caller: &str) -> String {
    let answer = allocate(client, caller).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.sandbox_id()
}

async fn assert_refused(client: &BrokerClient, caller: &str) {
    let answer = allocate(client, caller).await;
    assert_eq!(answer.code(), "LAB_QUOTA_REACHED", "{answer:?}");
}

/// Returns the sandboxes that the lab holds according to the table.
async fn held(pool: &Pool) -> Vec<Sandbox> {
    let is_held = |sandbox: &Sandbox| {
        let lab = sandbox.holder.as_ref().and_then(|it| it.lab.as_ref());
        sandbox.status == Status::Allocated && lab.is_some_and(|lab| lab.as_str() == LAB)
    };
    let sandboxes = pool.sandboxes().await.into_iter();
    sandboxes.filter(is_held).collect()
}
