//! Extensions of allocations by their holders.

mod answers;
mod clocks;
mod faults;
mod policy;
mod races;
mod timeline;

use std::collections::BTreeMap;

use sandbox_broker::{domain::Sandbox, store::Item};
use serde_json::json;

use crate::support::{BrokerClient, Pool, START, TestBroker, key};

const HOUR: i64 = 3600;
/// `ALLOCATION_GRACE_MINUTES` by default.
const GRACE: i64 = HOUR / 2;
/// The minutes for which a caller holds its sandbox, and the end of those that begin at `START`.
const MINUTES: i64 = 120;
const END: i64 = START.0 + MINUTES * 60;
/// The longest duration that the brokers permit.
const MAXIMUM: (&str, &str) = ("LAB_DURATION_HOURS", "8");
const MAX_END: i64 = START.0 + 8 * HOUR;

/// A pool of two sandboxes, one of which `play-1` holds until [`END`], and a broker that permits [`MAXIMUM`].
async fn held() -> (Pool, TestBroker, String) {
    let pool = Pool::of(2).await;
    let broker = pool.broker_with(&[MAXIMUM]).await;
    let id = allocate(&broker.client, "play-1").await;
    (pool, broker, id)
}

/// Allocates a sandbox for [`MINUTES`].
async fn allocate(client: &BrokerClient, caller: &str) -> String {
    let terms = json!({ "duration_minutes": MINUTES });
    let answer = client.send(client.allocation(caller).json(&terms)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.sandbox_id()
}

async fn stored(pool: &Pool, id: &str) -> Sandbox {
    let sandboxes = pool.sandboxes().await;
    let mut sandboxes = sandboxes.into_iter();
    sandboxes.find(|it| it.id().as_str() == id).unwrap()
}

/// Returns the claims in the companion table by the sandbox that they point to.
async fn claims(pool: &Pool) -> BTreeMap<String, Item> {
    let items = pool.items_of(&pool.companion).await;
    let is_claim = |item: &Item| item["PK"].as_s().unwrap().starts_with("CLAIM#");
    let target = |item: &Item| {
        let target = item.get("sandbox_id").and_then(|it| it.as_s().ok());
        target.cloned().unwrap_or_default()
    };
    let claims = items.into_iter().filter(is_claim);
    claims.map(|item| (target(&item), item)).collect()
}

/// Returns all sandboxes and claims as they are stored.
async fn leases(pool: &Pool) -> (Vec<Item>, BTreeMap<String, Item>) {
    (pool.items_of(&pool.table).await, claims(pool).await)
}

/// Returns the only claim, with its key.
async fn claim(pool: &Pool) -> (Item, Item) {
    let claim = claims(pool).await.pop_first().unwrap().1;
    let key = key(claim["PK"].as_s().unwrap(), "CLAIM");
    (key, claim)
}

fn whole(item: &Item, name: &str) -> i64 {
    item[name].as_n().unwrap().parse().unwrap()
}

/// Requires that a claim outlives an allocation that ends at `end`.
fn assert_outlives(claim: &Item, end: i64) {
    assert_eq!(whole(claim, "expires_at"), end + GRACE);
    assert_eq!(whole(claim, "ttl"), end + GRACE + 7 * 24 * HOUR);
}
