//! Documents that are refused, and the largest one.

use std::time::Instant;

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{change, current, document, put, request, set, status};
use crate::support::{Pool, Proxy, proxy};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_broken_document_changes_nothing_and_names_its_faults() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set(client, 0, &document(60)).await;
    let lab = |entry: Value| json!({ "lab": [entry] });
    for (broken, path) in [
        (json!([]), "the document"),
        (json!("lab"), "the document"),
        (json!({ "labs": [] }), "labs"),
        (json!({ "lab": {} }), "lab"),
        (json!({ "defaults": 3 }), "defaults"),
        (lab(json!({})), "lab[0].id"),
        (lab(json!({ "id": "" })), "lab[0].id"),
        (lab(json!({ "id": "a*b" })), "lab[0].id"),
        (lab(json!({ "id": "a", "max_held": -1 })), "lab[0].max_held"),
        (
            lab(json!({ "id": "a", "max_held": "6" })),
            "lab[0].max_held",
        ),
        (
            lab(json!({ "id": "a", "duration_minutes": 43_201 })),
            "lab[0].duration_minutes",
        ),
        (
            lab(json!({ "id": "a", "duration_minutes": 90, "max_duration_minutes": 60 })),
            "lab[0].max_duration_minutes",
        ),
        (
            json!({ "defaults": { "replaced": "keep" } }),
            "defaults.replaced",
        ),
        (
            json!({ "lab": [{ "id": "a" }, { "id": "a" }] }),
            "lab[1].id",
        ),
        (
            json!({ "pool": [{ "name_prefix": "lab-" }, { "name_prefix": "lab-a" }] }),
            "pool[1].name_prefix",
        ),
        (
            json!({ "pool": [{ "name_prefix": "a", "target_available": 2, "max_total": 1 }] }),
            "pool[0].target_available",
        ),
    ] {
        let answer = put(client, 1, &broken).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "INVALID_POLICY"),
            "{broken}: {answer:?}"
        );
        let error = &answer.json()["error"];
        assert_eq!(error["faults"][0]["path"], path, "{error}");
        for name in ["got", "takes"] {
            let text = error["faults"][0][name].as_str().unwrap();
            assert!(!text.is_empty(), "{error}");
        }
    }
    let many = json!({ "lab": vec![json!({ "id": 3 }); 5000] });
    let error = put(client, 1, &many).await.json()["error"].clone();
    assert_eq!(error["faults"].as_array().unwrap().len(), 100);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("5000 faults"), "{message}");
    let send = async |body: &[u8]| {
        let request = request(client, Method::PUT, "").header(header::IF_MATCH, 1);
        client.send(request.body(body.to_owned())).await
    };
    for body in [b"".as_slice(), b"\xff{}"] {
        let answer = send(body).await;
        assert_eq!(answer.code(), "INVALID_BODY", "{answer:?}");
    }
    let nested = "[".repeat(100_000);
    for body in [
        "{",
        "{}{}",
        "\u{feff}{}",
        "null\0",
        "{\"lab\": [],\n\"lab\": []}",
        &nested,
    ] {
        let answer = send(body.as_bytes()).await;
        assert_eq!(answer.code(), "INVALID_POLICY", "{answer:?}");
        let faults = &answer.json()["error"]["faults"];
        assert!(
            faults[0]["path"].as_str().unwrap().starts_with("line "),
            "{faults}"
        );
    }
    assert_eq!(current(client).await["policy"], document(60));
    assert_eq!(status(client).await["version"], 1);
}

/// Returns a document with as many labs as it can have, of which every tenth has terms of its own.
fn of_10_000_labs(minutes: u32) -> Value {
    let lab = |number: u32| {
        let mut lab = json!({ "id": format!("lab-{number:05}") });
        if number.is_multiple_of(10) {
            lab["duration_minutes"] = minutes.into();
        }
        lab
    };
    json!({ "lab": (0..10_000).map(lab).collect::<Vec<_>>() })
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_under_10_000_labs_makes_the_calls_of_one_without_a_policy() {
    let pool = Pool::of(3).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let client = &broker.client;
    let allocate = async |caller: &str| {
        proxy.until_quiet().await;
        proxy.take_calls();
        let answer = client.allocate_in("lab-09990", caller).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let body = answer.json();
        let time = |name: &str| body[name].as_i64().unwrap();
        let duration = time("expires_at") - time("allocated_at");
        (duration, proxy.take_calls())
    };
    let (_, without) = allocate("play-1").await;

    let document = of_10_000_labs(77);
    println!("{} bytes", document.to_string().len());
    let began = Instant::now();
    set(client, 0, &document).await;
    println!("in force after {:?}", began.elapsed());
    assert_eq!(allocate("play-2").await, (77 * 60, without));

    // The polls read the small item alone.
    let gate = proxy.hold(|call| call.reads_policy() && call.json().to_string().contains("V#"));
    proxy.take_polls(proxy::Polled::Policy);
    let mut polls = 0;
    while polls < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        polls += proxy.take_polls(proxy::Polled::Policy);
    }
    assert_eq!(status(client).await["fault"], Value::Null);
    gate.open();

    let everything_changes = of_10_000_labs(78);
    let check = request(client, Method::POST, "/check").json(&everything_changes);
    let changes = client.send(check).await.json()["changes"].clone();
    assert_eq!(changes.as_array().unwrap().len(), 1000);
    let answer = client.send(change(client, 1, &everything_changes)).await;
    assert_eq!(answer.json()["version"], 2, "{answer:?}");
}
