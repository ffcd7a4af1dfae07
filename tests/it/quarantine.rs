//! Sandboxes in quarantine: nobody is allocated one, no job touches them, and their quarantine ends.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::Method;
use sandbox_broker::{
    clock::UnixSeconds,
    csp::simulator::{Fault, FaultKind, Simulator},
    store::Item,
};
use serde_json::{Value, json};

use crate::support::{Pool, START, TestBroker, key, simulated_csp};

const HOUR: i64 = 3600;

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn item_key(id: &str) -> Item {
    key(&format!("SBX#{id}"), "META")
}

/// Sets a sandbox aside, as an operator does.
async fn quarantine(pool: &Pool, id: &str, from: &str, until: Option<UnixSeconds>) {
    let attributes = [
        ("status", Some(text("quarantined"))),
        ("quarantined_by", Some(text("jane"))),
        ("quarantined_at", Some(number(START.0))),
        ("quarantine_reason", Some(text("its licence has expired"))),
        ("quarantined_from", Some(text(from))),
        ("quarantined_until", until.map(|until| number(until.0))),
    ];
    pool.rewrite(&pool.table, item_key(id), &attributes).await;
}

async fn shown(broker: &TestBroker, id: &str) -> Value {
    let answer = broker
        .client
        .admin(Method::GET, "/v1/admin/sandboxes")
        .await;
    let listed = answer.json()["sandboxes"].as_array().unwrap().clone();
    let mut listed = listed.into_iter();
    listed.find(|sandbox| sandbox["sandbox_id"] == id).unwrap()
}

async fn with_csp(accounts: u64) -> (Pool, Simulator, TestBroker) {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(accounts).await;
    let broker = pool
        .broker_with(&[
            ("CSP_BASE_URL", &base_url),
            ("CLEANUP_BATCH_DELAY_SEC", "0"),
        ])
        .await;
    broker.client.job("sync").await;
    (pool, simulator, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_sandbox_is_counted_and_listed_but_never_allocated() {
    let pool = Pool::with_names(["first", "second"]).await;
    quarantine(
        &pool,
        "first",
        "available",
        Some(START + 2 * Duration::from_hours(1)),
    )
    .await;
    let broker = pool.broker().await;
    let stats = broker.client.stats().await;
    assert_eq!(
        (&stats["total"], &stats["available"], &stats["quarantined"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(broker.client.overview().await["counts"]["quarantined"], 1);
    let metrics = broker.client.plain("/metrics").await.text;
    assert!(metrics.contains("broker_pool_quarantined 1\n"), "{metrics}");
    let path = "/v1/admin/sandboxes?status=quarantined";
    let listed = broker.client.admin(Method::GET, path).await.json();
    assert_eq!(listed["count"], 1, "{listed}");
    let sandbox = &listed["sandboxes"][0];
    for (name, value) in [
        ("status", json!("quarantined")),
        ("quarantined_by", json!("jane")),
        ("quarantined_at", json!(START.0)),
        ("quarantine_reason", json!("its licence has expired")),
        ("quarantined_until", json!(START.0 + 2 * HOUR)),
        ("quarantined_from", json!("available")),
        ("inserted_at", json!(START.0)),
    ] {
        assert_eq!(sandbox[name], value, "{name}");
    }
    assert_eq!(
        broker.client.allocate("play-1").await.sandbox_id(),
        "second"
    );
    let refused = broker.client.allocate("play-2").await;
    assert_eq!(refused.code(), "NO_SANDBOXES_AVAILABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn candidate_that_was_quarantined_is_allocated_after_its_return() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = pool.sandboxes().await[0].id().to_string();
    // The first request finds out that it is quarantined, the second by a scan.
    quarantine(&pool, &id, "available", None).await;
    for caller in ["play-1", "play-2"] {
        let refused = broker.client.allocate(caller).await;
        assert_eq!(refused.code(), "NO_SANDBOXES_AVAILABLE");
    }
    pool.rewrite(
        &pool.table,
        item_key(&id),
        &[("status", Some(text("available")))],
    )
    .await;
    // An empty scan answers other requests for a moment.
    let allocated = async {
        loop {
            let answer = broker.client.allocate("play-1").await;
            if answer.status == 201 {
                return answer.sandbox_id();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let limit = Duration::from_secs(10);
    let allocated = tokio::time::timeout(limit, allocated).await;
    assert_eq!(allocated.expect("it stays out of the index"), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn holder_of_a_quarantined_sandbox_keeps_nothing_and_its_scripts_succeed() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let id = client.allocate("play-1").await.sandbox_id();
    quarantine(&pool, &id, "allocated", None).await;

    let seen = client.get(&id, "play-1").await;
    assert_eq!(
        (seen.status.as_u16(), &seen.json()["status"]),
        (200, &json!("quarantined"))
    );
    assert_eq!(client.list("play-1").await.json()["count"], 0);
    let released = client.release(&id, "play-1").await;
    assert_eq!(released.status, 200, "{released:?}");
    assert_eq!(
        released.json(),
        json!({ "sandbox_id": id, "status": "quarantined", "deletion_requested_at": null, "replaced_by": null })
    );
    assert_eq!(
        client.release(&id, "play-2").await.code(),
        "NOT_SANDBOX_OWNER"
    );
    assert_eq!(shown(&broker, &id).await["status"], "quarantined");

    let retried = client.allocate("play-1").await;
    assert_eq!(retried.status, 201, "{retried:?}");
    assert_ne!(retried.sandbox_id(), id);
    let again = client.allocate("play-1").await;
    assert_eq!(
        (again.status.as_u16(), again.sandbox_id()),
        (200, retried.sandbox_id())
    );
    let other = client.allocate("play-2").await;
    assert_eq!(other.code(), "NO_SANDBOXES_AVAILABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_touches_a_quarantined_sandbox() {
    let (pool, simulator, broker) = with_csp(6).await;
    let held = broker.client.allocate("play-1").await.sandbox_id();
    let free: Vec<_> = (pool.sandboxes().await.iter())
        .filter(|sandbox| sandbox.holder.is_none())
        .map(|sandbox| sandbox.id().to_string())
        .collect();
    let later = Some(START + Duration::from_hours(24 * 30));
    quarantine(&pool, &held, "allocated", later).await;
    quarantine(&pool, &free[0], "available", None).await;
    quarantine(&pool, &free[1], "available", later).await;
    assert!(simulator.rename(free[0].parse().unwrap(), "another name"));
    let in_quarantine = async || {
        let mut items = pool.items_of(&pool.table).await;
        items.retain(|item| item["status"] == text("quarantined"));
        items.sort_by_key(|item| item["PK"].as_s().unwrap().clone());
        items
    };
    let before = in_quarantine().await;
    assert_eq!(before.len(), 3);
    // Days later, when every allocation and every stale sandbox is overdue.
    broker.clock.advance(Duration::from_hours(24 * 10));
    for job in [
        "sync",
        "sync?force=true",
        "auto-expire?force=true",
        "cleanup?retry_failed=true",
        "auto-delete-stale?grace_period_hours=1",
        "bulk-delete?status=stale",
        "bulk-delete?status=deletion_failed",
        "sync",
    ] {
        broker.client.job(job).await;
        assert_eq!(in_quarantine().await, before, "{job}");
    }
    let bulk_delete = "/v1/admin/bulk-delete?status=quarantined";
    let refused = broker.client.admin(Method::POST, bulk_delete).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (400, "INVALID_PARAMETER".to_owned())
    );
    assert_eq!(simulator.accounts().len(), 6);
    assert_eq!(pool.sandboxes().await.len(), 6, "none was inserted again");
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_records_whether_csp_lists_a_quarantined_sandbox() {
    let (pool, simulator, broker) = with_csp(12).await;
    let held = broker.client.allocate("play-1").await.sandbox_id();
    let unused: Vec<_> = (pool.sandboxes().await.iter())
        .filter(|sandbox| sandbox.holder.is_none())
        .map(|sandbox| sandbox.id().to_string())
        .collect();
    quarantine(&pool, &held, "allocated", None).await;
    quarantine(&pool, &unused[0], "available", None).await;
    let from = async |id: &str| shown(&broker, id).await["quarantined_from"].clone();
    for id in [&held, &unused[0]] {
        simulator.hide(id.parse().unwrap(), true);
    }
    let report = broker.client.job("sync").await;
    assert_eq!(
        (&report["quarantined_missing"], &report["marked_stale"]),
        (&2.into(), &0.into())
    );
    assert_eq!(from(&unused[0]).await, "stale");
    assert_eq!(
        from(&held).await,
        "allocated",
        "it never returns to the pool"
    );
    assert_eq!(shown(&broker, &unused[0]).await["status"], "quarantined");

    simulator.hide(unused[0].parse().unwrap(), false);
    let report = broker.client.job("sync").await;
    assert_eq!(report["quarantined_missing"], 1);
    assert_eq!(from(&unused[0]).await, "available");

    // An empty list is more likely a fault of CSP.
    simulator.inject([Fault::always(FaultKind::Empty)]);
    let report = broker.client.job("sync").await;
    assert!(report["stale_guard"].is_string(), "{report}");
    assert_eq!(report["quarantined_missing"], 0);
    assert_eq!(from(&unused[0]).await, "available");
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_ends_at_its_time_in_the_pool_or_in_deletion() {
    let (pool, simulator, broker) = with_csp(6).await;
    let held = broker.client.allocate("play-1").await.sandbox_id();
    let unused: Vec<_> = (pool.sandboxes().await.iter())
        .filter(|sandbox| sandbox.holder.is_none())
        .map(|sandbox| sandbox.id().to_string())
        .collect();
    let until = START + Duration::from_hours(1);
    quarantine(&pool, &held, "allocated", Some(until)).await;
    quarantine(&pool, &unused[0], "available", Some(until)).await;
    quarantine(&pool, &unused[1], "stale", Some(until)).await;
    quarantine(&pool, &unused[2], "available", None).await;
    let status = async |id: &str| shown(&broker, id).await["status"].clone();

    broker.clock.set(UnixSeconds(until.0 - 1));
    assert_eq!(
        broker.client.job("auto-expire").await["quarantines_ended"],
        0
    );
    assert_eq!(broker.client.stats().await["quarantined"], 4);

    broker.clock.set(until);
    assert_eq!(
        broker.client.job("auto-expire").await["quarantines_ended"],
        3
    );
    for (id, expected) in [
        (&held, "pending_deletion"),
        (&unused[0], "available"),
        (&unused[1], "stale"),
        (&unused[2], "quarantined"),
    ] {
        assert_eq!(status(id).await, expected, "{id}");
    }
    let returned = shown(&broker, &unused[0]).await;
    for (name, value) in returned.as_object().unwrap() {
        assert!(
            !name.starts_with("quarantine") || value.is_null(),
            "{name}: {value}"
        );
    }
    let deleted = shown(&broker, &held).await;
    assert_eq!(deleted["quarantine_reason"], "its licence has expired");
    assert_eq!(deleted["deletion_requested_at"], until.0);
    assert_eq!(deleted["released_by"], "auto-expire");

    // It is a candidate again at once, and the one that had a holder is deleted.
    let callers = (0..3).map(|n| format!("again-{n}"));
    let mut allocated = Vec::new();
    for caller in callers {
        allocated.push(broker.client.allocate(&caller).await.sandbox_id());
    }
    assert!(allocated.contains(&unused[0]), "{allocated:?}");
    assert!(!allocated.contains(&held));
    assert_eq!(broker.client.job("cleanup").await["deleted"], 1);
    assert!(
        simulator
            .accounts()
            .iter()
            .all(|account| account.csp_id.to_string() != held)
    );
    // CSP lists the one that was said to be stale.
    assert_eq!(broker.client.job("sync").await["restored"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_a_quarantine_is_recorded_in_its_transaction() {
    let pool = Pool::with_names(["unused", "used"]).await;
    let broker = pool.broker().await;
    let until = START + Duration::from_hours(1);
    quarantine(&pool, "unused", "available", Some(until)).await;
    pool.rewrite(
        &pool.table,
        item_key("used"),
        &[
            ("allocated_at", Some(number(START.0))),
            ("allocated_to_track", Some(text("play-1"))),
        ],
    )
    .await;
    quarantine(&pool, "used", "allocated", Some(until)).await;
    broker.clock.set(until);
    broker.client.job("auto-expire").await;
    let records = pool.items_of(&pool.companion).await;
    for (id, status) in [("unused", "available"), ("used", "pending_deletion")] {
        let of_sandbox = text(&format!("SBX#{id}"));
        let events: Vec<_> = records
            .iter()
            .filter(|item| item["PK"] == of_sandbox)
            .collect();
        assert_eq!(events.len(), 1, "{id}: {events:?}");
        let texts = |name: &str| events[0][name].as_s().unwrap().as_str();
        assert_eq!(
            (texts("actor"), texts("action")),
            ("auto-expire", "sandbox.quarantine_end")
        );
        assert_eq!(
            (texts("target"), texts("outcome")),
            (format!("sandbox/{id}").as_str(), "done")
        );
        let json = |name: &str| serde_json::from_str::<Value>(texts(name)).unwrap();
        assert_eq!(json("before")["status"], "quarantined");
        assert_eq!(
            json("before")["quarantine_reason"],
            "its licence has expired"
        );
        assert_eq!(json("after"), json!({ "status": status }));
    }
    // A second run finds nothing to end.
    assert_eq!(
        broker.client.job("auto-expire").await["quarantines_ended"],
        0
    );
    assert_eq!(
        pool.items_of(&pool.companion)
            .await
            .iter()
            .filter(|item| item.get("action") == Some(&text("sandbox.quarantine_end")))
            .count(),
        4
    );
}

/// A clock that is ahead ends quarantines too early, as it ends allocations.
#[tokio::test(flavor = "multi_thread")]
async fn item_as_large_as_an_item_can_be_stops_no_other_quarantine_from_ending() {
    let pool = Pool::with_names(["large", "small"]).await;
    let broker = pool.broker().await;
    for id in ["large", "small"] {
        quarantine(
            &pool,
            id,
            "available",
            Some(START + Duration::from_hours(1)),
        )
        .await;
    }
    let reason = text(&"\"".repeat(390 * 1024));
    let attributes = [("quarantine_reason", Some(reason))];
    pool.rewrite(&pool.table, item_key("large"), &attributes)
        .await;
    broker.clock.advance(Duration::from_hours(1));
    let report = broker.client.job("auto-expire").await;
    assert_eq!(report["quarantines_ended"], 2, "{report}");
    assert_eq!(broker.client.stats().await["available"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_that_defers_expirations_ends_no_quarantine() {
    let pool = Pool::of(12).await;
    let broker = pool.broker().await;
    for n in 0..11 {
        broker.client.allocate(&format!("play-{n}")).await;
    }
    let free = pool
        .sandboxes()
        .await
        .into_iter()
        .find(|sandbox| sandbox.holder.is_none());
    let id = free.unwrap().id().to_string();
    quarantine(
        &pool,
        &id,
        "available",
        Some(START + Duration::from_hours(1)),
    )
    .await;
    broker.clock.advance(Duration::from_hours(24));
    let report = broker.client.job("auto-expire").await;
    assert_eq!(
        (&report["deferred"], &report["quarantines_ended"]),
        (&11.into(), &0.into())
    );
    assert_eq!(shown(&broker, &id).await["status"], "quarantined");
    let report = broker.client.job("auto-expire?force=true").await;
    assert_eq!(
        (&report["expired"], &report["quarantines_ended"]),
        (&11.into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_of_an_earlier_version_counts_no_quarantine() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let begin = START.0.div_euclid(300) * 300;
    let whole = |name: &'static str, value: i64| (name, Some(number(value)));
    pool.rewrite(
        &pool.companion,
        key("SAMPLES", &format!("SAMPLE#{begin:011}")),
        &[
            whole("sampled_at", begin),
            whole("available", 7),
            whole("allocated", 2),
            whole("pending_deletion", 1),
            whole("stale", 0),
            whole("deletion_failed", 0),
            whole("allocations", 3),
            whole("releases", 1),
            whole("ttl", begin + 1_000_000),
        ],
    )
    .await;
    let samples = broker
        .client
        .admin(Method::GET, "/v1/admin/samples")
        .await
        .json();
    let sample = &samples["samples"][0];
    assert_eq!(
        (&sample["available"], &sample["quarantined"]),
        (&7.into(), &0.into()),
        "{samples}"
    );
}
