//! Listing, search and counts for admins.

use std::collections::BTreeSet;

use reqwest::Method;
use sandbox_broker::{
    domain::{SandboxId, Status},
    store::Change,
};
use serde_json::Value;

use crate::support::{Pool, TestBroker};

/// Returns the ids on all pages, by following the cursors.
async fn every_page(broker: &TestBroker, query: &str) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/admin/sandboxes?{query}&cursor={cursor}");
        let page = broker.client.admin(Method::GET, &path).await.json();
        let sandboxes = page["sandboxes"].as_array().unwrap();
        assert_eq!(page["count"], sandboxes.len());
        ids.extend(
            sandboxes
                .iter()
                .map(|one| one["sandbox_id"].as_str().unwrap().to_owned()),
        );
        match &page["cursor"] {
            Value::String(next) => next.clone_into(&mut cursor),
            _ => return ids,
        }
    }
}

fn distinct(ids: &[String]) -> usize {
    ids.iter().collect::<BTreeSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sandbox_is_on_exactly_one_page() {
    let pool = Pool::of(130).await;
    let broker = pool.broker().await;
    for n in 0..40 {
        broker.client.allocate(&format!("play-{n}")).await;
    }
    for (query, expected) in [
        ("limit=1000", 130),
        ("limit=100", 130),
        ("limit=7", 130),
        ("limit=50&status=available", 90),
        ("limit=9&status=allocated", 40),
        ("limit=10&status=stale", 0),
        ("limit=3&q=adventure-002", 10),
        ("limit=100&q=ADVENTURE-0007", 1),
        ("limit=4&q=play-1", 11),
        ("limit=4&status=available&q=play-1", 0),
    ] {
        let ids = every_page(&broker, query).await;
        assert_eq!((ids.len(), distinct(&ids)), (expected, expected), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn search_matches_plain_text_in_labs_callers_names_and_ids() {
    let pool = Pool::with_names(["alpha", "beta"]).await;
    let broker = pool.broker().await;
    let request = broker
        .client
        .allocation("<b>play</b>")
        .header("X-Instruqt-Track-ID", "Lab-50%");
    let id = broker.client.send(request).await.sandbox_id();
    for q in ["lab-50%25", "%3Cb%3E", id.as_str()] {
        assert_eq!(
            every_page(&broker, &format!("q={q}")).await,
            [id.as_str()],
            "{q}"
        );
    }
    assert!(every_page(&broker, "q=.*").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_query_is_an_error_with_a_code() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    for (query, code) in [
        ("limit=0", "INVALID_PARAMETER"),
        ("limit=1001", "INVALID_PARAMETER"),
        ("limit=many", "INVALID_PARAMETER"),
        ("status=lost", "INVALID_PARAMETER"),
        (&format!("q={}", "x".repeat(257)), "INVALID_PARAMETER"),
        ("cursor=nonsense", "INVALID_CURSOR"),
        ("cursor=WyJhIl0", "INVALID_CURSOR"),
        ("cursor=WyIiLCIiXQ", "INVALID_CURSOR"),
        ("cursor=WyJQIiwiUyJd&status=stale", "INVALID_CURSOR"),
    ] {
        let answer = broker
            .client
            .admin(Method::GET, &format!("/v1/admin/sandboxes?{query}"))
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, code),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_count_every_sandbox_and_nothing_else() {
    let pool = Pool::of(60).await;
    let broker = pool.broker().await;
    for n in 0..20 {
        let caller = format!("play-{n}");
        let id = broker.client.allocate(&caller).await.sandbox_id();
        if n < 5 {
            broker.client.release(&id, &caller).await;
        }
    }
    let free = pool
        .sandboxes()
        .await
        .into_iter()
        .find(|one| one.holder.is_none())
        .unwrap();
    pool.apply(vec![Change::MarkStale(
        SandboxId::clone(free.id()),
        Status::Available,
    )])
    .await;
    broker.client.job("auto-expire").await;
    let expected = serde_json::json!({
        "total": 60, "provisioning": 0, "available": 39, "allocated": 15, "pending_deletion": 5, "stale": 1, "deletion_failed": 0,
        "quarantined": 0,
        "unreadable": 0
    });
    assert_eq!(broker.client.stats().await, expected);
}
