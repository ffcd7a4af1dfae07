//! Extensions in the timeline of a sandbox.

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::store::{Change, DeletionOutcome};
use serde_json::{Value, json};

use super::{HOUR, held, stored};
use crate::support::{START, TestBroker};

/// Returns the names of the events of a sandbox with their states after them, newest first.
async fn events(broker: &TestBroker, id: &str) -> Vec<(String, Value)> {
    let path = format!("/v1/admin/sandboxes/{id}");
    let answer = broker.client.admin(Method::GET, &path).await.json();
    let events = answer["events"].as_array().unwrap().iter();
    let shown = events.map(|event| {
        let name = event["action"].as_str().unwrap().to_owned();
        (name, event["after"].clone())
    });
    shown.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn timeline_has_the_last_extension_once_of_the_holder_or_an_operator() {
    let (pool, broker, id) = held().await;
    broker.clock.advance(Duration::from_mins(1));
    broker.client.extend(&id, "play-1", 179).await;
    let extended = |end: i64, times: u32| {
        let after = json!({ "expires_at": end, "extensions": times });
        ("extended".to_owned(), after)
    };
    let end = START.0 + 3 * HOUR;
    assert_eq!(events(&broker, &id).await[0], extended(end, 1));
    // Its record shows an extension by an operator; the item has no other time left.
    broker.clock.advance(Duration::from_mins(1));
    let order = json!({ "minutes": 238, "reason": "late" });
    broker.client.act(&id, "extend", &order).await;
    let names = async || -> Vec<String> {
        let events = events(&broker, &id).await;
        events.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names().await, ["sandbox.extend", "allocated", "inserted"]);
    broker.clock.advance(Duration::from_mins(1));
    broker.client.extend(&id, "play-1", 297).await;
    let end = START.0 + 5 * HOUR;
    assert_eq!(events(&broker, &id).await[0], extended(end, 3));
    broker.clock.advance(Duration::from_mins(1));
    broker.client.release(&id, "play-1").await;
    let life = [
        "released",
        "extended",
        "sandbox.extend",
        "allocated",
        "inserted",
    ];
    assert_eq!(names().await, life);
    assert_eq!(events(&broker, &id).await[1], extended(end, 3));
    // After the deletion, its tombstone has the same.
    let sandbox = Box::new(stored(&pool, &id).await);
    let deleted = DeletionOutcome::Deleted;
    let change = Change::Deletion(sandbox, deleted, None);
    pool.apply(vec![change]).await;
    let after = events(&broker, &id).await;
    assert!(after.contains(&extended(end, 3)), "{after:?}");
}
