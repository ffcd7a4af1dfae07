//! The listing of allocations whose play is likely over.

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::Method;
use serde_json::{Value, json};

use super::{LAB, MINUTE, add_plays, allocate, ids, page};
use crate::support::{Pool, START, key};

#[tokio::test(flavor = "multi_thread")]
async fn allocations_older_than_usual_for_their_lab_are_listed_oldest_first() {
    let pool = Pool::of(6).await;
    let broker = pool.broker().await;
    add_plays(&pool, LAB, 60).await;
    add_plays(&pool, "ipam-201", 180).await;
    let client = &broker.client;
    let first = allocate(&broker, LAB, "first").await;
    let of_long_lab = allocate(&broker, "ipam-201", "long").await;
    let no_lab = client.allocate("no-lab").await.sandbox_id();
    broker.clock.advance(MINUTE * 10);
    let second = allocate(&broker, LAB, "second").await;
    broker.clock.advance(MINUTE);
    let extended = allocate(&broker, LAB, "extended").await;
    broker.clock.advance(MINUTE * 49);
    let reason = json!({ "minutes": 240, "reason": "the class runs late" });
    assert_eq!(client.act(&extended, "extend", &reason).await.status, 200);
    allocate(&broker, LAB, "new").await;
    broker.clock.advance(MINUTE * 50);
    let listed = page(client, "").await;
    assert_eq!(ids(&listed), [&first, &second]);
    let now = START + MINUTE * 110;
    assert_eq!(listed["generated_at"], json!(now));
    assert_eq!(
        listed["leaks"][0],
        json!({
            "sandbox_id": first, "name": first, "caller": "first", "lab": LAB, "allocated_at": START,
            "extended_at": null, "expires_at": START + MINUTE * 240, "held_sec": 6600, "usual_sec": 3600,
            "basis": "history"
        })
    );
    let labs: Vec<_> = listed["labs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lab| &lab["lab"])
        .collect();
    assert_eq!(labs, [LAB, "ipam-201"]);
    // An extension counts as a sign of the play for as long as an allocation does.
    broker.clock.advance(MINUTE * 50);
    assert_eq!(ids(&page(client, "").await)[2], extended);
    // Without a lab, the end of the allocation counts. Auto-expire has not run yet.
    broker.clock.advance(MINUTE * 81);
    let listed = page(client, "").await;
    let leaks = listed["leaks"].as_array().unwrap();
    let leak = leaks
        .iter()
        .find(|leak| leak["sandbox_id"] == no_lab)
        .unwrap();
    assert_eq!(
        (
            &leak["lab"],
            &leak["basis"],
            &leak["usual_sec"],
            &leak["held_sec"]
        ),
        (
            &Value::Null,
            &json!("end"),
            &json!(240 * 60),
            &json!(241 * 60)
        )
    );
    assert!(
        !ids(&listed).contains(&of_long_lab.as_str()),
        "suspected after 270 minutes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_every_leak_once() {
    let pool = Pool::of(12).await;
    let broker = pool.broker().await;
    add_plays(&pool, LAB, 60).await;
    let mut held = Vec::new();
    for number in 0..12 {
        let lab = if number % 2 == 0 { LAB } else { "unknown" };
        let id = allocate(&broker, lab, &format!("play-{number}")).await;
        if lab == LAB {
            held.push(id);
        }
        broker.clock.advance(MINUTE);
    }
    broker.clock.advance(MINUTE * 91);
    let mut found = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = page(&broker.client, &query).await;
        found.extend(ids(&page).into_iter().map(str::to_owned));
        let has_labs = !page["labs"].as_array().unwrap().is_empty();
        assert_eq!(
            has_labs,
            query == "?limit=2",
            "the labs are on the first page"
        );
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!(found, held);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_items_are_left_out() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let [damaged, held] = [
        allocate(&broker, LAB, "one").await,
        allocate(&broker, LAB, "two").await,
    ];
    let invalid = AttributeValue::Bool(true);
    pool.rewrite_sandbox(&damaged, &[("name", Some(invalid.clone()))])
        .await;
    let history = key("DURATIONS", LAB);
    pool.rewrite(&pool.companion, history, &[("d00", Some(invalid))])
        .await;
    broker.clock.advance(MINUTE * 241);
    let listed = page(client, "").await;
    assert_eq!(ids(&listed), [held]);
    assert_eq!(listed["labs"][0]["durations"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_parameters_are_rejected() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    for (query, code) in [
        ("limit=0", "INVALID_PARAMETER"),
        ("limit=1001", "INVALID_PARAMETER"),
        ("lab=dns-101", "INVALID_PARAMETER"),
        ("cursor=bad", "INVALID_CURSOR"),
    ] {
        let path = format!("/v1/admin/leaks?{query}");
        assert_eq!(broker.client.admin(Method::GET, &path).await.code(), code);
    }
}
