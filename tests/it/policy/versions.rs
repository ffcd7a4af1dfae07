//! The versions that are retained, and the size of what is polled.

use futures_util::future::join_all;
use serde_json::Value;

use super::{change_with, document, get, set};
use crate::support::{Pool, key, proxy::meter::item_size};

#[tokio::test(flavor = "multi_thread")]
async fn last_fifty_versions_are_retained_and_listed_page_by_page() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    for from in 0..51 {
        set(client, from, &document(from + 1)).await;
    }
    assert_eq!(
        get(client, "?version=1").await.code(),
        "POLICY_VERSION_NOT_FOUND"
    );
    let oldest = get(client, "?version=2").await.json();
    assert_eq!(oldest["policy"], document(2));
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(client, &format!("/history?limit=20&cursor={cursor}"))
            .await
            .json();
        let versions = page["versions"].as_array().unwrap();
        assert_eq!(page["count"], versions.len());
        assert!(versions.len() <= 20);
        listed.extend(
            versions
                .iter()
                .map(|version| version["version"].as_u64().unwrap()),
        );
        match &page["cursor"] {
            Value::Null => break,
            next => next.as_str().unwrap().clone_into(&mut cursor),
        }
    }
    assert_eq!(listed, (2..=51).rev().collect::<Vec<_>>());
    let items = pool.items_of(&pool.companion).await;
    let policy = items
        .iter()
        .filter(|item| item["PK"].as_s().unwrap() == "POLICY");
    assert_eq!(policy.count(), 51, "fifty versions, and that in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn poll_costs_one_read_unit_with_the_longest_reason() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let reason = "𐍈".repeat(500);
    let request = change_with(client, 0, &document(60), ("reason", &reason));
    assert_eq!(client.send(request).await.json()["reason"], reason);
    let get = pool.client.get_item().table_name(&pool.companion);
    let item = get.set_key(Some(key("POLICY", "CURRENT"))).send().await;
    let item = item.unwrap().item.unwrap();
    let wire: Value = item
        .iter()
        .map(|(name, value)| {
            let value = match (value.as_s(), value.as_n()) {
                (Ok(text), _) => serde_json::json!({ "S": text }),
                (_, Ok(number)) => serde_json::json!({ "N": number }),
                _ => panic!("{value:?}"),
            };
            (name.clone(), value)
        })
        .collect();
    let size = item_size(&wire);
    // A principal's name has at most 254 characters.
    assert!(size + 4 * 254 <= 4096, "{size} bytes");
    let history = join_all((0..3).map(|_| super::get(client, "/history"))).await;
    assert!(history.iter().all(|answer| answer.status == 200));
}
