//! Replacements on the terms that the policy states for a lab.

use aws_sdk_dynamodb::types::AttributeValue::S;
use sandbox_broker::store::Item;
use serde_json::{Value, json};

use super::{HOUR, claim, details};
use crate::support::{BrokerClient, Pool, START, key};

async fn set_policy(client: &BrokerClient, from: u64, terms: Value) {
    let mut lab = json!({ "id": "cloud-101" });
    let terms = terms.as_object().unwrap().clone();
    lab.as_object_mut().unwrap().extend(terms);
    client.set_policy(from, &json!({ "lab": [lab] })).await;
}

async fn allocate(client: &BrokerClient) -> String {
    client.allocate_in("cloud-101", "play-1").await.sandbox_id()
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_sandbox_is_set_aside_for_an_operator_where_the_policy_says_so() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_policy(client, 0, json!({ "replaced": "quarantine" })).await;
    let old = allocate(client).await;
    broker.clock.advance(HOUR);
    let new = client.replace(&old, "play-1").await.sandbox_id();
    let of_old = details(client, &old).await;
    let sandbox = &of_old["sandbox"];
    for (name, value) in [
        ("status", json!("quarantined")),
        ("replaced_by", json!(new)),
        ("quarantined_by", json!("env-track")),
        ("quarantine_reason", json!("DNS does not resolve")),
        ("quarantined_from", json!("allocated")),
        ("quarantined_at", json!((START + HOUR).0)),
        ("quarantined_until", Value::Null),
        ("released_by", Value::Null),
    ] {
        assert_eq!(sandbox[name], value, "{name}: {sandbox:#}");
    }
    let events = of_old["events"].as_array().unwrap();
    let replaced = events.iter().find(|event| event["action"] == "replaced");
    assert_eq!(replaced.unwrap()["after"]["replaced_by"], new);
    assert_eq!(client.replace(&old, "play-1").await.sandbox_id(), new);
    let released = client.release(&old, "play-1").await.json();
    assert_eq!(
        (&released["status"], &released["replaced_by"]),
        (&json!("quarantined"), &json!(new))
    );
    let reason = json!({ "reason": "test" });
    assert_eq!(
        client.act(&old, "restore", &reason).await.code(),
        "HAD_HOLDER"
    );
    broker.clock.advance(HOUR);
    assert_eq!(client.act(&old, "delete", &reason).await.status, 200);
    let of_old = details(client, &old).await;
    let events = of_old["events"].as_array().unwrap();
    let actions: Vec<_> = events
        .iter()
        .map(|event| event["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions[..2], ["sandbox.delete", "replaced"], "{actions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_limits_the_replacements_of_its_allocations() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_policy(client, 0, json!({ "max_replacements": 0 })).await;
    let first = allocate(client).await;
    let refused = client.replace(&first, "play-1").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (409, "REPLACEMENT_LIMIT_REACHED".into())
    );
    assert!(
        refused.message().contains("permits no replacement"),
        "{refused:?}"
    );
    set_policy(client, 1, json!({ "max_replacements": 1 })).await;
    let second = client.replace(&first, "play-1").await.sandbox_id();
    let refused = client.replace(&second, "play-1").await;
    assert!(refused.message().contains("replaced once"), "{refused:?}");
    // A lowered limit does not concern what has been done.
    set_policy(client, 2, json!({ "max_replacements": 0 })).await;
    assert_eq!(client.replace(&first, "play-1").await.sandbox_id(), second);
    // The next allocation begins with a new count.
    set_policy(client, 3, json!({ "max_replacements": 1 })).await;
    client.release(&second, "play-1").await;
    let third = allocate(client).await;
    assert!(!claim(&pool).await.contains_key("replacements"));
    assert_eq!(client.replace(&third, "play-1").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_of_the_allocation_counts_and_that_of_the_lab_where_there_is_none() {
    let pool = Pool::with_names(["lab-1"]).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let old = allocate(client).await;
    set_policy(client, 0, json!({ "name_prefix": "other-" })).await;
    pool.add(["lab-2", "other-1"]).await;
    let second = client.replace(&old, "play-1").await.sandbox_id();
    assert_eq!(second, "other-1");
    set_policy(client, 1, json!({ "name_prefix": "lab-" })).await;
    assert_eq!(
        client.replace(&second, "play-1").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    pool.add(["other-2"]).await;
    // The first broker may answer from its last scan for a moment.
    let another = pool.broker().await;
    let third = another.client.replace(&second, "play-1").await;
    assert_eq!(third.sandbox_id(), "other-2");
}

/// A lab at its quota can have its sandboxes replaced, and holds no more of them for it.
#[tokio::test(flavor = "multi_thread")]
async fn replacement_keeps_the_slot_of_the_quota_and_goes_without_one_that_it_has_lost() {
    for is_lost in [false, true] {
        let pool = Pool::of(4).await;
        let broker = pool.broker().await;
        let client = &broker.client;
        set_policy(client, 0, json!({ "max_held": 1 })).await;
        let old = allocate(client).await;
        let slot = key("QUOTA#cloud-101", "SLOT#0");
        if is_lost {
            let another = [("sandbox_id", Some(S("another".to_owned())))];
            pool.rewrite(&pool.companion, slot.clone(), &another).await;
        }
        let new = client.replace(&old, "play-1").await;
        assert_eq!(new.status, 201, "{new:?}");
        let items = pool.items().await;
        let item = |partition: &str| {
            let mut found = items.iter();
            let is_it = |item: &&Item| item["PK"] == S(partition.to_owned());
            found.find(is_it).unwrap().clone()
        };
        let of_new = item(&format!("SBX#{}", new.sandbox_id()));
        let of_slot = item("QUOTA#cloud-101");
        let is_kept = of_slot["sandbox_id"] == S(new.sandbox_id());
        assert_eq!(
            (is_kept, of_new.contains_key("quota_slot")),
            (!is_lost, !is_lost)
        );
        if !is_lost {
            let refused = client.allocate_in("cloud-101", "play-2").await;
            assert_eq!(refused.code(), "LAB_QUOTA_REACHED");
        }
    }
}
