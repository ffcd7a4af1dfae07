//! Pauses: activities that operators stop for a while, on every broker and in every job.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use sandbox_broker::{
    broker::polling::{LONGEST_POLL_INTERVAL, MAX_DELAY, POLL_TIMEOUT},
    csp::simulator::{Call, Fault, FaultKind, Simulator},
    domain::Activity,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    ADMIN, Answer, BrokerClient, Pool, Proxy, START, TRACK, TestBroker, audit, command, key,
    proxy::{self, meter::item_size},
    simulated_csp, warning_codes,
};

const REASON: &str = "CSP is being repaired";

/// The jobs with the activities that stop them.
const JOBS: [(&str, &str); 6] = [
    ("sync?force=true", "sync"),
    ("cleanup", "deletions"),
    ("cleanup?retry_failed=true", "deletions"),
    ("auto-expire?force=true", "expiry"),
    ("auto-delete-stale?grace_period_hours=0", "deletions"),
    ("bulk-delete?status=stale", "deletions"),
];

async fn put(client: &BrokerClient, activity: &str, body: &Value) -> Answer {
    let path = format!("/v1/admin/pauses/{activity}");
    let request = client.request(Method::PUT, &path).bearer_auth(ADMIN);
    client.send(request.json(body)).await
}

async fn pause(client: &BrokerClient, activity: &str) -> Value {
    let answer = put(client, activity, &json!({ "reason": REASON })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn resume(client: &BrokerClient, activity: &str) {
    let path = format!("/v1/admin/pauses/{activity}");
    let answer = client.admin(Method::DELETE, &path).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::NO_CONTENT, "")
    );
}

async fn listed(client: &BrokerClient) -> Value {
    let answer = client.admin(Method::GET, "/v1/admin/pauses").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["pauses"].clone()
}

/// Sends an allocate request that is refused in any case: without a pause because no sandbox has the prefix.
async fn code_of_a_refusal(client: &BrokerClient) -> String {
    let request = client.allocation("play-of-nobody");
    let request = request.header("X-Sandbox-Name-Prefix", "no-such-");
    client.send(request).await.code()
}

/// Repeats `code_of_a_refusal` until it is `code`; returns how long that took.
async fn until_refused_with(client: &BrokerClient, code: &str) -> Duration {
    let began = Instant::now();
    while code_of_a_refusal(client).await != code {
        assert!(began.elapsed() < MAX_DELAY * 6, "no {code}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

async fn with_csp(accounts: u64, more: &[(&str, &str)]) -> (Pool, Simulator, TestBroker) {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(accounts).await;
    let fixed = [("CSP_BASE_URL", base_url.as_str())];
    let broker = pool.broker_with(&[&fixed, more].concat()).await;
    broker.client.job("sync").await;
    (pool, simulator, broker)
}

/// Allocates and releases `count` sandboxes.
async fn release(client: &BrokerClient, count: usize) {
    for n in 0..count {
        let caller = format!("play-{n}");
        let id = client.allocate(&caller).await.sandbox_id();
        assert_eq!(client.release(&id, &caller).await.status, 200);
    }
}

async fn scrape(client: &BrokerClient) -> String {
    client.plain("/metrics").await.text
}

#[track_caller]
fn assert_has_line(metrics: &str, line: &str) {
    assert!(
        metrics.lines().any(|known| known == line),
        "missing: {line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_activity_is_paused_replaced_and_resumed_with_audit_records() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    for activity in Activity::ALL.map(Activity::as_str) {
        let first = pause(client, activity).await;
        let expected = json!({
            "activity": activity, "reason": REASON, "author": "env-admin", "since": START, "until": null,
        });
        assert_eq!(first, expected);
        assert_eq!(listed(client).await, json!([first]));
        let overview = client.overview().await;
        assert_eq!(overview["pauses"], json!([first]));
        assert!(
            warning_codes(&overview).contains(&"activity_paused"),
            "{overview}"
        );

        broker.clock.advance(Duration::from_mins(1));
        let until = START.0 + 86_400;
        let body = json!({ "reason": "longer than thought", "until": until });
        let second = put(client, activity, &body).await.json();
        assert_eq!(
            (&second["reason"], &second["until"], &second["since"]),
            (&body["reason"], &until.into(), &first["since"]),
            "paused since the first order"
        );
        assert_eq!(listed(client).await, json!([second]));

        resume(client, activity).await;
        resume(client, activity).await;
        assert_eq!(listed(client).await, json!([]));
        assert_eq!(client.overview().await["pauses"], json!([]));

        let target = format!("pause/{activity}");
        let mut records = audit::done_actions(&pool, "pause.").await;
        records.retain(|record| record["target"] == target.as_str());
        let without_activity = |pause: &Value| {
            let mut state = pause.clone();
            state.as_object_mut().unwrap().remove("activity");
            state
        };
        let (first, second) = (without_activity(&first), without_activity(&second));
        let states = records.iter().map(|record| {
            (
                record["action"].as_str().unwrap(),
                record["before"].clone(),
                record["after"].clone(),
            )
        });
        assert_eq!(
            states
                .map(|state| format!("{state:?}"))
                .collect::<BTreeSet<_>>(),
            BTreeSet::from(
                [
                    ("pause.set", Value::Null, first.clone()),
                    ("pause.set", first, second.clone()),
                    ("pause.end", second, Value::Null),
                ]
                .map(|state| format!("{state:?}"))
            ),
            "a DELETE that ends nothing leaves no record"
        );
        assert_eq!(records.len(), 3);
        broker.clock.set(START);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_invalid_requests_describe_valid_ones() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let unknown = put(client, "lunch", &json!({ "reason": REASON })).await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.code().as_str()),
        (404, "NOT_FOUND")
    );
    for activity in Activity::ALL {
        assert!(unknown.message().contains(activity.as_str()), "{unknown:?}");
    }
    let unknown = client.admin(Method::DELETE, "/v1/admin/pauses/lunch").await;
    assert_eq!(unknown.code(), "NOT_FOUND");
    let year = 365 * 24 * 3600;
    for (body, fault) in [
        (json!({}), "reason"),
        (json!({ "reason": " " }), "empty"),
        (json!({ "reason": "a\nb" }), "control character"),
        (json!({ "reason": "x".repeat(501) }), "at most 500"),
        (json!({ "reason": REASON, "until": START.0 }), "has passed"),
        (
            json!({ "reason": REASON, "until": START.0 + year + 1 }),
            "more than 365 days",
        ),
        (
            json!({ "reason": REASON, "until": START.0 * 1000 }),
            "more than 365 days",
        ),
        (json!({ "reason": REASON, "until": "tomorrow" }), "until"),
        (
            json!({ "reason": REASON, "untill": START.0 + 60 }),
            "untill",
        ),
        (json!([]), "expected"),
    ] {
        let answer = put(client, "sync", &body).await;
        assert_eq!(answer.code(), "INVALID_BODY", "{body}: {answer:?}");
        assert!(answer.message().contains(fault), "{body}: {answer:?}");
    }
    for (method, path) in [
        (Method::GET, "/v1/admin/pauses"),
        (Method::PUT, "/v1/admin/pauses/sync"),
        (Method::DELETE, "/v1/admin/pauses/sync"),
    ] {
        let request = client.request(method, path).bearer_auth(TRACK);
        let answer = client
            .send(request.json(&json!({ "reason": REASON })))
            .await;
        assert_eq!(answer.code(), "FORBIDDEN", "{answer:?}");
    }
    assert_eq!(listed(client).await, json!([]));
    let furthest = json!({ "reason": REASON, "until": START.0 + year });
    assert_eq!(put(client, "sync", &furthest).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_allocations_refuse_new_ones_and_answer_retries() {
    let pool = Pool::of(5).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let held = client.allocate("holder").await;
    let released = client.allocate("leaver").await.sandbox_id();
    assert_eq!(client.release(&released, "leaver").await.status, 200);
    pause(client, "allocations").await;

    for caller in ["newcomer", "leaver"] {
        let refused = client.allocate(caller).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code().as_str()),
            (503, "ALLOCATIONS_PAUSED"),
            "{caller}"
        );
        assert!(refused.message().contains(REASON), "{refused:?}");
        assert_eq!(refused.header("retry-after"), Some("30"));
    }
    let replay = client.allocate("holder").await;
    assert_eq!(
        (replay.status.as_u16(), replay.json()),
        (200, held.json()),
        "a retry gets the sandbox that its caller holds"
    );
    let id = held.sandbox_id();
    assert_eq!(client.get(&id, "holder").await.status, 200);
    assert_eq!(client.list("holder").await.status, 200);
    assert_eq!(client.release(&id, "holder").await.status, 200);
    assert_eq!(client.allocate("holder").await.code(), "ALLOCATIONS_PAUSED");
    assert!(pool.holdings().await.is_empty());

    let metrics = scrape(client).await;
    for line in [
        "broker_allocate_total{outcome=\"paused\"} 3",
        "broker_allocate_total{outcome=\"error\"} 0",
        "broker_paused{activity=\"allocations\"} 1",
        "broker_paused{activity=\"deletions\"} 0",
    ] {
        assert_has_line(&metrics, line);
    }
    let since = format!(
        "broker_pause_since_timestamp_seconds{{activity=\"allocations\"}} {}",
        START.0
    );
    assert_has_line(&metrics, &since);
    assert!(!metrics.contains("broker_pause_until_timestamp_seconds{"));

    resume(client, "allocations").await;
    assert_eq!(client.allocate("newcomer").await.status, 201);
    let metrics = scrape(client).await;
    assert_has_line(&metrics, "broker_paused{activity=\"allocations\"} 0");
    assert!(!metrics.contains("broker_pause_since_timestamp_seconds{"));
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_waits_for_a_sandbox_is_refused_once_allocations_are_paused() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    proxy.inject_once("TransactWriteItems", proxy::Fault::Conflict);
    let gate = proxy.hold(|call| {
        call.operation == "TransactWriteItems" && call.json().to_string().contains("CLAIM#")
    });
    let client = broker.client.clone();
    let request = tokio::spawn(async move { client.allocate("play-1").await });
    gate.wait_for_one().await;
    let elsewhere = pool.broker().await;
    pause(&elsewhere.client, "allocations").await;
    listed(&broker.client).await;
    gate.open();
    let answer = request.await.unwrap();
    assert_eq!(answer.code(), "ALLOCATIONS_PAUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_ends_by_itself() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let until = START.0 + 60;
    let body = json!({ "reason": REASON, "until": until });
    assert_eq!(put(client, "allocations", &body).await.status, 200);
    let line = format!("broker_pause_until_timestamp_seconds{{activity=\"allocations\"}} {until}");
    assert_has_line(&scrape(client).await, &line);
    for (after_sec, retry_after) in [(0, "30"), (29, "30"), (50, "10"), (59, "1")] {
        broker.clock.set(START + Duration::from_secs(after_sec));
        let refused = client.allocate("play-1").await;
        assert_eq!(refused.code(), "ALLOCATIONS_PAUSED");
        assert_eq!(
            refused.header("retry-after"),
            Some(retry_after),
            "after {after_sec} s"
        );
    }
    broker.clock.set(START + Duration::from_mins(1));
    assert_eq!(client.allocate("play-1").await.status, 201);
    assert_eq!(listed(client).await, json!([]));
    assert_eq!(client.overview().await["pauses"], json!([]));
    assert_has_line(
        &scrape(client).await,
        "broker_paused{activity=\"allocations\"} 0",
    );
    // It is over, so a new one is no change of it.
    let since = pause(client, "allocations").await["since"].clone();
    assert_eq!(since, START.0 + 60);
    let last = audit::done_actions(&pool, "pause.").await.pop().unwrap();
    assert_eq!(last["before"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_is_in_force_on_another_broker_within_five_seconds() {
    assert_eq!(MAX_DELAY, Duration::from_secs(5));
    assert!(LONGEST_POLL_INTERVAL + POLL_TIMEOUT < MAX_DELAY);
    let pool = Pool::of(1).await;
    let (one, other) = tokio::join!(pool.broker(), pool.broker());
    for _ in 0..3 {
        pause(&one.client, "allocations").await;
        assert_eq!(
            code_of_a_refusal(&one.client).await,
            "ALLOCATIONS_PAUSED",
            "at once where it was set"
        );
        let began = until_refused_with(&other.client, "ALLOCATIONS_PAUSED").await;
        resume(&one.client, "allocations").await;
        let ended = until_refused_with(&other.client, "NO_SANDBOXES_AVAILABLE").await;
        println!("in force after {began:?}, ended after {ended:?}");
        assert!(began < MAX_DELAY * 2 && ended < MAX_DELAY * 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_are_rare_and_cost_one_read_unit_each() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    for activity in Activity::ALL {
        let body = json!({ "reason": "x".repeat(500), "until": START.0 + 60 });
        let answer = put(&broker.client, activity.as_str(), &body).await;
        assert_eq!(answer.status, 200);
    }
    proxy.take_polls(proxy::Polled::Pauses);
    let span = LONGEST_POLL_INTERVAL * 4;
    tokio::time::sleep(span).await;
    let polls = proxy.take_polls(proxy::Polled::Pauses);
    let most = span.as_millis() / (LONGEST_POLL_INTERVAL * 3 / 4).as_millis() + 1;
    assert!(
        polls >= 1 && polls as u128 <= most,
        "{polls} polls in {span:?}"
    );

    let key = key("CONTROL", "PAUSES");
    let get = pool.client.get_item().table_name(&pool.companion);
    let item = get.set_key(Some(key)).send().await.unwrap().item.unwrap();
    let item: Value = item
        .iter()
        .map(|(name, value)| (name.clone(), on_the_wire(value)))
        .collect();
    let size = item_size(&item);
    assert!(size <= 4096, "{size} bytes: more than one read unit");
    let per_day =
        Duration::from_hours(24).as_secs_f64() / (LONGEST_POLL_INTERVAL.as_secs_f64() * 0.875);
    println!("{size} bytes at most in ASCII; {per_day:.0} read units per broker and day");
}

/// An attribute value of this item in DynamoDB's JSON.
fn on_the_wire(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::M(parts) => {
            let parts = parts.iter();
            let parts = parts.map(|(name, part)| (name.clone(), on_the_wire(part)));
            json!({ "M": parts.collect::<Value>() })
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_known_pauses_stay_while_the_table_cannot_be_read() {
    let pool = Pool::of(2).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let elsewhere = pool.broker().await;
    let broker = pool.broker_behind(&proxy).await;
    let held = broker.client.allocate("holder").await;
    pause(&elsewhere.client, "allocations").await;
    until_refused_with(&broker.client, "ALLOCATIONS_PAUSED").await;
    let gate = proxy.hold(proxy::Call::reads_pauses);
    // The second one shows that the first one has failed.
    gate.wait_for_one().await;
    gate.wait_for_one().await;
    resume(&elsewhere.client, "allocations").await;
    assert_eq!(
        code_of_a_refusal(&broker.client).await,
        "ALLOCATIONS_PAUSED"
    );
    let replay = broker.client.allocate("holder").await;
    assert_eq!(replay.sandbox_id(), held.sandbox_id());
    gate.open();
    until_refused_with(&broker.client, "NO_SANDBOXES_AVAILABLE").await;
    // And the other way round: what was not paused goes on.
    let gate = proxy.hold(proxy::Call::reads_pauses);
    gate.wait_for_one().await;
    gate.wait_for_one().await;
    assert_eq!(broker.client.allocate("newcomer").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_cannot_read_the_pauses_does_not_start() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let _held = proxy.hold(proxy::Call::reads_pauses);
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[("DDB_ENDPOINT_URL", &proxy.endpoint())]);
    let mut command = command(directory.path(), &variables);
    command.arg("serve");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot be used"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_pause_counts_as_paused_until_it_is_ended() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    pause(client, "sync").await;
    let damaged = AttributeValue::S("damaged".to_owned());
    pool.rewrite(
        &pool.companion,
        key("CONTROL", "PAUSES"),
        &[
            ("allocations", Some(damaged.clone())),
            ("later", Some(damaged)),
        ],
    )
    .await;
    let pauses = listed(client).await;
    assert_eq!(
        (&pauses[0]["activity"], &pauses[1]["activity"]),
        (&"allocations".into(), &"sync".into())
    );
    assert_eq!(
        (&pauses[0]["author"], &pauses[1]["author"]),
        (&"unknown".into(), &"env-admin".into())
    );
    let refused = client.allocate("play-1").await;
    assert_eq!(refused.code(), "ALLOCATIONS_PAUSED");
    assert!(refused.message().contains("unreadable"), "{refused:?}");
    resume(client, "allocations").await;
    assert_eq!(client.allocate("play-1").await.status, 201);
    let kept = pool.items_of(&pool.companion).await;
    let kept = kept.iter().find(|item| item.contains_key("later"));
    assert!(
        kept.is_some_and(|item| item.contains_key("sync")),
        "attributes of other activities stay"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_twenty_operators_at_once_follow_each_other() {
    let pool = Pool::new().await;
    let (one, other) = tokio::join!(pool.broker(), pool.broker());
    let orders = (0..20).map(|number: usize| {
        let client = [&one, &other][number % 2].client.clone();
        async move {
            if number % 5 == 4 {
                resume(&client, "deletions").await;
            } else {
                let body = json!({ "reason": format!("order {number}") });
                let answer = put(&client, "deletions", &body).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        }
    });
    join_all(orders).await;
    let records = audit::done_actions(&pool, "pause.").await;
    let set = records
        .iter()
        .filter(|record| record["action"] == "pause.set");
    assert_eq!(set.count(), 16);
    // Each state after is the state before of one other record, except for the last one.
    let state = |record: &Value, name: &str| record[name]["reason"].clone();
    let mut links: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in &records {
        let (before, after) = (state(record, "before"), state(record, "after"));
        let next = links.entry(before.to_string()).or_default();
        next.push(after.to_string());
    }
    for (before, next) in &links {
        if before != "null" {
            assert_eq!(next.len(), 1, "{before} was replaced by {next:?}");
        }
    }
    let last = listed(&one.client).await[0]["reason"].to_string();
    let ends = records
        .iter()
        .map(|record| state(record, "after").to_string())
        .filter(|after| after != "null" && !links.contains_key(after));
    assert!(ends.eq([last].into_iter().filter(|last| last != "null")));
    let begun = links.get("null").map_or(0, Vec::len);
    let ended = records
        .iter()
        .filter(|record| record["action"] == "pause.end");
    let still = listed(&one.client).await.as_array().unwrap().len();
    assert_eq!(begun, ended.count() + still);
}

#[tokio::test(flavor = "multi_thread")]
async fn change_with_a_fault_has_one_record_or_none() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    for (number, fault) in [
        proxy::Fault::DropRequest,
        proxy::Fault::DropAnswer,
        proxy::Fault::CutAnswer,
        proxy::Fault::Conflict,
        proxy::Fault::ThrottledItem,
    ]
    .into_iter()
    .enumerate()
    {
        proxy.inject_once("TransactWriteItems", fault);
        pause(client, "expiry").await;
        assert_eq!(proxy.injected()[&fault], 1, "{fault:?}");
        assert_eq!(
            audit::done_actions(&pool, "pause.").await.len(),
            number + 1,
            "{fault:?}"
        );
    }
    // All attempts of the SDK fail, and nothing is written.
    for _ in 0..3 {
        proxy.inject_once("TransactWriteItems", proxy::Fault::DropRequest);
    }
    let before = listed(client).await;
    let body = json!({ "reason": "another one" });
    let failed = put(client, "expiry", &body).await;
    assert_eq!(failed.code(), "STORE_UNAVAILABLE");
    assert_eq!(listed(client).await, before);
    assert_eq!(audit::done_actions(&pool, "pause.").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_jobs_do_nothing_and_report_it() {
    let (pool, simulator, broker) = with_csp(30, &[]).await;
    let client = &broker.client;
    release(client, 3).await;
    client.allocate("overdue").await;
    broker.clock.advance(Duration::from_hours(24));
    for activity in ["sync", "deletions", "expiry"] {
        pause(client, activity).await;
    }
    let before = (simulator.calls().list, simulator.calls().delete);
    let items = pool.items_of(&pool.table).await.len();
    for (job, activity) in JOBS {
        let report = client.job(job).await;
        assert_eq!(report["status"], "paused", "{job}: {report}");
        let stopped = report["stopped"].as_str().unwrap();
        assert!(
            stopped.starts_with(&format!("{activity} paused by env-admin"))
                && stopped.contains(REASON),
            "{job}: {stopped}"
        );
        let runs = client.finished_runs().await;
        assert_eq!(runs[0]["state"], "paused", "{job}");
        assert_eq!(runs[0]["error"], Value::Null);
        // Run ids have seconds, and so does the order of runs.
        broker.clock.advance(Duration::from_secs(1));
    }
    assert_eq!((simulator.calls().list, simulator.calls().delete), before);
    assert_eq!(pool.items_of(&pool.table).await.len(), items);
    assert_eq!(client.stats().await["pending_deletion"], 3);
    assert_eq!(client.stats().await["allocated"], 1);
    assert_has_line(
        &scrape(client).await,
        "broker_job_runs_total{job=\"cleanup\",outcome=\"paused\"} 2",
    );
    for activity in ["sync", "deletions", "expiry"] {
        resume(client, activity).await;
    }
    assert_eq!(client.job("auto-expire").await["expired"], 1);
    let report = client.job("cleanup").await;
    assert_eq!(
        (&report["status"], &report["deleted"], &report["stopped"]),
        (&"completed".into(), &4.into(), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_of_200_stops_within_seconds_and_continues_after_the_pause() {
    let (pool, simulator, broker) = with_csp(
        200,
        &[
            ("CLEANUP_BATCH_SIZE", "200"),
            ("CLEANUP_CONCURRENCY", "1"),
            ("CLEANUP_PER_SANDBOX_DELAY_SEC", "0"),
            ("RUN_JOBS", "false"),
        ],
    )
    .await;
    let client = broker.client.clone();
    release(&client, 200).await;
    let elsewhere = pool.broker().await;
    // Twenty seconds and more without a pause.
    simulator.inject([Fault {
        on: Call::Delete,
        ..Fault::always(FaultKind::Slow { delay_ms: 100 })
    }]);
    let running = tokio::spawn({
        let client = client.clone();
        async move { client.job("cleanup").await }
    });
    while simulator.calls().delete < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    pause(&elsewhere.client, "deletions").await;
    let report = running.await.unwrap();
    let took = began.elapsed();
    println!("stopped after {took:?}: {report}");
    assert!(took < MAX_DELAY * 2, "{took:?}");
    assert_eq!(report["status"], "paused", "{report}");
    assert!(report["stopped"].as_str().unwrap().contains(REASON));
    let deleted = report["deleted"].as_u64().unwrap();
    assert!((5..200).contains(&deleted), "{report}");
    assert_eq!(report["deferred"], 200 - deleted);
    assert_eq!(simulator.accounts().len() as u64, 200 - deleted);
    assert_eq!(pool.sandboxes().await.len() as u64, 200 - deleted);
    let overview = client.overview().await;
    assert!(
        !warning_codes(&overview).contains(&"deletions_stopped"),
        "{overview}"
    );
    simulator.inject([]);
    assert_eq!(client.job("cleanup").await["deleted"], 0);
    resume(&client, "deletions").await;
    assert_eq!(client.job("cleanup").await["deleted"], 200 - deleted);
    assert!(simulator.accounts().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_ends_the_wait_between_two_batches() {
    let (_pool, simulator, broker) = with_csp(
        4,
        &[
            ("CLEANUP_BATCH_SIZE", "2"),
            ("CLEANUP_BATCH_DELAY_SEC", "60"),
            ("CLEANUP_PER_SANDBOX_DELAY_SEC", "0"),
        ],
    )
    .await;
    let client = broker.client.clone();
    release(&client, 4).await;
    let running = tokio::spawn({
        let client = client.clone();
        async move { client.job("cleanup").await }
    });
    while simulator.accounts().len() > 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    pause(&client, "deletions").await;
    let report = running.await.unwrap();
    assert_eq!(
        (&report["status"], &report["deleted"]),
        (&"paused".into(), &2.into())
    );
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn job_is_overdue_only_if_nothing_runs_it_while_it_is_paused() {
    let (_pool, _simulator, broker) = with_csp(1, &[]).await;
    let client = &broker.client;
    let is_overdue = async || {
        let overview = client.overview().await;
        let jobs = overview["jobs"].as_array().unwrap();
        jobs.iter().find(|job| job["job"] == "sync").unwrap()["is_overdue"] == true
    };
    pause(client, "sync").await;
    broker.clock.advance(Duration::from_hours(3));
    assert!(is_overdue().await, "nothing starts it");
    client.job("sync").await;
    assert!(!is_overdue().await, "paused on purpose");
    resume(client, "sync").await;
    assert!(!is_overdue().await, "the next run is not due yet");
    broker.clock.advance(Duration::from_hours(3));
    assert!(is_overdue().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_process_obeys_pauses_and_succeeds() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(3).await;
    let variables = pool.variables(&[("CSP_BASE_URL", &base_url)]);
    let broker = TestBroker::boot(variables.clone()).await;
    pause(&broker.client, "sync").await;
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), &variables);
    command.args(["job", "sync", "--force"]);
    // The simulator answers from this runtime, so its threads must stay free.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["status"], &report["synced"]),
        (&"paused".into(), &0.into())
    );
    assert_eq!(simulator.calls().list, 0);
}
