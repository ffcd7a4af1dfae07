//! The audit: its listing, the timeline of a sandbox, refused requests, and started jobs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use reqwest::Method;
use sandbox_broker::{
    clock::ManualClock,
    csp::simulator::{Call, Fault as CspFault, FaultKind},
    domain::{
        AuditAction, AuditRecord, AuditTarget, Author, DONE, JobName, Reason, Role, RunId,
        SandboxId,
    },
    store::Item,
};
use serde_json::{Value, json};

use crate::support::{
    ADMIN, Answer, BrokerClient, Pool, Proxy, START, TRACK, TestBroker, key, proxy::Fault,
    simulated_csp,
};

const DAY: i64 = 24 * 3600;

fn sandbox(id: &str) -> AuditTarget {
    AuditTarget::Sandbox(SandboxId::parse(id).unwrap())
}

/// A record of `actor` at `at_ms`.
fn record(at_ms: i64, actor: &str, action: AuditAction, target: AuditTarget) -> AuditRecord {
    AuditRecord {
        at_ms,
        author: Author {
            name: actor.into(),
            role: Some(Role::Operator),
            request_id: format!("request-{at_ms}"),
            address: Some("203.0.113.5".to_owned()),
        },
        action,
        target,
        reason: Some(Reason::parse("because").unwrap()),
        before: Some(json!({ "status": "allocated" })),
        after: Some(json!({ "status": "pending_deletion" })),
        outcome: DONE,
    }
}

async fn list(client: &BrokerClient, query: &str) -> Value {
    let path = format!("/v1/admin/audit?{query}");
    let answer = client.admin(Method::GET, &path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Returns the records on all pages, and the number of pages. Unless the query has a start, those of 60 days: a request
/// without one reads 400 days.
async fn every_record(client: &BrokerClient, query: &str) -> (Vec<Value>, usize) {
    let query = if query.contains("from=") {
        query.to_owned()
    } else {
        format!("{query}&from={}", START.0 - 60 * DAY)
    };
    let (mut records, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = list(client, &format!("{query}&cursor={cursor}")).await;
        let on_page = page["records"].as_array().unwrap();
        assert_eq!(page["count"], on_page.len());
        records.extend(on_page.iter().cloned());
        pages += 1;
        match &page["cursor"] {
            Value::String(next) => next.clone_into(&mut cursor),
            _ => return (records, pages),
        }
    }
}

/// Returns the items of all records, by day and by sandbox.
async fn record_items(pool: &Pool) -> Vec<Item> {
    let mut items = pool.items_of(&pool.companion).await;
    items.retain(|item| item.contains_key("at_ms"));
    items
}

/// Waits for `count` records that match `query`, and returns them.
async fn until_recorded(client: &BrokerClient, query: &str, count: usize) -> Vec<Value> {
    loop {
        let (records, _) = every_record(client, query).await;
        if records.len() >= count {
            assert_eq!(records.len(), count, "{records:?}");
            return records;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn timeline(client: &BrokerClient, id: &str, query: &str) -> Answer {
    let path = format!("/v1/admin/sandboxes/{id}?{query}");
    client.admin(Method::GET, &path).await
}

/// Returns the names of the events of a sandbox, newest first.
async fn event_names(client: &BrokerClient, id: &str) -> Vec<String> {
    let answer = timeline(client, id, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    names(&answer.json()["events"])
}

fn names(events: &Value) -> Vec<String> {
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| event["action"].as_str().unwrap().to_owned())
        .collect()
}

fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

async fn refusals(client: &BrokerClient, outcome: &str) -> u64 {
    let text = client.plain("/metrics").await.text;
    let name = format!("broker_audit_refusals_total{{outcome=\"{outcome}\"}}");
    metric(&text, &name)
}

/// Sends a request that lacks the role, with the track token.
async fn forbidden(client: &BrokerClient) -> Answer {
    let request = client.request(Method::GET, "/v1/admin/stats");
    let answer = client.send(request.bearer_auth(TRACK)).await;
    assert_eq!(answer.code(), "FORBIDDEN");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_several_days_are_listed_newest_first_on_pages_of_any_size() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let mut times = Vec::new();
    // Days without records are between those with some, and several records have the same time.
    for day in [0, 1, 2, 5, 6, 40] {
        for offset in [1, 1, 1, 2000, 3_600_000] {
            times.push((START.0 - day * DAY) * 1000 - offset);
        }
    }
    for at_ms in &times {
        let record = record(*at_ms, "anna", AuditAction::Release, sandbox("1"));
        pool.store.record_audit(&record).await.unwrap();
    }
    times.sort_unstable_by_key(|at_ms| -at_ms);
    for limit in [1, 2, 3, 7, 15, 30, 1000] {
        let (records, _) = every_record(&broker.client, &format!("limit={limit}")).await;
        let found: Vec<_> = records
            .iter()
            .map(|record| record["at_ms"].as_i64().unwrap())
            .collect();
        assert_eq!(found, times, "limit={limit}");
    }
    let expected = json!({
        "at": START.0 - 1, "at_ms": START.0 * 1000 - 1, "action": "sandbox.release", "actor": "anna",
        "role": "operator", "target": "sandbox/1", "outcome": "done", "reason": "because",
        "before": { "status": "allocated" }, "after": { "status": "pending_deletion" },
        "request_id": format!("request-{}", START.0 * 1000 - 1), "address": "203.0.113.5"
    });
    assert_eq!(
        list(&broker.client, "limit=1").await["records"][0],
        expected
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn span_includes_its_first_and_its_last_second() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    // Around midnight.
    let midnight = START.0 / DAY * DAY;
    for at_ms in [-1001, -1000, -1, 0, 999, 1000] {
        let record = record(
            midnight * 1000 + at_ms,
            "anna",
            AuditAction::Pause,
            sandbox("1"),
        );
        pool.store.record_audit(&record).await.unwrap();
    }
    let found = async |from: i64, to: i64| {
        let query = format!("from={}&to={}&limit=2", midnight + from, midnight + to);
        let (records, _) = every_record(&broker.client, &query).await;
        let offset = |record: &Value| record["at_ms"].as_i64().unwrap() - midnight * 1000;
        records.iter().map(offset).collect::<Vec<_>>()
    };
    assert_eq!(found(-1, 0).await, [999, 0, -1, -1000]);
    assert_eq!(found(-1, -1).await, [-1, -1000]);
    assert_eq!(found(0, 0).await, [999, 0]);
    assert_eq!(found(1, 5).await, [1000]);
    assert_eq!(found(-9, -2).await, [-1001]);
    assert_eq!(found(2, 9).await, [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_select_records_by_whole_texts_or_beginnings() {
    use AuditAction as A;
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let at_ms = |n: i64| (START.0 - n * 3600) * 1000;
    let mut records = vec![
        record(at_ms(1), "anna", A::Release, sandbox("100")),
        record(at_ms(2), "anna", A::Extend, sandbox("1001")),
        record(at_ms(30), "ben", A::Release, sandbox("100")),
        record(
            at_ms(31),
            "ben",
            A::StartJob,
            AuditTarget::Job(JobName::Sync),
        ),
        record(
            at_ms(32),
            "anne marie",
            A::CreateToken,
            AuditTarget::Token("ci".to_owned()),
        ),
    ];
    records[2].outcome = "SANDBOX_AVAILABLE";
    for record in &records {
        pool.store.record_audit(record).await.unwrap();
    }
    for (query, expected) in [
        ("", vec![0, 1, 2, 3, 4]),
        ("actor=&action=&target=&outcome=", vec![0, 1, 2, 3, 4]),
        ("actor=anna", vec![0, 1]),
        ("actor=ann*", vec![0, 1, 4]),
        ("actor=anne%20marie", vec![4]),
        ("actor=Anna", vec![]),
        ("action=sandbox.*", vec![0, 1, 2]),
        ("action=sandbox.release", vec![0, 2]),
        ("action=sandbox.release&outcome=done", vec![0]),
        ("outcome=SANDBOX_AVAILABLE", vec![2]),
        ("target=sandbox/100", vec![0, 2]),
        ("target=sandbox/100*", vec![0, 1, 2]),
        ("target=job/*", vec![3]),
        ("target=token/ci&actor=ben", vec![]),
        ("target=*", vec![0, 1, 2, 3, 4]),
    ] {
        for limit in [1, 50] {
            let query = format!("{query}&limit={limit}");
            let (found, _) = every_record(&broker.client, &query).await;
            let found: Vec<_> = found.iter().map(|record| &record["request_id"]).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|n: &usize| &*records[*n].author.request_id)
                .collect();
            assert_eq!(found, expected, "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rare_record_is_found_in_a_bounded_number_of_requests_and_reads() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let times: Vec<_> = (0..500).map(|n| START.0 * 1000 - n).collect();
    let rare = record(
        (START.0 - 330 * DAY) * 1000,
        "rare",
        AuditAction::Pause,
        sandbox("1"),
    );
    let common = times.into_iter().map(|at_ms| {
        record(
            at_ms,
            "common",
            AuditAction::Pause,
            AuditTarget::Job(JobName::Sync),
        )
    });
    let all: Vec<_> = common.chain([rare]).collect();
    for some in all.chunks(50) {
        join_all(some.iter().map(|record| pool.store.record_audit(record)))
            .await
            .into_iter()
            .for_each(|written| written.unwrap());
    }
    let queries = async || {
        let text = broker.client.plain("/metrics").await.text;
        let name =
            "broker_store_call_duration_seconds_count{operation=\"Query\",outcome=\"success\"}";
        metric(&text, name)
    };
    let before = queries().await;
    let (records, pages) = every_record(&broker.client, "actor=rare&from=0").await;
    assert_eq!(records.len(), 1);
    // 401 days, and the pages of the first one, at 64 queries a request.
    assert!((2..=9).contains(&pages), "{pages}");
    let made = queries().await - before;
    assert!(
        made <= 64 * pages as u64 + 20,
        "{made} queries for {pages} pages"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_listed_for_400_days() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    for age in [399 * DAY, 400 * DAY - 1, 400 * DAY + 1, 401 * DAY] {
        let record = record(
            (START.0 - age) * 1000,
            "anna",
            AuditAction::Pause,
            sandbox("1"),
        );
        pool.store.record_audit(&record).await.unwrap();
    }
    // The table's TTL removes them a while after that.
    let (records, _) = every_record(&broker.client, "from=0&to=253402300799").await;
    assert_eq!(records.len(), 2);
    for item in record_items(&pool).await {
        let number = |name: &str| item[name].as_n().unwrap().parse::<i64>().unwrap();
        assert_eq!(number("ttl"), number("at_ms") / 1000 + 400 * DAY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_parameter_or_cursor_is_an_error_that_names_it() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    for at_ms in [START.0 * 1000, START.0 * 1000 + 1] {
        for id in ["1", "2"] {
            let record = record(at_ms, "anna", AuditAction::Release, sandbox(id));
            pool.store.record_audit(&record).await.unwrap();
        }
    }
    let cursor_of = |page: &Value| page["cursor"].as_str().unwrap().to_owned();
    let by_day = cursor_of(&list(&broker.client, "limit=1").await);
    let of_one = cursor_of(&timeline(&broker.client, "1", "limit=1").await.json());
    for (path, code, part) in [
        (
            "audit?from=2&to=1".to_owned(),
            "INVALID_PARAMETER",
            "from must not be after to",
        ),
        (
            "audit?from=-1".to_owned(),
            "INVALID_PARAMETER",
            "from must be",
        ),
        (
            "audit?to=253402300800".to_owned(),
            "INVALID_PARAMETER",
            "to must be",
        ),
        (
            "audit?to=99999999999999999999".to_owned(),
            "INVALID_PARAMETER",
            "to",
        ),
        (
            "audit?from=yesterday".to_owned(),
            "INVALID_PARAMETER",
            "from",
        ),
        (
            "audit?acter=anna".to_owned(),
            "INVALID_PARAMETER",
            "unknown field `acter`, expected one of `from`",
        ),
        (
            "audit?limit=0".to_owned(),
            "INVALID_PARAMETER",
            "limit must be",
        ),
        (
            "audit?limit=1001".to_owned(),
            "INVALID_PARAMETER",
            "limit must be",
        ),
        (
            format!("audit?actor={}", "x".repeat(513)),
            "INVALID_PARAMETER",
            "actor must have",
        ),
        (
            "audit?cursor=nonsense".to_owned(),
            "INVALID_CURSOR",
            "cursor",
        ),
        (format!("audit?cursor={of_one}"), "INVALID_CURSOR", "cursor"),
        (
            format!("sandboxes?cursor={by_day}"),
            "INVALID_CURSOR",
            "cursor",
        ),
        (
            format!("sandboxes/1?cursor={by_day}"),
            "INVALID_CURSOR",
            "cursor",
        ),
        (
            format!("sandboxes/2?cursor={of_one}"),
            "INVALID_CURSOR",
            "cursor",
        ),
        (
            "sandboxes/1?limit=0".to_owned(),
            "INVALID_PARAMETER",
            "limit must be",
        ),
    ] {
        let answer = broker
            .client
            .admin(Method::GET, &format!("/v1/admin/{path}"))
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, code),
            "{path}"
        );
        assert!(
            answer.message().contains(part),
            "{path}: {}",
            answer.message()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_is_a_position_in_any_span() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    for n in 0..6 {
        let at_ms = START.0 * 1000 + n;
        let record = record(at_ms, "anna", AuditAction::Release, sandbox("1"));
        pool.store.record_audit(&record).await.unwrap();
    }
    let cursor = list(&broker.client, "limit=1").await["cursor"].clone();
    let cursor = cursor.as_str().unwrap();
    let query = format!("cursor={cursor}&to={}", START.0 - 40 * DAY);
    assert_eq!(list(&broker.client, &query).await["count"], 0);
    let query = format!("cursor={cursor}&from={}", START.0);
    assert_eq!(list(&broker.client, &query).await["count"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_two_brokers_write_at_once_are_all_listed_once() {
    let pool = Pool::new().await;
    let (one, other) = (pool.broker().await, pool.broker().await);
    // The same time and the same request id, which a client chooses.
    let send = |broker: &TestBroker| {
        let client = broker.client.clone();
        async move {
            let request = client.request(Method::GET, "/v1/admin/stats");
            let request = request.bearer_auth(TRACK).header("X-Request-ID", "same");
            assert_eq!(client.send(request).await.code(), "FORBIDDEN");
        }
    };
    join_all((0..40).map(|n| send(if n % 2 == 0 { &one } else { &other }))).await;
    until_recorded(&one.client, "limit=7", 40).await;
    let (records, _) = every_record(&other.client, "limit=1").await;
    assert_eq!(records.len(), 40);
    assert!(records.iter().all(|record| record["request_id"] == "same"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_record_is_shown_as_such_among_the_others() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    for n in 0..3 {
        let record = record(
            START.0 * 1000 + n,
            "anna",
            AuditAction::Release,
            sandbox("1"),
        );
        pool.store.record_audit(&record).await.unwrap();
    }
    for item in record_items(&pool).await {
        if item["at_ms"].as_n().unwrap().ends_with('1') {
            let item_key = key(item["PK"].as_s().unwrap(), item["SK"].as_s().unwrap());
            let damage = [
                ("action", Some(AttributeValue::N("7".to_owned()))),
                ("outcome", None),
                ("at_ms", Some(AttributeValue::S("soon".to_owned()))),
                ("before", Some(AttributeValue::S("[".to_owned()))),
            ];
            pool.rewrite(&pool.companion, item_key, &damage).await;
        }
    }
    let (records, _) = every_record(&broker.client, "").await;
    let events = timeline(&broker.client, "1", "").await.json()["events"].clone();
    for records in [&records, events.as_array().unwrap()] {
        assert_eq!(records.len(), 3);
        let damaged = &records[1];
        assert_eq!(damaged["at_ms"], START.0 * 1000 + 1);
        assert_eq!(
            (&damaged["action"], &damaged["outcome"]),
            (&json!("unreadable"), &json!("unreadable"))
        );
        assert_eq!(damaged["before"], json!({ "unreadable": "[" }));
        assert_eq!(damaged["actor"], "anna");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reason_is_returned_unchanged() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let text = "<script>alert('x')</script> \"quoted\" \\ 50% é \u{1F600}";
    let mut one = record(START.0 * 1000, "anna", AuditAction::Release, sandbox("1"));
    one.reason = Some(Reason::parse(text).unwrap());
    pool.store.record_audit(&one).await.unwrap();
    let answer = broker.client.admin(Method::GET, "/v1/admin/audit").await;
    assert_eq!(answer.json()["records"][0]["reason"], text);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    for forged in ["a\nb", "a\u{202E}b", "a\u{2066}b", "a\u{0}b", "", " "] {
        assert!(Reason::parse(forged).is_err(), "{forged:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn started_job_is_recorded_with_its_parameters_and_its_run() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    client.job("auto-expire?force=true").await;
    broker.clock.advance(Duration::from_secs(1));
    client.job("auto-delete-stale?grace_period_hours=5").await;
    broker.clock.advance(Duration::from_secs(1));
    client.job("bulk-delete?status=deletion_failed").await;
    let (records, _) = every_record(client, "action=job.start").await;
    let runs = client.finished_runs().await;
    for (record, (job, parameter, value)) in records.iter().rev().zip([
        ("auto-expire", "force", json!(true)),
        ("auto-delete-stale", "grace_period_hours", json!(5)),
        ("bulk-delete", "status", json!("deletion_failed")),
    ]) {
        assert_eq!(record["target"], format!("job/{job}"));
        assert_eq!(
            (&record["actor"], &record["role"]),
            (&json!("env-admin"), &json!("admin"))
        );
        assert_eq!(
            (&record["outcome"], &record["address"]),
            (&json!("done"), &json!("127.0.0.1"))
        );
        assert_eq!(record["after"][parameter], value);
        let run = runs.iter().find(|run| run["job"] == job).unwrap();
        assert_eq!(
            (&record["after"]["run_id"], &run["started_by"]),
            (&run["id"], &json!("env-admin"))
        );
    }
    assert_eq!(records.len(), 3);
    let path = format!("/v1/admin/jobs/{}", runs[0]["id"].as_str().unwrap());
    let one = client.admin(Method::GET, &path).await.json();
    assert_eq!(one["started_by"], "env-admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_run_has_its_run_record_only() {
    let pool = Pool::new().await;
    let broker = pool.broker_with(&[("RUN_JOBS", "true")]).await;
    let runs = loop {
        let runs = broker.client.finished_runs().await;
        if runs.iter().any(|run| run["job"] == "auto-expire") {
            break runs;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(runs.iter().all(|run| run["started_by"].is_null()));
    assert_eq!(list(&broker.client, "").await["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_whose_start_cannot_be_recorded_does_not_run() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    // As many as the SDK makes attempts.
    for _ in 0..3 {
        proxy.inject_once("TransactWriteItems", Fault::ServerError);
    }
    let refused = client.admin(Method::POST, "/v1/admin/auto-expire").await;
    assert_eq!(refused.code(), "STORE_UNAVAILABLE");
    assert_eq!(client.finished_runs().await, [Value::Null; 0]);
    assert_eq!(list(client, "").await["count"], 0);
    // The lease of the run that never began ends.
    broker.clock.advance(Duration::from_mins(1));
    proxy.inject_once("TransactWriteItems", Fault::DropAnswer);
    client.job("auto-expire").await;
    assert_eq!(client.finished_runs().await.len(), 1);
    let (records, _) = every_record(client, "").await;
    assert_eq!(records.len(), 1, "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_recorded_with_their_author_target_code_and_reason() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let run = RunId::new(JobName::AutoExpire, START, 7);
    pool.store
        .acquire_lease(&run, "another broker", None, START)
        .await
        .unwrap();
    let answer = client
        .admin(Method::POST, "/v1/admin/auto-expire?force=true")
        .await;
    assert_eq!(answer.code(), "JOB_RUNNING");
    let request = client
        .request(Method::POST, "/v1/admin/cleanup")
        .bearer_auth(TRACK);
    let body = json!({ "reason": " <i>why not</i> ", "password": "hunter2" });
    let request = request
        .header("X-Request-ID", "mine")
        .body(body.to_string());
    assert_eq!(client.send(request).await.code(), "FORBIDDEN");
    let id = forbidden(client)
        .await
        .header("x-request-id")
        .unwrap()
        .to_owned();
    // Requests that are invalid, or have no principal, leave no record.
    assert_eq!(
        client.allocate("play-1").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    assert_eq!(
        client.get("unknown", "play-1").await.code(),
        "SANDBOX_NOT_FOUND"
    );
    assert_eq!(
        client
            .admin(Method::GET, "/v1/admin/sandboxes/unknown")
            .await
            .code(),
        "SANDBOX_NOT_FOUND"
    );
    assert_eq!(
        client
            .admin(Method::POST, "/v1/admin/sync?force=maybe")
            .await
            .code(),
        "INVALID_PARAMETER"
    );
    let request = client
        .request(Method::POST, "/v1/admin/sync")
        .bearer_auth("wrong");
    assert_eq!(client.send(request).await.code(), "UNAUTHORIZED");
    until_recorded(client, "", 3).await;
    let one = async |outcome: &str, target: &str| {
        let query = format!("outcome={outcome}&target={target}");
        let (records, _) = every_record(client, &query).await;
        assert_eq!(records.len(), 1, "{query}: {records:?}");
        records[0].clone()
    };
    let running = one("JOB_RUNNING", "job/auto-expire").await;
    assert_eq!(
        (&running["actor"], &running["role"]),
        (&json!("env-admin"), &json!("admin"))
    );
    assert_eq!(
        (&running["action"], &running["reason"]),
        (&json!("job.start"), &Value::Null)
    );
    let forbidden = one("FORBIDDEN", "job/cleanup").await;
    assert_eq!(
        forbidden,
        json!({
            "at": START.0, "at_ms": START.0 * 1000, "action": "job.start", "actor": "env-track", "role": "track",
            "target": "job/cleanup", "outcome": "FORBIDDEN", "reason": "<i>why not</i>", "before": null,
            "after": null, "request_id": "mine", "address": "127.0.0.1"
        })
    );
    let read = one("FORBIDDEN", "route/*").await;
    assert_eq!(
        (&read["action"], &read["request_id"]),
        (&json!("request"), &json!(id))
    );
    assert_eq!(read["target"], "route/GET /v1/admin/stats");
    assert_eq!(refusals(client, "recorded").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_of_operators_are_in_the_timeline_once_done_or_refused() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let act = async |id: &str| {
        let path = format!("/v1/admin/sandboxes/{id}/release");
        let request = client.request(Method::POST, &path).bearer_auth(ADMIN);
        let body = json!({ "reason": "the student left" });
        client.send(request.body(body.to_string())).await
    };
    let id = "lab-adventure-0000";
    assert_eq!(act(id).await.code(), "SANDBOX_AVAILABLE");
    assert_eq!(act("unknown").await.code(), "SANDBOX_NOT_FOUND");
    until_recorded(client, "action=sandbox.release", 2).await;
    let refused = timeline(client, id, "").await.json()["events"][0].clone();
    assert_eq!(refused["outcome"], "SANDBOX_AVAILABLE");
    assert_eq!(refused["reason"], "the student left");
    broker.clock.advance(Duration::from_mins(1));
    client.allocate("play-1").await;
    broker.clock.advance(Duration::from_mins(1));
    assert_eq!(act(id).await.status, 200);
    let answer = timeline(client, id, "").await.json();
    assert_eq!(answer["sandbox"]["released_by"], "env-admin");
    assert_eq!(
        names(&answer["events"]),
        [
            "sandbox.release",
            "allocated",
            "sandbox.release",
            "inserted"
        ]
    );
    assert_eq!(answer["events"][0]["outcome"], "done");
    let unknown = timeline(client, "unknown", "").await.json();
    assert_eq!(unknown["events"][0]["outcome"], "SANDBOX_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_action_is_named_under_any_base_path() {
    for base in ["/", "/labs/broker"] {
        let pool = Pool::new().await;
        let broker = pool.broker_with(&[("API_BASE_PATH", base)]).await;
        let client = &broker.client;
        let base = base.trim_end_matches('/');
        let path = format!("{base}/admin/sync");
        let request = client.request(Method::POST, &path).bearer_auth(TRACK);
        assert_eq!(client.send(request).await.code(), "FORBIDDEN");
        let path = format!("{base}/admin/audit");
        let records = loop {
            let page = client.admin(Method::GET, &path).await.json();
            if page["count"] == 1 {
                break page["records"].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let (action, target) = (&records[0]["action"], &records[0]["target"]);
        assert_eq!((action, target), (&json!("job.start"), &json!("job/sync")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_contains_a_secret() {
    const SECRET: &str = "s3cr3t-n3v3r-st0r3d";
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    for path in [
        format!("/v1/admin/stats?token={SECRET}"),
        format!("/v1/admin/jobs/{SECRET}"),
        format!("/v1/admin/sandboxes/{SECRET}"),
        format!("/v1/admin/samples?hours={SECRET}"),
    ] {
        let request = client.request(Method::GET, &path).bearer_auth(TRACK);
        let request = request.header("Cookie", SECRET).header("X-Api-Key", SECRET);
        assert_eq!(client.send(request).await.code(), "FORBIDDEN");
    }
    let body = json!({ "reason": "clean", "secret": SECRET, "nested": { "reason": SECRET } });
    for path in ["sync", "cleanup", "auto-expire", "bulk-delete?status=stale"] {
        let path = format!("/v1/admin/{path}");
        let request = client.request(Method::POST, &path).bearer_auth(TRACK);
        let request = request.header("User-Agent", SECRET).body(body.to_string());
        assert_eq!(client.send(request).await.code(), "FORBIDDEN");
    }
    let request = client.request(Method::POST, "/v1/admin/auto-expire");
    let request = request
        .bearer_auth(ADMIN)
        .header("Cookie", SECRET)
        .body(body.to_string());
    assert_eq!(client.send(request).await.status, 200);
    // An operator takes a leaked token for its id.
    let path = format!("/v1/admin/tokens/{SECRET}");
    let answer = client.admin(Method::DELETE, &path).await;
    assert_eq!(answer.code(), "TOKEN_NOT_FOUND");
    until_recorded(client, "", 10).await;
    let items = format!("{:?}", pool.items_of(&pool.companion).await);
    for secret in [SECRET, TRACK, ADMIN] {
        assert!(!items.contains(secret), "{secret}");
    }
    assert!(items.contains("clean"));
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_refused_requests_leaves_a_bounded_number_of_records() {
    let pool = Pool::new().await;
    let broker = pool.broker_with(&[("RATE_LIMIT_BURST", "1000")]).await;
    let client = &broker.client;
    for _ in 0..20 {
        join_all((0..10).map(|_| forbidden(client))).await;
    }
    while refusals(client, "recorded").await + refusals(client, "left_out").await < 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refusals(client, "error").await, 0);
    let recorded = refusals(client, "recorded").await;
    assert!((1..=60).contains(&recorded), "{recorded}");
    let (records, _) = every_record(client, "").await;
    assert_eq!(records.len() as u64, recorded);
    // Another principal is recorded meanwhile: its record tells how many were left out since the last one.
    let run = RunId::new(JobName::AutoExpire, START, 7);
    pool.store
        .acquire_lease(&run, "another broker", None, START)
        .await
        .unwrap();
    let answer = client.admin(Method::POST, "/v1/admin/auto-expire").await;
    assert_eq!(answer.code(), "JOB_RUNNING");
    let records = until_recorded(client, "outcome=JOB_RUNNING", 1).await;
    let told = &records[0]["after"]["left_out"];
    assert!((1..=140).contains(&told.as_u64().unwrap()), "{told}");
    // An hour later the first principal is recorded again.
    broker.clock.advance(Duration::from_hours(1));
    forbidden(client).await;
    let from = START.0 + 1;
    let records = until_recorded(client, &format!("from={from}"), 1).await;
    assert_eq!(records[0]["after"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_neither_waits_for_its_record_nor_fails_with_it() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    let gate = proxy.hold_operation("TransactWriteItems");
    forbidden(client).await;
    gate.wait_for_one().await;
    forbidden(client).await;
    drop(gate);
    until_recorded(client, "", 2).await;
    for _ in 0..3 {
        proxy.inject_once("TransactWriteItems", Fault::ServerError);
    }
    forbidden(client).await;
    while refusals(client, "error").await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    forbidden(client).await;
    until_recorded(client, "", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_recorded_before_the_broker_stops() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let gate = proxy.hold_operation("TransactWriteItems");
    for _ in 0..20 {
        forbidden(&broker.client).await;
    }
    let stopped = tokio::spawn(broker.running.stop());
    gate.wait_for_one().await;
    drop(gate);
    stopped.await.unwrap();
    assert_eq!(record_items(&pool).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn timeline_has_the_events_of_a_sandbox_from_insertion_to_deletion() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(3).await;
    let variables = [
        ("CSP_BASE_URL", base_url.as_str()),
        ("CLEANUP_BATCH_DELAY_SEC", "0"),
    ];
    let broker = pool.broker_with(&variables).await;
    let (client, clock) = (&broker.client, &broker.clock);
    client.job("sync").await;
    clock.advance(Duration::from_mins(1));
    let request = client
        .allocation("play-1")
        .header("X-Instruqt-Track-ID", "lab-1");
    let id = client.send(request).await.sandbox_id();
    assert_eq!(event_names(client, &id).await, ["allocated", "inserted"]);
    let answer = timeline(client, &id, "").await.json();
    assert_eq!(answer["sandbox"]["status"], "allocated");
    assert_eq!(
        (&answer["unreadable"], &answer["tombstone"]),
        (&Value::Null, &Value::Null)
    );
    let target = format!("sandbox/{id}");
    assert_eq!(
        answer["events"][0],
        json!({
            "at": START.0 + 60, "at_ms": (START.0 + 60) * 1000, "action": "allocated", "actor": null, "role": null,
            "target": target, "outcome": "done", "reason": null, "before": null,
            "after": { "allocated_to_track": "play-1", "idempotency_key": "play-1", "replaces": null, "track_name": "lab-1" },
            "request_id": null, "address": null
        })
    );
    // An operator extends it in the second of its allocation and of its release.
    let extended = |second: i64| {
        record(
            (START.0 + second) * 1000 + 500,
            "anna",
            AuditAction::Extend,
            sandbox(&id),
        )
    };
    pool.store.record_audit(&extended(60)).await.unwrap();
    clock.advance(Duration::from_mins(1));
    pool.store.record_audit(&extended(120)).await.unwrap();
    client.release(&id, "play-1").await;
    let life = [
        "released",
        "sandbox.extend",
        "sandbox.extend",
        "allocated",
        "inserted",
    ];
    assert_eq!(event_names(client, &id).await, life);
    simulator.inject([CspFault {
        on: Call::Delete,
        ..CspFault::always(FaultKind::Status { code: 503 })
    }]);
    clock.advance(Duration::from_mins(1));
    client.job("cleanup").await;
    let answer = timeline(client, &id, "").await.json();
    assert_eq!(
        names(&answer["events"])[..2],
        ["deletion_failed_attempt", "released"]
    );
    let attempt = &answer["events"][0]["after"];
    assert_eq!(attempt["attempts"], 1);
    assert!(
        attempt["error"].as_str().unwrap().contains("503"),
        "{attempt}"
    );
    assert!(attempt["next_deletion_at"].as_i64().unwrap() > START.0);
    simulator.inject([]);
    clock.advance(Duration::from_hours(2));
    client.job("cleanup").await;
    let answer = timeline(client, &id, "").await.json();
    let life = [
        "deleted",
        "released",
        "sandbox.extend",
        "sandbox.extend",
        "allocated",
        "inserted",
    ];
    assert_eq!(names(&answer["events"]), life);
    assert_eq!(answer["sandbox"], Value::Null);
    let tombstone = &answer["tombstone"];
    assert_eq!(
        (&tombstone["sandbox_id"], &tombstone["track_name"]),
        (&json!(id), &json!("lab-1"))
    );
    assert_eq!(
        tombstone["kept_until"],
        tombstone["deleted_at"].as_i64().unwrap() + 30 * DAY
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_sandbox_outlive_its_item_and_its_tombstone() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let one = record(START.0 * 1000, "anna", AuditAction::Extend, sandbox("1"));
    pool.store.record_audit(&one).await.unwrap();
    let answer = timeline(&broker.client, "1", "").await.json();
    assert_eq!(names(&answer["events"]), ["sandbox.extend"]);
    assert_eq!(
        (&answer["sandbox"], &answer["tombstone"]),
        (&Value::Null, &Value::Null)
    );
    let unknown = timeline(&broker.client, "9999999", "").await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.code().as_str()),
        (404, "SANDBOX_NOT_FOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_end_of_an_allocation_is_not_derived_again() {
    for (action, at_ms) in [
        (AuditAction::Release, 500),
        (AuditAction::Delete, -1),
        (AuditAction::QuarantineEnd, 1000),
    ] {
        let pool = Pool::of(1).await;
        let broker = pool.broker().await;
        let client = &broker.client;
        let id = client.allocate("play-1").await.sandbox_id();
        client.release(&id, "play-1").await;
        assert_eq!(event_names(client, &id).await[0], "released");
        // A refused request in the same second changes nothing.
        let mut attempt = record(START.0 * 1000, "ben", action, sandbox(&id));
        attempt.outcome = "SANDBOX_ALLOCATED";
        pool.store.record_audit(&attempt).await.unwrap();
        assert_eq!(event_names(client, &id).await[0], "released");
        let done = record(START.0 * 1000 + at_ms, "anna", action, sandbox(&id));
        pool.store.record_audit(&done).await.unwrap();
        let events = event_names(client, &id).await;
        assert!(!events.contains(&"released".to_owned()), "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_timeline_have_each_event_once_and_in_order() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    for n in 0..10 {
        let before = record(
            (START.0 - 100 + n) * 1000,
            "anna",
            AuditAction::Restore,
            sandbox("lab-adventure-0000"),
        );
        pool.store.record_audit(&before).await.unwrap();
    }
    let id = client.allocate("play-1").await.sandbox_id();
    for n in 0..10 {
        let held = record(
            START.0 * 1000 + n * 700,
            "anna",
            AuditAction::Extend,
            sandbox(&id),
        );
        pool.store.record_audit(&held).await.unwrap();
    }
    broker.clock.advance(Duration::from_secs(6));
    client.release(&id, "play-1").await;
    let all = timeline(client, &id, "limit=1000").await.json()["events"].clone();
    assert_eq!(all.as_array().unwrap().len(), 23);
    for limit in [1, 2, 3, 9, 10, 11, 20] {
        let (mut events, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = timeline(client, &id, &format!("limit={limit}&cursor={cursor}"))
                .await
                .json();
            assert_eq!(page["sandbox"]["sandbox_id"], id);
            events.extend(page["events"].as_array().unwrap().clone());
            match &page["cursor"] {
                Value::String(next) => next.clone_into(&mut cursor),
                _ => break,
            }
        }
        assert_eq!(Value::from(events), all, "limit={limit}");
    }
    let place = |name: &str| names(&all).iter().position(|known| known == name).unwrap();
    assert!(place("released") < place("sandbox.extend"));
    assert!(
        place("sandbox.extend") < place("allocated")
            && place("allocated") < place("sandbox.restore")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn timeline_of_an_unreadable_item_shows_it_and_its_records() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = "lab-adventure-0000";
    let damage = [("status", Some(AttributeValue::S("lost".to_owned())))];
    pool.rewrite_sandbox(id, &damage).await;
    let one = record(START.0 * 1000, "anna", AuditAction::Release, sandbox(id));
    pool.store.record_audit(&one).await.unwrap();
    let answer = timeline(&broker.client, id, "").await.json();
    assert_eq!(answer["sandbox"], Value::Null);
    assert!(
        answer["unreadable"]["fault"]
            .as_str()
            .unwrap()
            .contains("status")
    );
    assert_eq!(names(&answer["events"]), ["sandbox.release"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn timeline_shows_a_sandbox_with_any_time_in_its_item() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = "lab-adventure-0000";
    for time in [i64::MIN, -1, 0, 9_999_999_999, 10_000_000_000, i64::MAX] {
        let time = Some(AttributeValue::N(time.to_string()));
        let damage = [
            (
                "status",
                Some(AttributeValue::S("deletion_failed".to_owned())),
            ),
            ("deletion_requested_at", time.clone()),
            ("updated_at", time),
        ];
        pool.rewrite_sandbox(id, &damage).await;
        let answer = timeline(&broker.client, id, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_and_reinstated_sandboxes_differ_from_released_ones() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let id = client.allocate("play-1").await.sandbox_id();
    broker.clock.advance(Duration::from_hours(24));
    client.job("auto-expire?force=true").await;
    assert_eq!(event_names(client, &id).await[0], "expired");
    let by_sync = [("released_by", Some(AttributeValue::S("sync".to_owned())))];
    pool.rewrite_sandbox(&id, &by_sync).await;
    let events = timeline(client, &id, "").await.json()["events"].clone();
    assert_eq!(
        (&events[0]["action"], &events[0]["actor"]),
        (&json!("reinstated"), &json!("sync"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_whose_clock_is_ahead_does_not_hide_its_records() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let ahead = Arc::new(ManualClock::new(START));
    ahead.advance(Duration::from_mins(4));
    let other = TestBroker::boot_at(pool.variables(&[]), ahead).await;
    forbidden(&other.client).await;
    let records = until_recorded(&broker.client, "", 1).await;
    assert_eq!(records[0]["at"], START.0 + 240);
    let distinct: BTreeSet<_> = records.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), 1);
}
