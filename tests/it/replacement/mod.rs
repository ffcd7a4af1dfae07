//! Replacement of a sandbox by its holder. Promise G: it leaves its caller with exactly one sandbox, the old one if it was
//! refused, and nobody ever gets the old one again.

mod answers;
mod claims;
mod faults;
mod policy;
mod races;
mod terms;

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::{domain::Status, store::Item};
use serde_json::Value;

use crate::support::{BrokerClient, Pool};

const HOUR: Duration = Duration::from_hours(1);

/// Returns what an operator sees of a sandbox.
async fn details(client: &BrokerClient, id: &str) -> Value {
    let path = format!("/v1/admin/sandboxes/{id}");
    client.admin(Method::GET, &path).await.json()
}

async fn status(pool: &Pool, id: &str) -> Option<Status> {
    let sandboxes = pool.sandboxes().await;
    let found = sandboxes.iter().find(|sandbox| sandbox.id().as_str() == id);
    found.map(|sandbox| sandbox.status)
}

/// Returns the only claim.
async fn claim(pool: &Pool) -> Item {
    let items = pool.items_of(&pool.companion).await;
    let mut items = items.into_iter();
    let is_claim = |item: &Item| item["PK"].as_s().unwrap().starts_with("CLAIM#");
    items.find(is_claim).unwrap()
}
