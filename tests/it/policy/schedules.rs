//! Schedules of pools in documents.

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{current, get, put, request, set};
use crate::support::Pool;

fn pool(schedules: &Value) -> Value {
    json!({ "pool": [{ "name_prefix": "lab-", "target_available": 5, "max_total": 50, "schedule": schedules }] })
}

fn class(from: &str, target: u32) -> Value {
    json!({ "from": from, "to": "2026-11-28T12:00:00", "target_available": target, "time_zone": "Europe/Berlin" })
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_of_toml_are_stored_as_the_texts_of_json() {
    let store = Pool::new().await;
    let broker = store.broker().await;
    let client = &broker.client;
    let toml = "\
        [[pool]]\nname_prefix = \"lab-\"\ntarget_available = 5\nmax_total = 50\n\
        [[pool.schedule]]\nfrom = 2026-11-28 10:00:00\nto = 2026-11-28T12:00:00\ntarget_available = 40\n\
        time_zone = \"europe/berlin\"\n";
    let request = request(client, Method::PUT, "")
        .header(header::IF_MATCH, 0)
        .header(header::CONTENT_TYPE, "application/toml")
        .body(toml);
    let answer = client.send(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let stored = pool(&json!([class("2026-11-28T10:00:00", 40)]));
    assert_eq!(current(client).await["policy"], stored);
    // The same document as JSON makes no new version.
    assert_eq!(set(client, 0, &stored).await["version"], 1);
    // Another broker reads it from the table.
    let other = store.broker().await;
    assert_eq!(current(&other.client).await["policy"], stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_schedule_is_refused() {
    let store = Pool::new().await;
    let broker = store.broker().await;
    let client = &broker.client;
    let mut ambiguous = class("2026-11-28T10:00:00", 1);
    ambiguous["time_zone"] = Value::Null;
    let twice = class("2026-11-28T10:00:00", 1);
    for (schedules, path) in [
        (json!({}), "schedule"),
        (json!([{}]), "schedule[0].from"),
        (json!([class("10:00", 1)]), "schedule[0].from"),
        (json!([class("2026-11-28T12:00:00", 1)]), "schedule[0].to"),
        (
            json!([class("2026-11-28T10:00:00", 51)]),
            "schedule[0].target_available",
        ),
        (json!([ambiguous]), "schedule[0].from"),
        (json!([twice, twice]), "schedule[1].from"),
        (json!(vec![5; 101]), "schedule"),
    ] {
        let answer = put(client, 0, &pool(&schedules)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "INVALID_POLICY"),
            "{schedules}"
        );
        let faults = answer.json()["error"]["faults"].clone();
        assert_eq!(faults[0]["path"], format!("pool[0].{path}"), "{faults}");
    }
    assert_eq!(current(client).await["version"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn difference_names_schedules_by_their_periods() {
    let store = Pool::new().await;
    let broker = store.broker().await;
    let client = &broker.client;
    let (ten, eleven) = ("2026-11-28T10:00:00", "2026-11-28T11:00:00");
    set(client, 0, &pool(&json!([class(ten, 20)]))).await;
    set(
        client,
        1,
        &pool(&json!([class(eleven, 30), class(ten, 25)])),
    )
    .await;
    let difference = get(client, "/difference?from=1&to=2").await.json();
    let path =
        |from: &str| format!("pool[lab-].schedule[{from}/2026-11-28T12:00:00 Europe/Berlin]");
    let expected = json!([
        { "path": format!("{}.target_available", path(ten)), "before": 20, "after": 25 },
        { "path": path(eleven), "before": null, "after": class(eleven, 30) },
    ]);
    assert_eq!(difference["changes"], expected);
}
