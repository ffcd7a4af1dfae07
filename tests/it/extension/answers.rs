//! The answer to each extension, and what it leaves in the tables.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::{Method, header::HeaderMap};
use sandbox_broker::{
    domain::{Bounds, CallerId, ExtensionOrder, LeaseTerms, Policy, SandboxId},
    store::Decided,
};
use serde_json::{Value, json};

use super::{
    END, GRACE, HOUR, MAX_END, allocate, assert_outlives, claim, claims, held, leases, stored,
    whole,
};
use crate::support::{ADMIN, Answer, Pool, START, TRACK, TestBroker, audit};

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn body(id: &str, expires_at: i64, max_expires_at: i64) -> Value {
    json!({ "sandbox_id": id, "expires_at": expires_at, "max_expires_at": max_expires_at })
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str, fault: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (status, code)
    );
    assert!(answer.message().contains(fault), "{}", answer.message());
}

async fn metric(broker: &TestBroker, outcome: &str) -> u64 {
    let text = broker.client.plain("/metrics").await.text;
    let name = format!("broker_extensions_total{{outcome=\"{outcome}\"}} ");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&name));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_allocation_and_its_claim_end_later_and_the_claim_keeps_its_other_attributes() {
    let (pool, broker, id) = held().await;
    let (claim_key, before) = claim(&pool).await;
    let replacements = [("replacements", Some(number(2)))];
    pool.rewrite(&pool.companion, claim_key, &replacements)
        .await;
    broker.clock.advance(Duration::from_hours(1));
    let end = START.0 + 3 * HOUR;
    let answer = broker.client.extend(&id, "play-1", 120).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, body(&id, end, MAX_END))
    );
    let sandbox = stored(&pool, &id).await;
    assert_eq!(sandbox.expires_at.unwrap().0, end);
    assert_eq!(sandbox.lab_duration_hours, 3);
    assert_eq!(sandbox.lease.extensions, 1);
    let now = START + Duration::from_hours(1);
    assert_eq!(sandbox.lease.extended_at, Some(now));
    assert_eq!(sandbox.maintenance.updated_at, Some(now));
    assert_eq!(sandbox.allocated_at, START);
    let (_, claim) = claim(&pool).await;
    assert_outlives(&claim, end);
    for name in ["sandbox_id", "allocated_at", "caller", "key"] {
        assert_eq!(claim[name], before[name], "{name}");
    }
    assert_eq!(whole(&claim, "replacements"), 2);
    assert!(audit::done_to(&pool, &id).await.is_empty());
    broker.clock.set(START + Duration::from_mins(3 * 60 + 30));
    assert_eq!(broker.client.job("auto-expire").await["due"], 0);
    let replay = broker.client.allocate("play-1").await;
    assert_eq!(
        (replay.status.as_u16(), replay.sandbox_id()),
        (200, id.clone())
    );
    assert_eq!(replay.json()["expires_at"], end);
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(broker.client.job("auto-expire").await["expired"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_extension_writes_nothing_and_has_the_same_answer() {
    let (pool, broker, id) = held().await;
    let first = broker.client.extend(&id, "play-1", 180).await;
    assert_eq!(first.json(), body(&id, START.0 + 3 * HOUR, MAX_END));
    let before = leases(&pool).await;
    for minutes in [180, 60, 1] {
        let again = broker.client.extend(&id, "play-1", minutes).await;
        assert_eq!(
            (again.status.as_u16(), again.json()),
            (200, first.json()),
            "{minutes}"
        );
    }
    assert_eq!(leases(&pool).await, before);
    assert_eq!(
        (
            metric(&broker, "success").await,
            metric(&broker, "unchanged").await
        ),
        (1, 3)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_goes_as_far_as_the_lab_permits_and_the_next_one_is_refused_with_the_maximum() {
    let (pool, broker, id) = held().await;
    let answer = broker.client.extend(&id, "play-1", 43_200).await;
    assert_eq!(answer.json(), body(&id, MAX_END, MAX_END));
    let before = leases(&pool).await;
    broker.clock.advance(Duration::from_hours(7));
    let refused = broker.client.extend(&id, "play-1", 61).await;
    let fault = format!("ends at {MAX_END} (Unix seconds)");
    assert_refused(&refused, 409, "EXTENSION_LIMIT_REACHED", &fault);
    assert!(
        refused.message().contains("at most 480 minutes"),
        "{refused:?}"
    );
    assert_eq!(refused.header("retry-after"), None);
    let unchanged = broker.client.extend(&id, "play-1", 60).await;
    assert_eq!(unchanged.json(), answer.json());
    assert_eq!(leases(&pool).await, before);
    assert_eq!(metric(&broker, "limit").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn maximum_that_has_been_lowered_takes_back_no_end() {
    let (pool, broker, id) = held().await;
    broker.client.extend(&id, "play-1", 300).await;
    let end = START.0 + 5 * HOUR;
    let lower = pool.broker_with(&[("LAB_DURATION_HOURS", "1")]).await;
    lower.clock.advance(Duration::from_hours(4));
    let unchanged = lower.client.extend(&id, "play-1", 60).await;
    assert_eq!(unchanged.json(), body(&id, end, end));
    let refused = lower.client.extend(&id, "play-1", 61).await;
    let fault = "at most 60 minutes from its start";
    assert_refused(&refused, 409, "EXTENSION_LIMIT_REACHED", fault);
    assert_eq!(stored(&pool, &id).await.expires_at.unwrap().0, end);
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_is_extended_until_its_grace_period_is_over() {
    let (pool, broker, id) = held().await;
    broker.clock.set(START + Duration::from_mins(150));
    let answer = broker.client.extend(&id, "play-1", 60).await;
    assert_eq!(answer.json()["expires_at"], END + GRACE + HOUR);
    broker.clock.set(START + Duration::from_mins(241));
    let before = leases(&pool).await;
    let refused = broker.client.extend(&id, "play-1", 60).await;
    assert_refused(&refused, 403, "ALLOCATION_EXPIRED", "are over");
    assert_eq!(leases(&pool).await, before);
    // Its caller gets another sandbox, and the first one is over for good.
    let next = broker.client.allocate("play-1").await;
    assert_eq!(next.status, 201);
    let refused = broker.client.extend(&id, "play-1", 60).await;
    assert_refused(&refused, 403, "ALLOCATION_EXPIRED", "has been ended");
    assert_eq!(metric(&broker, "expired").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_that_the_caller_does_not_hold_is_not_extended() {
    let (pool, broker, id) = held().await;
    let client = &broker.client;
    let stranger = client.extend(&id, "play-2", 300).await;
    assert_refused(&stranger, 403, "NOT_SANDBOX_OWNER", "another caller");
    let sandboxes = pool.sandboxes().await;
    let mut others = sandboxes.iter().map(|sandbox| sandbox.id().to_string());
    let free = others.find(|other| *other != id).unwrap();
    let refused = client.extend(&free, "play-1", 300).await;
    assert_refused(&refused, 403, "NOT_SANDBOX_OWNER", "or by none");
    let unknown = client.extend("2009521", "play-1", 300).await;
    assert_refused(&unknown, 404, "SANDBOX_NOT_FOUND", "no such sandbox");
    for status in ["pending_deletion", "deletion_failed", "quarantined"] {
        pool.rewrite_sandbox(&id, &[("status", Some(text(status)))])
            .await;
        let ended = client.extend(&id, "play-1", 300).await;
        assert_refused(&ended, 403, "ALLOCATION_EXPIRED", "has been ended");
    }
    let by = [("replaced_by", Some(text("2009522")))];
    pool.rewrite_sandbox(&id, &by).await;
    let replaced = client.extend(&id, "play-1", 300).await;
    assert_refused(
        &replaced,
        403,
        "ALLOCATION_EXPIRED",
        "has been replaced by 2009522",
    );
    pool.rewrite_sandbox(&id, &[("status", Some(text("unknown")))])
        .await;
    let unreadable = client.extend(&id, "play-1", 300).await;
    assert_refused(&unreadable, 404, "SANDBOX_NOT_FOUND", "no such sandbox");
    assert_eq!(
        (
            metric(&broker, "not_owner").await,
            metric(&broker, "not_found").await
        ),
        (2, 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn token_extends_only_sandboxes_within_its_bounds() {
    let (pool, broker, id) = held().await;
    let bounds = json!({ "name": "other", "role": "track", "labs": ["other-lab"] });
    let create = broker.client.request(Method::POST, "/v1/admin/tokens");
    let created = create.bearer_auth(ADMIN).json(&bounds);
    let secret = broker.client.send(created).await.json()["secret"].clone();
    let path = format!("/v1/sandboxes/{id}/extend");
    let request = broker.client.request(Method::POST, &path);
    let request = request
        .bearer_auth(secret.as_str().unwrap())
        .header("X-Instruqt-Sandbox-ID", "play-1")
        .json(&json!({ "minutes": 300 }));
    let refused = broker.client.send(request).await;
    assert_refused(&refused, 403, "LAB_NOT_ALLOWED", "not valid for this lab");
    assert_eq!(stored(&pool, &id).await.expires_at.unwrap().0, END);
    assert_eq!(metric(&broker, "lab_not_allowed").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_body_is_refused_with_its_fault() {
    let (pool, broker, id) = held().await;
    let before = leases(&pool).await;
    let path = format!("/v1/sandboxes/{id}/extend");
    for (body, fault) in [
        ("", "it is empty"),
        ("{}", "missing field `minutes`"),
        (
            r#"{"minutes":0}"#,
            "minutes must be a number from 1 to 43200",
        ),
        (
            r#"{"minutes":43201}"#,
            "minutes must be a number from 1 to 43200",
        ),
        (r#"{"minutes":-5}"#, "invalid value: integer `-5`"),
        (r#"{"minutes":1.5}"#, "invalid type: floating point"),
        (r#"{"minutes":"60"}"#, "invalid type: string"),
        (
            r#"{"minutes":60,"reason":"late"}"#,
            "unknown field `reason`",
        ),
        (r#"{"minutes":60"#, "EOF"),
        (" [60]", "invalid type: sequence, expected an object"),
    ] {
        let request = broker.client.request(Method::POST, &path);
        let request = request
            .bearer_auth(TRACK)
            .header("X-Instruqt-Sandbox-ID", "play-1")
            .body(body);
        let answer = broker.client.send(request).await;
        assert_refused(&answer, 400, "INVALID_BODY", fault);
    }
    let request = broker.client.request(Method::POST, &path);
    let request = request.bearer_auth(TRACK).headers(HeaderMap::new());
    let answer = broker.client.send(request.body("{}")).await;
    assert_eq!(answer.code(), "MISSING_HEADER");
    assert_eq!(leases(&pool).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_stop_no_extension() {
    let (_pool, broker, id) = held().await;
    for activity in ["allocations", "expiry"] {
        let path = format!("/v1/admin/pauses/{activity}");
        let request = broker.client.request(Method::PUT, &path);
        let pause = request
            .bearer_auth(ADMIN)
            .json(&json!({ "reason": "test" }));
        assert_eq!(broker.client.send(pause).await.status, 200);
    }
    let answer = broker.client.extend(&id, "play-1", 180).await;
    assert_eq!(answer.json()["expires_at"], START.0 + 3 * HOUR);
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_writes_a_missing_claim_and_leaves_any_other_alone() {
    let (pool, broker, id) = held().await;
    let (claim_key, original) = claim(&pool).await;
    let delete = pool.client.delete_item().table_name(&pool.companion);
    let delete = delete.set_key(Some(claim_key.clone()));
    delete.send().await.unwrap();
    broker.client.extend(&id, "play-1", 180).await;
    let (_, written) = claim(&pool).await;
    assert_outlives(&written, START.0 + 3 * HOUR);
    assert_eq!(written["caller"], original["caller"]);
    for (hours, attribute) in [
        (4, ("sandbox_id", Some(text("another")))),
        (5, ("allocated_at", Some(number(START.0 - 1)))),
        (6, ("sandbox_id", None)),
    ] {
        pool.rewrite(&pool.companion, claim_key.clone(), &[attribute])
            .await;
        let before = claims(&pool).await;
        let answer = broker.client.extend(&id, "play-1", hours * 60).await;
        let end = START.0 + i64::try_from(hours).unwrap() * HOUR;
        assert_eq!(answer.json()["expires_at"], end, "{answer:?}");
        assert_eq!(claims(&pool).await, before);
    }
    assert_eq!(stored(&pool, &id).await.lease.extensions, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_inherited_allocation_states_its_end() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = allocate(&broker.client, "play-1").await;
    // It lasts for the 48 hours of the FastAPI service, longer than the labs permit.
    pool.rewrite_sandbox(&id, &[("expires_at", None)]).await;
    let inherited = START.0 + 48 * HOUR;
    let answer = broker.client.extend(&id, "play-1", 60).await;
    assert_eq!(answer.json(), body(&id, inherited, inherited));
    let refused = broker.client.extend(&id, "play-1", 49 * 60).await;
    let fault = format!("ends at {inherited} ");
    assert_refused(&refused, 409, "EXTENSION_LIMIT_REACHED", &fault);
    let policy = Policy::of_environment(LeaseTerms {
        lab_duration_hours: 72,
        inherited_hours: 48,
        grace: Duration::from_mins(30),
    });
    let order = ExtensionOrder {
        caller: &CallerId::parse("play-1").unwrap(),
        bounds: &Bounds::default(),
        end: START + Duration::from_hours(50),
        policy: &policy,
        grace: Duration::from_mins(30),
    };
    let id = SandboxId::parse(id).unwrap();
    let extended = pool.store.extend(&id, &order, START).await.unwrap();
    assert!(matches!(extended, Decided::Done(_)), "{extended:?}");
    let sandbox = stored(&pool, id.as_str()).await;
    assert!(!sandbox.is_inherited);
    assert_eq!(sandbox.expires_at, Some(START + Duration::from_hours(50)));
    assert_outlives(&claim(&pool).await.1, START.0 + 50 * HOUR);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_extension_counts_too_and_holds_for_the_holder() {
    let (pool, broker, id) = held().await;
    let (claim_key, _) = claim(&pool).await;
    let replacements = [("replacements", Some(number(1)))];
    pool.rewrite(&pool.companion, claim_key, &replacements)
        .await;
    broker.client.extend(&id, "play-1", 180).await;
    broker.clock.advance(Duration::from_mins(1));
    let order = json!({ "minutes": 600, "reason": "the class runs late" });
    let extended = broker.client.act(&id, "extend", &order).await.json();
    let end = START.0 + 60 + 10 * HOUR;
    for (name, value) in [
        ("expires_at", end),
        ("extensions", 2),
        ("extended_at", START.0 + 60),
    ] {
        assert_eq!(extended[name], value, "{name}");
    }
    let claim = claim(&pool).await.1;
    assert_outlives(&claim, end);
    assert_eq!(whole(&claim, "replacements"), 1);
    // Later than the lab permits, but no less promised.
    let unchanged = broker.client.extend(&id, "play-1", 500).await;
    assert_eq!(unchanged.json(), body(&id, end, end));
    let refused = broker.client.extend(&id, "play-1", 700).await;
    assert_eq!(refused.code(), "EXTENSION_LIMIT_REACHED");
}
