//! When a lab gets a sandbox, and when not.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::Method;
use serde_json::json;

use super::{LAB, allocate, allocated, assert_refused, held, set_labs, set_quota};
use crate::support::{
    ADMIN, Pool, Proxy, key,
    proxy::{Fault, Script},
};

fn slot(number: u32) -> sandbox_broker::store::Item {
    key(&format!("QUOTA#{LAB}"), &format!("SLOT#{number}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_at_its_quota_is_refused_and_its_holders_keep_their_sandboxes() {
    let pool = Pool::of(9).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_quota(client, 2).await;
    let first = allocated(client, "play-1").await;
    allocated(client, "play-2").await;
    let refused = allocate(client, "play-3").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (409, "LAB_QUOTA_REACHED")
    );
    assert_eq!(refused.header("retry-after"), Some("30"));
    assert_eq!(
        refused.message(),
        "The lab holds 2 sandboxes, as many as its quota permits; try again later."
    );
    let retry = allocate(client, "play-1").await;
    assert_eq!((retry.status.as_u16(), retry.sandbox_id()), (200, first));
    assert_eq!(client.allocate_in("cloud-202", "play-3").await.status, 201);
    assert_eq!(client.allocate("play-4").await.status, 201, "without a lab");
    let mut slots: Vec<_> = held(&pool)
        .await
        .iter()
        .map(|it| it.lease.quota_slot)
        .collect();
    slots.sort_unstable();
    assert_eq!(slots, [Some(0), Some(1)]);
    let metrics = client.plain("/metrics").await.text;
    let counted = "broker_allocate_total{outcome=\"lab_quota\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_is_free_again_however_its_allocation_ends() {
    let pool = Pool::of(9).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_quota(client, 1).await;
    let reason = json!({ "reason": "test" });
    for end in ["release", "operator's release", "quarantine", "expiry"] {
        let id = allocated(client, end).await;
        assert_refused(client, "another").await;
        match end {
            "release" => assert_eq!(client.release(&id, end).await.status, 200),
            "operator's release" => {
                assert_eq!(client.act(&id, "release", &reason).await.status, 200);
            }
            "quarantine" => assert_eq!(client.act(&id, "quarantine", &reason).await.status, 200),
            _ => {
                broker.clock.advance(Duration::from_hours(24));
                let report = client.job("auto-expire?force=true").await;
                assert_eq!(report["expired"], 1);
            }
        }
    }
    let last = allocated(client, "last").await;
    let items = pool.items_of(&pool.companion).await;
    let is_slot =
        |item: &&sandbox_broker::store::Item| item["PK"].as_s().unwrap().starts_with("QUOTA#");
    let slots: Vec<_> = items.iter().filter(is_slot).collect();
    assert_eq!(slots.len(), 1, "{slots:?}");
    assert_eq!(slots[0]["sandbox_id"].as_s().unwrap(), &last);
    assert_eq!(slots[0]["caller"].as_s().unwrap(), "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_of_zero_refuses_every_caller() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    set_quota(&broker.client, 0).await;
    let refused = allocate(&broker.client, "play").await;
    assert_eq!(refused.code(), "LAB_QUOTA_REACHED");
    assert_eq!(
        refused.message(),
        "The quota of the lab is 0, so it gets no sandboxes; ask an operator."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_of_a_pattern_holds_for_each_lab_by_itself() {
    let pool = Pool::of(9).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_labs(client, json!([{ "id": "team-*", "max_held": 1 }])).await;
    for lab in ["team-a", "team-b", "team-ü/#1"] {
        assert_eq!(client.allocate_in(lab, lab).await.status, 201, "{lab}");
        let second = client.allocate_in(lab, "second").await;
        assert_eq!(second.code(), "LAB_QUOTA_REACHED", "{lab}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_is_reported_before_the_quota_and_the_quota_before_an_empty_pool() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_quota(client, 1).await;
    let first = allocated(client, "play-1").await;
    assert_refused(client, "play-2").await;
    let other = client.allocate_in("cloud-202", "play-2").await;
    assert_eq!(other.code(), "NO_SANDBOXES_AVAILABLE");
    let path = "/v1/admin/pauses/allocations";
    let pause = client.request(Method::PUT, path).bearer_auth(ADMIN);
    let pause = client.send(pause.json(&json!({ "reason": "test" }))).await;
    assert_eq!(pause.status, 200, "{pause:?}");
    assert_eq!(
        allocate(client, "play-2").await.code(),
        "ALLOCATIONS_PAUSED"
    );
    assert_eq!(allocate(client, "play-1").await.sandbox_id(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn allocations_made_before_the_quota_count() {
    let pool = Pool::of(9).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    for caller in ["play-1", "play-2", "play-3"] {
        allocated(&a.client, caller).await;
    }
    set_quota(&a.client, 4).await;
    allocated(&a.client, "play-4").await;
    let refused = allocate(&a.client, "play-5").await;
    assert_eq!(refused.code(), "LAB_QUOTA_REACHED");
    assert_eq!(
        refused.message(),
        "The lab holds 4 sandboxes, as many as its quota permits; try again later."
    );
    // With a lower quota the lab keeps what it holds.
    set_quota(&a.client, 2).await;
    let refused = allocate(&a.client, "play-5").await;
    assert_eq!(
        refused.message(),
        "The lab holds 4 sandboxes, and its quota permits 2; try again later."
    );
    drop(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn lowered_quota_is_kept_as_soon_as_the_lab_holds_less() {
    let pool = Pool::of(30).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_quota(client, 8).await;
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(allocated(client, &format!("play-{n}")).await);
    }
    set_quota(client, 3).await;
    for (n, id) in ids.iter().enumerate().take(5) {
        assert_refused(client, "new-1").await;
        assert_eq!(client.release(id, &format!("play-{n}")).await.status, 200);
    }
    assert_refused(client, "new-1").await;
    assert_eq!(client.release(&ids[5], "play-5").await.status, 200);
    allocated(client, "new-1").await;
    assert_refused(client, "new-2").await;
    set_quota(client, 4).await;
    allocated(client, "new-2").await;
    assert_refused(client, "new-3").await;
    set_labs(client, json!([])).await;
    for n in 3..6 {
        allocated(client, &format!("new-{n}")).await;
    }
    set_quota(client, 7).await;
    assert_refused(client, "new-6").await;
    assert_eq!(held(&pool).await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn allocations_count_that_were_made_while_the_quota_was_removed() {
    let pool = Pool::of(9).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_quota(client, 2).await;
    allocated(client, "play-1").await;
    set_labs(client, json!([])).await;
    for caller in ["play-2", "play-3"] {
        allocated(client, caller).await;
    }
    set_quota(client, 2).await;
    assert_refused(client, "play-4").await;
    assert_eq!(held(&pool).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_slot_counts_as_taken_until_its_item_is_removed() {
    let pool = Pool::of(9).await;
    let broker = pool.broker().await;
    let text = AttributeValue::S("never".to_owned());
    let damage = [("allocated_at", Some(text)), ("sandbox_id", None)];
    pool.rewrite(&pool.companion, slot(0), &damage).await;
    pool.rewrite(
        &pool.companion,
        key(&format!("QUOTA#{LAB}"), "SLOT#none"),
        &[],
    )
    .await;
    let client = &broker.client;
    set_quota(client, 2).await;
    allocated(client, "play-1").await;
    assert_refused(client, "play-2").await;
    let remove = pool.client.delete_item().table_name(&pool.companion);
    remove.set_key(Some(slot(0))).send().await.unwrap();
    allocated(client, "play-2").await;
    assert_refused(client, "play-3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_whose_sandbox_is_unreadable_counts_as_taken() {
    let pool = Pool::of(9).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_quota(client, 1).await;
    let id = allocated(client, "play-1").await;
    let damage = |status: &str| [("status", Some(AttributeValue::S(status.to_owned())))];
    pool.rewrite_sandbox(&id, &damage("lent")).await;
    assert_refused(client, "play-2").await;
    pool.rewrite_sandbox(&id, &damage("stale")).await;
    allocated(client, "play-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_whose_answer_was_lost_takes_one_slot() {
    let pool = Pool::of(9).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    set_quota(client, 2).await;
    // As often as the SDK repeats a call.
    for _ in 0..3 {
        proxy.inject_once("TransactWriteItems", Fault::DropAnswer);
    }
    let lost = allocate(client, "play-1").await;
    assert!(matches!(lost.status.as_u16(), 200 | 503), "{lost:?}");
    proxy.play(Script::default());
    let retry = allocate(client, "play-1").await;
    assert_eq!(retry.status, 200, "{retry:?}");
    allocated(client, "play-2").await;
    assert_refused(client, "play-3").await;
    assert_eq!(held(&pool).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_cannot_be_read_refuse_no_caller_as_if_the_quota_were_reached() {
    let pool = Pool::of(9).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    set_quota(client, 1).await;
    for _ in 0..3 {
        proxy.inject_once("Query", Fault::ServerError);
    }
    let failed = allocate(client, "play-1").await;
    assert_eq!(failed.code(), "STORE_UNAVAILABLE", "{failed:?}");
    allocated(client, "play-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_costs_one_call_with_a_quota_as_without() {
    let pool = Pool::of(30).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    set_quota(client, 3).await;
    allocated(client, "play-1").await;
    proxy.until_quiet().await;
    let one = BTreeMap::from([("TransactWriteItems".to_owned(), 1)]);
    proxy.take_calls();
    allocated(client, "play-2").await;
    assert_eq!(proxy.take_calls(), one);
    assert_eq!(client.allocate_in("cloud-202", "play-3").await.status, 201);
    assert_eq!(proxy.take_calls(), one);
    allocated(client, "play-4").await;
    proxy.take_calls();
    assert_refused(client, "play-5").await;
    let calls = ["BatchGetItem", "GetItem", "Query"].map(|call| (call.to_owned(), 1));
    assert_eq!(proxy.take_calls(), BTreeMap::from(calls));
}
