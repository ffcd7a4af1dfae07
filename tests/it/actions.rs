//! The actions of operators on single sandboxes: what each changes, records and refuses.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::Method;
use sandbox_broker::{
    domain::Status,
    store::{Change, Item},
};
use serde_json::{Value, json};

use crate::support::{Pool, START, TestBroker, audit, key};

const HOUR: i64 = 3600;
/// `LAB_DURATION_HOURS` by default.
const END: i64 = START.0 + 4 * HOUR;

fn because(reason: &str) -> Value {
    json!({ "reason": reason })
}

fn minutes(minutes: i64) -> Value {
    json!({ "minutes": minutes, "reason": "the class runs late" })
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Returns the claims in the companion table.
async fn claims(pool: &Pool) -> Vec<Item> {
    let items = pool.items_of(&pool.companion).await;
    let is_claim = |item: &Item| item["PK"].as_s().unwrap().starts_with("CLAIM#");
    items.into_iter().filter(is_claim).collect()
}

fn whole(item: &Item, name: &str) -> i64 {
    item[name].as_n().unwrap().parse().unwrap()
}

/// Executes an action that must succeed, and returns the sandbox in the answer.
async fn act(broker: &TestBroker, id: &str, action: &str, body: &Value) -> Value {
    let answer = broker.client.act(id, action, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// A pool whose only sandbox `play-1` holds.
async fn held() -> (Pool, TestBroker, String) {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    (pool, broker, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_releases_the_sandbox_of_any_holder_with_an_audit_record() {
    let (pool, broker, id) = held().await;
    broker.clock.advance(Duration::from_hours(1));
    let path = format!("/v1/admin/sandboxes/{id}/release");
    let request = broker.client.request(Method::POST, &path);
    let request = request
        .bearer_auth(crate::support::ADMIN)
        .header("X-Request-ID", "request-1")
        .json(&because("the student has left"));
    let answer = broker.client.send(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    for (name, value) in [
        ("status", json!("pending_deletion")),
        ("released_by", json!("env-admin")),
        ("deletion_requested_at", json!(START.0 + HOUR)),
        ("allocated_to_track", json!("play-1")),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    let listed = broker
        .client
        .admin(Method::GET, "/v1/admin/sandboxes")
        .await;
    assert_eq!(
        listed.json()["sandboxes"][0],
        body,
        "the answer is as stored"
    );
    assert_eq!(
        audit::done_to(&pool, &id).await,
        [json!({
            "at_ms": (START.0 + HOUR) * 1000, "actor": "env-admin", "role": "admin", "action": "sandbox.release",
            "target": format!("sandbox/{id}"), "reason": "the student has left",
            "before": { "status": "allocated", "allocated_to_track": "play-1", "allocated_at": START.0,
                "expires_at": END },
            "after": { "status": "pending_deletion", "allocated_to_track": "play-1", "allocated_at": START.0,
                "expires_at": END },
            "request_id": "request-1"
        })]
    );
    let again = broker.client.act(&id, "release", &because("again")).await;
    assert_eq!(
        (again.status.as_u16(), again.code()),
        (409, "SANDBOX_PENDING_DELETION".into())
    );
    assert_eq!(audit::done_to(&pool, &id).await.len(), 1);
    // The scripts of the holder do not fail for it.
    assert_eq!(broker.client.release(&id, "play-1").await.status, 200);
    assert_eq!(
        pool.sandboxes().await[0].released_by.as_deref(),
        Some("env-admin")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn released_by_names_the_author_of_the_end_of_an_allocation() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let [released, expired, replaced] = ["a", "b", "c"].map(|caller| {
        let client = broker.client.clone();
        async move { client.allocate(caller).await.sandbox_id() }
    });
    let (released, expired, replaced) = tokio::join!(released, expired, replaced);
    broker.client.release(&released, "a").await;
    broker.clock.advance(Duration::from_hours(5));
    // An allocate request retires the overdue allocation of its caller.
    assert_eq!(
        broker.client.allocate("c").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    broker.client.job("auto-expire").await;
    for sandbox in pool.sandboxes().await {
        let id = sandbox.id().to_string();
        let by = if id == released {
            "env-track"
        } else {
            "auto-expire"
        };
        assert!([&released, &expired, &replaced].contains(&&id));
        assert_eq!(sandbox.released_by.as_deref(), Some(by), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_allocation_and_its_claim_end_later_and_neither_expires_before() {
    let (pool, broker, id) = held().await;
    let three_hours_ahead = (START + Duration::from_hours(7)).0;
    broker.clock.advance(Duration::from_hours(4));
    let body = act(&broker, &id, "extend", &minutes(180)).await;
    assert_eq!(body["expires_at"], three_hours_ahead);
    assert_eq!(body["lab_duration_hours"], 7);
    let record = audit::done_to(&pool, &id).await.remove(0);
    assert_eq!(record["before"]["expires_at"], END);
    assert_eq!(record["after"]["expires_at"], three_hours_ahead);
    let claim = claims(&pool).await.remove(0);
    let grace = HOUR / 2;
    assert_eq!(whole(&claim, "expires_at"), three_hours_ahead + grace);
    assert_eq!(
        whole(&claim, "ttl"),
        three_hours_ahead + grace + 7 * 24 * HOUR
    );
    broker.clock.advance(Duration::from_hours(3));
    assert_eq!(broker.client.job("auto-expire").await["due"], 0);
    let replay = broker.client.allocate("play-1").await;
    assert_eq!(
        (replay.status.as_u16(), replay.sandbox_id()),
        (200, id.clone())
    );
    assert_eq!(replay.json()["expires_at"], three_hours_ahead);
    broker.clock.advance(Duration::from_mins(31));
    assert_eq!(
        broker.client.release(&id, "play-1").await.code(),
        "ALLOCATION_EXPIRED"
    );
    assert_eq!(broker.client.job("auto-expire").await["expired"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_extension_adds_nothing_and_an_end_never_moves_to_an_earlier_time() {
    let (pool, broker, id) = held().await;
    act(&broker, &id, "extend", &minutes(300)).await;
    for shorter in [300, 60, 1] {
        let refused = broker.client.act(&id, "extend", &minutes(shorter)).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (409, "EXTENSION_LIMIT_REACHED".into())
        );
    }
    assert_eq!(
        pool.sandboxes().await[0].expires_at.unwrap().0,
        START.0 + 300 * 60
    );
    assert_eq!(audit::done_to(&pool, &id).await.len(), 1);
    act(&broker, &id, "extend", &minutes(43_200)).await;
    assert_eq!(
        pool.sandboxes().await[0].expires_at.unwrap().0,
        START.0 + 30 * 24 * HOUR
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn overdue_allocation_is_extended_until_it_is_retired() {
    let (pool, broker, id) = held().await;
    broker.clock.advance(Duration::from_hours(12));
    act(&broker, &id, "extend", &minutes(60)).await;
    assert_eq!(broker.client.job("auto-expire").await["expired"], 0);
    assert_eq!(broker.client.allocate("play-1").await.sandbox_id(), id);
    broker.clock.advance(Duration::from_hours(2));
    broker.client.job("auto-expire").await;
    let refused = broker.client.act(&id, "extend", &minutes(60)).await;
    assert_eq!(refused.code(), "SANDBOX_PENDING_DELETION");
    assert_eq!(audit::done_to(&pool, &id).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_inherited_allocation_states_its_end_and_has_its_claim() {
    let (pool, broker, id) = held().await;
    pool.rewrite_sandbox(
        &id,
        &[
            ("expires_at", None),
            ("lab_duration_hours", Some(number(4))),
        ],
    )
    .await;
    let claim = claims(&pool).await.remove(0);
    let claim_key = key(claim["PK"].as_s().unwrap(), "CLAIM");
    let delete = pool.client.delete_item().table_name(&pool.companion);
    delete.set_key(Some(claim_key)).send().await.unwrap();
    // It lasts for the 48 hours of the FastAPI service.
    let refused = broker.client.act(&id, "extend", &minutes(48 * 60)).await;
    assert_eq!(refused.code(), "EXTENSION_LIMIT_REACHED");
    let body = act(&broker, &id, "extend", &minutes(49 * 60)).await;
    assert_eq!(
        (&body["expires_at"], &body["lab_duration_hours"]),
        (&json!(START.0 + 49 * HOUR), &json!(49))
    );
    let item = &pool.items_of(&pool.table).await[0];
    assert_eq!(whole(item, "expires_at"), START.0 + 49 * HOUR);
    let claim = claims(&pool).await.remove(0);
    assert_eq!(claim["sandbox_id"].as_s().unwrap(), &id);
    assert_eq!(whole(&claim, "allocated_at"), START.0);
    assert_eq!(broker.client.allocate("play-1").await.sandbox_id(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_leaves_a_claim_alone_that_points_elsewhere_or_is_unreadable() {
    for (attribute, is_overdue) in [
        (("sandbox_id", Some(text("another"))), false),
        (("sandbox_id", None), false),
        (("allocated_at", Some(number(START.0 - 1))), false),
        (("sandbox_id", Some(text("another"))), true),
    ] {
        let (pool, broker, id) = held().await;
        let claim = claims(&pool).await.remove(0);
        let claim_key = key(claim["PK"].as_s().unwrap(), "CLAIM");
        pool.rewrite(&pool.companion, claim_key, &[attribute]).await;
        let before = claims(&pool).await;
        if is_overdue {
            broker.clock.advance(Duration::from_hours(12));
        }
        let answer = broker.client.act(&id, "extend", &minutes(24 * 60)).await;
        if is_overdue {
            // Its caller may have another sandbox since, and would hold two.
            assert_eq!(answer.code(), "EXTENSION_LIMIT_REACHED");
            assert!(answer.message().contains("another sandbox"), "{answer:?}");
        } else {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_eq!(claims(&pool).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_with_an_unreadable_claim_holds_one_sandbox_after_an_extension() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    let claim = claims(&pool).await.remove(0);
    let claim_key = key(claim["PK"].as_s().unwrap(), "CLAIM");
    pool.rewrite(&pool.companion, claim_key, &[("sandbox_id", None)])
        .await;
    broker.clock.advance(Duration::from_hours(12));
    let other = broker.client.allocate("play-1").await.sandbox_id();
    assert_ne!(other, id);
    let refused = broker.client.act(&id, "extend", &minutes(24 * 60)).await;
    assert_eq!(refused.code(), "SANDBOX_PENDING_DELETION");
    assert_eq!(pool.holdings().await["play-1"], [other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_candidate_is_restored_at_once_and_a_used_sandbox_never() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = pool.sandboxes().await[0].id().to_string();
    let until = START.0 + HOUR;
    let body = json!({ "reason": "DNS does not resolve", "until": until });
    let aside = act(&broker, &id, "quarantine", &body).await;
    for (name, value) in [
        ("status", json!("quarantined")),
        ("quarantined_by", json!("env-admin")),
        ("quarantined_at", json!(START.0)),
        ("quarantine_reason", json!("DNS does not resolve")),
        ("quarantined_until", json!(until)),
        ("quarantined_from", json!("available")),
    ] {
        assert_eq!(aside[name], value, "{name}");
    }
    assert_eq!(
        broker.client.allocate("play-1").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    let restored = act(&broker, &id, "restore", &because("repaired")).await;
    assert_eq!(
        (&restored["status"], &restored["quarantined_by"]),
        (&json!("available"), &Value::Null)
    );
    assert_eq!(broker.client.allocate("play-1").await.sandbox_id(), id);
    let aside = act(
        &broker,
        &id,
        "quarantine",
        &because("the student reports errors"),
    )
    .await;
    for (name, value) in [
        ("quarantined_from", json!("allocated")),
        ("quarantined_until", Value::Null),
        ("allocated_to_track", json!("play-1")),
        ("expires_at", json!(END)),
        ("released_by", Value::Null),
    ] {
        assert_eq!(aside[name], value, "{name}");
    }
    let refused = broker.client.act(&id, "restore", &because("try")).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (409, "HAD_HOLDER".into())
    );
    act(&broker, &id, "delete", &because("broken")).await;
    let actions: Vec<_> = audit::done_to(&pool, &id).await;
    let actions: Vec<_> = actions
        .iter()
        .map(|record| record["action"].as_str().unwrap())
        .collect();
    let mut expected =
        ["quarantine", "restore", "quarantine", "delete"].map(|it| format!("sandbox.{it}"));
    // All have the same time, so their order is not defined.
    let mut actions: Vec<_> = actions.into_iter().map(str::to_owned).collect();
    actions.sort_unstable();
    expected.sort_unstable();
    assert_eq!(actions, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_that_csp_does_not_list_is_restored_as_stale() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = pool.sandboxes().await[0].id().clone();
    pool.apply(vec![Change::MarkStale(id.clone(), Status::Available)])
        .await;
    let aside = act(&broker, id.as_str(), "quarantine", &because("gone?")).await;
    assert_eq!(aside["quarantined_from"], "stale");
    let restored = act(&broker, id.as_str(), "restore", &because("found")).await;
    assert_eq!(restored["status"], "stale");
    assert_eq!(pool.sandboxes().await[0].status, Status::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_of_a_failed_sandbox_counts_its_attempts_again() {
    let (pool, broker, id) = held().await;
    let failed = [
        ("status", Some(text("deletion_failed"))),
        ("deletion_retry_count", Some(number(10))),
        ("next_deletion_at", Some(number(START.0 + HOUR))),
    ];
    pool.rewrite_sandbox(&id, &failed).await;
    let body = act(&broker, &id, "delete", &because("CSP is repaired")).await;
    assert_eq!(body["status"], "pending_deletion");
    assert_eq!(body["deletion_retry_count"], 0);
    assert_eq!(body["next_deletion_at"], Value::Null);
    assert_eq!(body["released_by"], "env-admin");
    let stored = pool.sandboxes().await.remove(0);
    assert_eq!(stored.maintenance.deletion_retry_count, 0);
    assert_eq!(stored.maintenance.next_deletion_at, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_is_refused_in_every_other_state_with_that_state_and_without_a_record() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = pool.sandboxes().await[0].id().to_string();
    for status in Status::ALL {
        let from = if status == Status::Allocated {
            START.0
        } else {
            0
        };
        let attributes = [
            ("status", Some(text(status.as_str()))),
            ("allocated_at", Some(number(from))),
            ("expires_at", (from > 0).then(|| number(END))),
        ];
        pool.rewrite_sandbox(&id, &attributes).await;
        let before = pool.items_of(&pool.table).await;
        let refused: &[&str] = match status {
            Status::Provisioning | Status::Available | Status::Stale => {
                &["release", "extend", "restore"]
            }
            Status::Allocated => &["restore", "delete"],
            Status::PendingDeletion => &["release", "extend", "quarantine", "restore", "delete"],
            Status::DeletionFailed => &["release", "extend", "quarantine", "restore"],
            Status::Quarantined => &["release", "extend", "quarantine"],
        };
        for action in refused {
            let body = if *action == "extend" {
                minutes(600)
            } else {
                because("test")
            };
            let answer = broker.client.act(&id, action, &body).await;
            let code = format!("SANDBOX_{}", status.as_str().to_uppercase());
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (409, code),
                "{action}"
            );
            assert_eq!(answer.header("retry-after"), None);
        }
        assert_eq!(pool.items_of(&pool.table).await, before);
    }
    assert_eq!(audit::done_to(&pool, &id).await, [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_unreadable_sandboxes_are_refused() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = pool.sandboxes().await[0].id().to_string();
    pool.rewrite_sandbox(&id, &[("status", Some(text("deleted")))])
        .await;
    for action in ["release", "extend", "quarantine", "restore", "delete"] {
        let body = if action == "extend" {
            minutes(60)
        } else {
            because("test")
        };
        let missing = broker.client.act("2009521", action, &body).await;
        assert_eq!(
            (missing.status.as_u16(), missing.code()),
            (404, "SANDBOX_NOT_FOUND".into())
        );
        let unreadable = broker.client.act(&id, action, &body).await;
        assert_eq!(
            (unreadable.status.as_u16(), unreadable.code()),
            (409, "SANDBOX_UNREADABLE".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_body_is_refused_with_its_fault() {
    let (pool, broker, id) = held().await;
    let milliseconds = json!({ "reason": "test", "until": START.0 * 1000 });
    for (action, body, fault) in [
        ("release", json!({}), "missing field `reason`"),
        ("release", json!({ "reason": " " }), "is empty"),
        (
            "release",
            json!({ "reason": "a\nb" }),
            "control character at position 2",
        ),
        (
            "release",
            json!({ "reason": "x".repeat(501) }),
            "501 characters; at most 500",
        ),
        (
            "release",
            json!({ "reason": "test", "force": true }),
            "unknown field `force`",
        ),
        ("extend", because("test"), "missing field `minutes`"),
        (
            "extend",
            minutes(0),
            "minutes must be a number from 1 to 43200",
        ),
        (
            "extend",
            minutes(43_201),
            "minutes must be a number from 1 to 43200",
        ),
        ("extend", minutes(-5), "invalid value: integer `-5`"),
        (
            "extend",
            json!({ "minutes": "60", "reason": "test" }),
            "invalid type: string",
        ),
        (
            "quarantine",
            json!({ "reason": "test", "until": START.0 }),
            "which has passed",
        ),
        ("quarantine", milliseconds, "more than 365 days from now"),
    ] {
        let answer = broker.client.act(&id, action, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, "INVALID_BODY".into()),
            "{body}"
        );
        assert!(answer.message().contains(fault), "{}", answer.message());
    }
    assert_eq!(pool.sandboxes().await[0].status, Status::Allocated);
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_are_counted_by_outcome() {
    let (_pool, broker, id) = held().await;
    act(&broker, &id, "release", &because("test")).await;
    broker.client.act(&id, "release", &because("test")).await;
    broker
        .client
        .act("2009521", "delete", &because("test"))
        .await;
    let metrics = broker.client.plain("/metrics").await.text;
    for line in [
        r#"broker_admin_actions_total{action="release",outcome="success"} 1"#,
        r#"broker_admin_actions_total{action="release",outcome="refused"} 1"#,
        r#"broker_admin_actions_total{action="delete",outcome="not_found"} 1"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}: {metrics}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_track_acts_on_no_sandbox() {
    let (pool, broker, id) = held().await;
    for action in ["release", "extend", "quarantine", "restore", "delete"] {
        let path = format!("/v1/admin/sandboxes/{id}/{action}");
        let request = broker.client.request(Method::POST, &path);
        let request = request
            .bearer_auth(crate::support::TRACK)
            .json(&minutes(60));
        let answer = broker.client.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (403, "FORBIDDEN".into())
        );
    }
    assert_eq!(pool.sandboxes().await[0].status, Status::Allocated);
}

#[tokio::test(flavor = "multi_thread")]
async fn end_that_is_no_whole_number_stops_neither_operators_nor_callers_nor_jobs() {
    // One beyond the range of times is never over, so only an operator can end that allocation.
    let end = format!("{}.25", START.0 + 100 * HOUR);
    for (end, is_over) in [(end, true), ("1e+20".to_owned(), false)] {
        let pool = Pool::of(4).await;
        let broker = pool.broker().await;
        let mut ids = Vec::new();
        for caller in ["play-1", "play-2", "play-3"] {
            let id = broker.client.allocate(caller).await.sandbox_id();
            let damaged = Some(AttributeValue::N(end.clone()));
            pool.rewrite_sandbox(&id, &[("expires_at", damaged)]).await;
            ids.push(id);
        }
        act(&broker, &ids[0], "release", &because("the item is damaged")).await;
        broker.clock.advance(Duration::from_hours(101));
        let again = broker.client.allocate("play-2").await;
        assert_eq!(
            again.status.as_u16(),
            if is_over { 201 } else { 200 },
            "{end}"
        );
        let report = broker.client.job("auto-expire").await;
        assert_eq!(report["expired"], i64::from(is_over), "{end}: {report}");
        if !is_over {
            act(
                &broker,
                &ids[2],
                "quarantine",
                &because("the item is damaged"),
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_that_was_allocated_never_returns_from_quarantine_even_if_its_item_names_nobody() {
    let pool = Pool::with_names(["restored", "ended"]).await;
    let broker = pool.broker().await;
    for id in ["restored", "ended"] {
        // Of the allocation only the status is left.
        pool.rewrite_sandbox(id, &[("status", Some(text("allocated")))])
            .await;
    }
    act(
        &broker,
        "restored",
        "quarantine",
        &because("its item is damaged"),
    )
    .await;
    let refused = broker
        .client
        .act("restored", "restore", &because("try"))
        .await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (409, "HAD_HOLDER".into())
    );
    let until = json!({ "reason": "its item is damaged", "until": START.0 + HOUR });
    act(&broker, "ended", "quarantine", &until).await;
    broker.clock.advance(Duration::from_hours(1));
    assert_eq!(
        broker.client.job("auto-expire").await["quarantines_ended"],
        1
    );
    let statuses: Vec<_> = pool.sandboxes().await.iter().map(|it| it.status).collect();
    assert!(!statuses.contains(&Status::Stale), "{statuses:?}");
    assert!(statuses.contains(&Status::PendingDeletion), "{statuses:?}");
}
