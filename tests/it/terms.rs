//! The terms of allocations: the duration that a body asks for, clients without a body, and leases of minutes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue::{N, Null, S};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, BrokerClient, BrokerProcess, Pool, Proxy, START, TRACK, fastapi, laptop,
};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// Sends an allocate request with a body as it is.
async fn allocate(client: &BrokerClient, caller: &str, body: impl Into<reqwest::Body>) -> Answer {
    client.send(client.allocation(caller).body(body)).await
}

async fn allocate_for(client: &BrokerClient, caller: &str, minutes: u32) -> Answer {
    let body = json!({ "duration_minutes": minutes }).to_string();
    allocate(client, caller, body).await
}

/// Bodies that clients of the FastAPI service may send, which ignored every body.
fn bodies_of_old_clients() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "{}",
        "null",
        "[]",
        "{\"track_id\": \"play-1\"}",
        "{\"minutes\": 5, \"duration\": \"1h\"}",
        "{\"duration_minute\": 5}",
        "{\"duration-minutes\": 5}",
        "{\"duration_\\u006dinutes\": 5}",
        "duration=90&x=%7B",
        "{ not JSON",
        "<xml/>",
        "\u{feff}\u{0}",
    ];
    let mut bodies: Vec<_> = texts.map(|text| text.as_bytes().to_vec()).into();
    bodies.extend([vec![0xff, 0xfe, 0x00], vec![b'x'; 16 * 1024]]);
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_lasts_as_long_as_its_body_asks_for_and_at_most_as_long_as_its_lab_allows() {
    let pool = Pool::of(7).await;
    let broker = pool.broker_with(&[("LAB_DURATION_HOURS", "3")]).await;
    for (minutes, lasts, hours) in [
        (1, MINUTE, 1),
        (60, HOUR, 1),
        (61, 61 * MINUTE, 2),
        (179, 179 * MINUTE, 3),
        (180, 3 * HOUR, 3),
        (181, 3 * HOUR, 3),
        (43_200, 3 * HOUR, 3),
    ] {
        let answer = allocate_for(&broker.client, &format!("play-{minutes}"), minutes).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.json()["expires_at"], START.0 + lasts, "{minutes}");
        let items = pool.items().await;
        let of_sandbox = |prefix: &str| {
            let mut items = items.iter().filter(|item| {
                let is_its = item.get("sandbox_id") == Some(&S(answer.sandbox_id()));
                is_its && item["PK"].as_s().unwrap().starts_with(prefix)
            });
            items.next().unwrap()
        };
        let sandbox = of_sandbox("SBX#");
        assert_eq!(sandbox["expires_at"], N((START.0 + lasts).to_string()));
        assert_eq!(sandbox["lab_duration_hours"], N(hours.to_string()));
        // The FastAPI service shows an end that is not before the real one.
        assert_eq!(fastapi::read(sandbox), "allocated");
        assert!(hours * HOUR >= lasts);
        // The claim outlives the lease and its grace period.
        let claim = of_sandbox("CLAIM#");
        let end = START.0 + lasts + 30 * MINUTE;
        assert_eq!(claim["expires_at"], N(end.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_changes_no_terms() {
    let pool = Pool::of(2).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let first = allocate_for(&a.client, "play-1", 30).await;
    assert_eq!(first.status, 201);
    let items = pool.items().await;
    for again in [
        allocate_for(&b.client, "play-1", 90).await,
        allocate_for(&a.client, "play-1", 1).await,
        a.client.allocate("play-1").await,
    ] {
        assert_eq!((again.status.as_u16(), &again.text), (200, &first.text));
    }
    assert_eq!(pool.items().await.len(), items.len());
    let shown = b.client.get(&first.sandbox_id(), "play-1").await.json();
    assert_eq!(shown["expires_at"], START.0 + 30 * MINUTE);
}

#[tokio::test(flavor = "multi_thread")]
async fn body_of_an_old_client_is_ignored() {
    let bodies = bodies_of_old_clients();
    let pool = Pool::of(bodies.len()).await;
    let broker = pool.broker().await;
    for (n, body) in bodies.into_iter().enumerate() {
        let caller = format!("play-{n}");
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let answer = allocate(&broker.client, &caller, body).await;
        assert_eq!(answer.status, 201, "{shown}: {answer:?}");
        let id = answer.sandbox_id();
        let expected = format!(
            r#"{{"sandbox_id":"{id}","name":"{id}","external_id":"identity/accounts/{id}","allocated_at":{},"#,
            START.0
        );
        let rest = format!(
            r#""expires_at":{},"sfdc_account_id":null}}"#,
            START.0 + 4 * HOUR
        );
        assert_eq!(answer.text, expected + &rest, "{shown}");
        let replay = broker.client.allocate(&caller).await;
        assert_eq!((replay.status.as_u16(), replay.text), (200, answer.text));
    }
}

/// The words of the writes are those of the build before leases had terms.
#[tokio::test(flavor = "multi_thread")]
async fn allocation_without_terms_writes_what_it_always_wrote() {
    let pool = Pool::of(3).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let writes: Arc<Mutex<Vec<Value>>> = Arc::default();
    let seen = Arc::clone(&writes);
    let _gate = proxy.hold(move |call| {
        if call.operation == "TransactWriteItems" {
            seen.lock().unwrap().push(call.json());
        }
        false
    });
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    assert_eq!(allocate(&broker.client, "play-2", "{}").await.status, 201);
    for write in writes.lock().unwrap().iter() {
        let actions = write["TransactItems"].as_array().unwrap();
        assert_eq!(actions.len(), 2, "{write}");
        let update = &actions[0]["Update"];
        assert_eq!(
            update["UpdateExpression"],
            "SET #status = :to, allocated_to_track = :caller, idempotency_key = :key, allocated_at = :now, \
             expires_at = :end, lab_duration_hours = :hours, updated_at = :now"
        );
        let values = &update["ExpressionAttributeValues"];
        assert_eq!(values[":end"]["N"], (START.0 + 4 * HOUR).to_string());
        assert_eq!(values[":hours"]["N"], "4");
        let claim = actions[1]["Put"]["Item"].as_object().unwrap();
        let names: BTreeSet<_> = claim.keys().map(String::as_str).collect();
        let expected = "PK SK allocated_at caller expires_at key sandbox_id ttl";
        assert_eq!(names, expected.split(' ').collect());
    }
    assert_eq!(writes.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_terms_are_refused_with_the_body_to_send() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    for (body, fault) in [
        ("{\"duration_minutes\": 0}", "duration_minutes is 0"),
        ("{\"duration_minutes\": 43201}", "duration_minutes is 43201"),
        ("{\"duration_minutes\": -5}", "integer `-5`"),
        ("{\"duration_minutes\": 1.5}", "floating point `1.5`"),
        ("{\"duration_minutes\": \"90\"}", "string \"90\""),
        ("{\"duration_minutes\": true}", "boolean `true`"),
        (
            "{\"duration_minutes\": 99999999999999999999}",
            "expected u64",
        ),
        ("{\"duration_minutes\": }", "expected value"),
        ("{\"duration_minutes\": 90", "EOF"),
        ("{\"duration_minutes\": 90, \"minutes\": 1}", "`minutes`"),
        (
            "{\"duration_minutes\": 1, \"duration_minutes\": 2}",
            "duplicate",
        ),
        ("duration_minutes=90", "expected value"),
        ("[{\"duration_minutes\": 90}]", "invalid type"),
    ] {
        let answer = allocate(&broker.client, "play-1", body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "INVALID_BODY"),
            "{body}"
        );
        let message = answer.message();
        let advice =
            "send {\"duration_minutes\": 90} with a whole number from 1 to 43200, or no body";
        assert!(
            message.contains(fault) && message.contains(advice),
            "{body}: {message}"
        );
    }
    assert!(pool.holdings().await.is_empty());
    let none = allocate(&broker.client, "play-1", "{\"duration_minutes\": null}").await;
    assert_eq!(none.json()["expires_at"], START.0 + 4 * HOUR);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_minutes_end_on_their_own_beside_longer_and_inherited_ones() {
    let pool = Pool::of(4).await;
    let variables = [("GRACE_PERIOD_MINUTES", "2"), ("LAB_DURATION_HOURS", "1")];
    let broker = pool.broker_with(&variables).await;
    let client = &broker.client;
    let mut ids = Vec::new();
    for minutes in [1, 2, 30] {
        let answer = allocate_for(client, &format!("play-{minutes}"), minutes).await;
        ids.push(answer.sandbox_id());
    }
    // The FastAPI service allocated the fourth one at the same time, and states no end.
    let available = pool.sandboxes().await.into_iter();
    let inherited = available.filter(|one| one.holder.is_none()).last().unwrap();
    let inherited = inherited.id().to_string();
    let attributes = [
        ("status", Some(S("allocated".to_owned()))),
        ("allocated_to_track", Some(S("Jane".to_owned()))),
        ("allocated_at", Some(N(START.0.to_string()))),
        ("expires_at", Some(Null(true))),
    ];
    pool.rewrite_sandbox(&inherited, &attributes).await;
    ids.push(inherited);
    // Each lasts until the end of the grace period, inclusive.
    let mut ended = 0;
    for (until, due) in [
        (3 * MINUTE, 0),
        (1, 1),
        (MINUTE - 1, 0),
        (1, 1),
        (28 * MINUTE - 1, 0),
        (1, 1),
        (30 * MINUTE - 1, 0),
        (1, 1),
    ] {
        broker
            .clock
            .advance(Duration::from_secs(until.unsigned_abs()));
        let report = client.job("auto-expire").await;
        assert_eq!(report["expired"], due, "{report} {ended}");
        ended += due;
        for (n, id) in ids.iter().enumerate() {
            let path = format!("/v1/admin/sandboxes/{id}");
            let status = &client.admin(Method::GET, &path).await.json()["sandbox"]["status"];
            let expected = if n < ended {
                "pending_deletion"
            } else {
                "allocated"
            };
            assert_eq!(status, expected, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_reads_its_lease() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let request = broker.client.allocation("play-1");
    let request = request
        .header("X-Sandbox-Name-Prefix", "lab-adv")
        .body("{\"duration_minutes\": 90}");
    let id = broker.client.send(request).await.sandbox_id();
    let shown = broker.client.get(&id, "play-1").await.json();
    assert_eq!(shown["expires_at"], START.0 + 90 * MINUTE);
    assert_eq!(shown["max_expires_at"], START.0 + 4 * HOUR);
    assert_eq!(shown["extensions"], 0);
    assert!(
        shown["replaces"].is_null() && shown["replaced_by"].is_null(),
        "{shown}"
    );
    let listed = broker.client.list("play-1").await.json();
    assert_eq!(listed["sandboxes"][0], shown);
    let path = format!("/v1/admin/sandboxes/{id}");
    let admin = broker.client.admin(Method::GET, &path).await.json();
    assert_eq!(admin["sandbox"]["name_prefix"], "lab-adv", "{admin}");

    // An operator may extend beyond the maximum of the lab.
    let longer = json!({ "minutes": 600, "reason": "the class runs late" });
    assert_eq!(broker.client.act(&id, "extend", &longer).await.status, 200);
    let shown = broker.client.get(&id, "play-1").await.json();
    assert_eq!(shown["max_expires_at"], START.0 + 10 * HOUR);

    // After a replacement, as the table records it.
    let attributes = [
        ("replaces", Some(S("4711".to_owned()))),
        ("replaced_by", Some(S("4712".to_owned()))),
        ("extensions", Some(N("3".to_owned()))),
    ];
    pool.rewrite_sandbox(&id, &attributes).await;
    assert_eq!(broker.client.release(&id, "play-1").await.status, 200);
    let shown = broker.client.get(&id, "play-1").await.json();
    assert_eq!(
        (
            &shown["replaces"],
            &shown["replaced_by"],
            &shown["extensions"]
        ),
        (&json!("4711"), &json!("4712"), &json!(3))
    );
    assert!(shown["max_expires_at"].is_null(), "nothing can be added");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_log_has_the_duration_of_a_new_allocation() {
    let directory = tempfile::tempdir().unwrap();
    let mut variables = laptop(&directory.path().join("data"));
    variables.insert("LOG_LEVEL".into(), "info".into());
    let broker = BrokerProcess::serve(directory.path(), &variables);
    let client = &broker.client;

    let send = async |id: &'static str, body: &'static str| {
        let request = client
            .request(Method::POST, "/v1/allocate")
            .bearer_auth(TRACK);
        let request = request
            .header("X-Track-ID", "play-1")
            .header("X-Request-ID", id);
        client.send(request.body(body)).await
    };
    assert_eq!(send("new", "{\"duration_minutes\": 75}").await.status, 201);
    assert_eq!(send("again", "").await.status, 200);
    let events = broker.events_until(|event| event["request_id"] == "again");
    let duration = |id: &str| {
        let mut found = events.iter().filter(|event| event["request_id"] == id);
        found.next_back().unwrap()["duration_minutes"].clone()
    };
    assert_eq!(duration("new"), 75);
    assert!(duration("again").is_null());
}
