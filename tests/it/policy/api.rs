//! Reading, changing, comparing and rolling back the policy.

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{change_with, current, document, get, put, request, set};
use crate::support::{ADMIN, Answer, BrokerClient, Pool, START, TRACK, audit};

async fn put_toml(client: &BrokerClient, from: u32, text: &str) -> Answer {
    let request = request(client, Method::PUT, "")
        .header(header::IF_MATCH, from)
        .header(header::CONTENT_TYPE, "application/toml; charset=utf-8");
    client.send(request.body(text.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_empty_at_first_then_changed_compared_and_rolled_back() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let empty = get(client, "").await;
    let expected =
        json!({ "version": 0, "author": null, "at": null, "reason": null, "policy": {} });
    assert_eq!(
        (empty.header("etag"), empty.json()),
        (Some("\"0\""), expected)
    );

    let first = put(client, 0, &document(60)).await;
    assert_eq!(first.header("etag"), Some("\"1\""), "{first:?}");
    let expected = json!({
        "version": 1, "author": "env-admin", "at": START, "reason": null, "policy": document(60),
    });
    assert_eq!(first.json(), expected);
    assert_eq!(current(client).await, expected);

    broker.clock.advance(Duration::from_mins(1));
    let with_reason = change_with(client, 1, &document(90), ("reason", " exams run late "));
    let second = client.send(with_reason).await.json();
    assert_eq!(
        (&second["version"], &second["reason"], &second["at"]),
        (&2.into(), &"exams run late".into(), &(START.0 + 60).into())
    );
    assert_eq!(get(client, "?version=1").await.json(), expected);
    let difference = get(client, "/difference?from=1&to=2").await.json();
    let changes = json!([{ "path": "lab[cloud-101].duration_minutes", "before": 60, "after": 90 }]);
    assert_eq!(
        difference,
        json!({ "from": 1, "to": 2, "changes": changes })
    );
    let history = get(client, "/history").await.json();
    assert_eq!(
        history,
        json!({
            "versions": [
                { "version": 2, "author": "env-admin", "at": START.0 + 60, "reason": "exams run late" },
                { "version": 1, "author": "env-admin", "at": START, "reason": null },
            ],
            "count": 2, "cursor": null,
        })
    );

    broker.clock.advance(Duration::from_mins(1));
    let older = get(client, "?version=1").await.json();
    assert_eq!(set(client, 2, &older["policy"]).await["version"], 3);
    let difference = get(client, "/difference?from=1&to=3").await.json();
    assert_eq!(difference["changes"], json!([]));
    let since_the_beginning = get(client, "/difference?from=0&to=3").await.json();
    assert_eq!(since_the_beginning["changes"][0]["path"], "lab[cloud-101]");

    let records = audit::done_actions(&pool, "policy.set").await;
    let states: Vec<_> = records
        .iter()
        .map(|record| (&record["before"], &record["after"]["version"]))
        .collect();
    let version = |number: u32| json!({ "version": number });
    assert_eq!(
        states,
        [
            (&version(0), &1.into()),
            (&version(1), &2.into()),
            (&version(2), &3.into())
        ]
    );
    assert_eq!(
        (&records[1]["reason"], &records[1]["after"]["changes"]),
        (&"exams run late".into(), &changes)
    );
    assert_eq!(
        (&records[1]["target"], &records[1]["actor"]),
        (&"policy".into(), &"env-admin".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn toml_and_json_are_the_same_document() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let text = "[[lab]]\nid = \"cloud-101\" # the popular one\nduration_minutes = 60\n";
    let answer = put_toml(client, 0, text).await;
    assert_eq!(answer.json()["policy"], document(60), "{answer:?}");
    assert_eq!(set(client, 0, &document(60)).await["version"], 1);

    let request = request(client, Method::GET, "").header(header::ACCEPT, "application/toml");
    let toml = client.send(request).await;
    assert_eq!(
        (toml.header("content-type"), toml.header("etag")),
        (Some("application/toml"), Some("\"1\""))
    );
    let again = put_toml(client, 1, &toml.text).await;
    assert_eq!(again.json()["version"], 1, "{again:?}");

    for (text, path) in [
        ("[[lab]\nid = 3", "line 1, column 7"),
        (
            "[[lab]]\nid = \"a\"\nmax_held = 1979-05-27",
            "lab[0].max_held",
        ),
        (
            "[defaults]\nduration_minutes = 0",
            "defaults.duration_minutes",
        ),
    ] {
        let refused = put_toml(client, 1, text).await;
        assert_eq!(refused.code(), "INVALID_POLICY", "{text}");
        let faults = &refused.json()["error"]["faults"];
        assert_eq!(faults[0]["path"], path, "{faults}");
    }
    let unmarked = super::request(client, Method::PUT, "").header(header::IF_MATCH, 1);
    let unmarked = client.send(unmarked.body(text)).await;
    let message = unmarked.json()["error"]["message"].to_string();
    assert_eq!(unmarked.code(), "INVALID_BODY", "{message}");
    assert!(
        message.contains("Content-Type: application/toml"),
        "{message}"
    );
    assert_eq!(current(client).await["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn change_requires_the_version_that_it_was_made_from() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set(client, 0, &document(60)).await;
    let without = request(client, Method::PUT, "").json(&document(90));
    let empty = without.try_clone().unwrap().header(header::IF_MATCH, " ");
    for request in [without, empty] {
        let answer = client.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (428, "POLICY_VERSION_REQUIRED")
        );
        assert!(answer.message().contains("If-Match"), "{answer:?}");
    }
    for tag in [
        "*",
        "W/\"1\"",
        "\"1\", \"2\"",
        "\"\"",
        "+1",
        "-1",
        "one",
        "4294967296",
        "\"1",
    ] {
        let request = request(client, Method::PUT, "").header(header::IF_MATCH, tag);
        let answer = client.send(request.json(&document(90))).await;
        assert_eq!(answer.code(), "INVALID_HEADER", "{tag}: {answer:?}");
    }
    for from in [0, 2, u32::MAX] {
        let request = change_with(client, from, &document(90), ("reason", "too late"));
        let answer = client.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (412, "POLICY_CHANGED"),
            "{from}"
        );
        assert!(answer.message().contains("If-Match: \"1\""), "{answer:?}");
    }
    assert_eq!(current(client).await["version"], 1);
    assert_eq!(audit::done_actions(&pool, "policy.").await.len(), 1);
    let refused = async || {
        let path = "/v1/admin/audit?action=policy.set&outcome=POLICY_CHANGED";
        let records = client.admin(Method::GET, path).await.json()["records"].clone();
        records.as_array().unwrap().clone()
    };
    while refused().await.len() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let record = &refused().await[0];
    assert_eq!(
        (&record["target"], &record["reason"]),
        (&"policy".into(), &"too late".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_queries_and_unknown_versions_are_described() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set(client, 0, &document(60)).await;
    for (path, code) in [
        ("?version=2", "POLICY_VERSION_NOT_FOUND"),
        ("?version=-1", "INVALID_PARAMETER"),
        ("?version=latest", "INVALID_PARAMETER"),
        ("?versions=1", "INVALID_PARAMETER"),
        ("/difference", "INVALID_PARAMETER"),
        ("/difference?from=1", "INVALID_PARAMETER"),
        ("/difference?from=1&to=9", "POLICY_VERSION_NOT_FOUND"),
        ("/history?limit=0", "INVALID_PARAMETER"),
        ("/history?limit=1001", "INVALID_PARAMETER"),
        ("/history?cursor=WyJBVURJVCIsMV0", "INVALID_CURSOR"),
        ("/history?page=2", "INVALID_PARAMETER"),
    ] {
        let answer = get(client, path).await;
        assert_eq!(answer.code(), code, "{path}: {answer:?}");
    }
    let long = "x".repeat(501);
    for (name, value) in [
        ("reason", "a\nb"),
        ("reason", long.as_str()),
        ("dry_run", "true"),
    ] {
        let request = change_with(client, 1, &document(90), (name, value));
        let answer = client.send(request).await;
        assert_eq!(answer.code(), "INVALID_PARAMETER", "{name}: {answer:?}");
        assert!(answer.message().contains(name), "{answer:?}");
    }
    let without_text = change_with(client, 1, &document(90), ("reason", ""));
    assert_eq!(
        client.send(without_text).await.json()["reason"],
        Value::Null
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_returns_the_changes_and_writes_nothing() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set(client, 0, &document(60)).await;
    let check = async |body: &Value| {
        let request = request(client, Method::POST, "/check").json(body);
        client.send(request).await
    };
    let changed = check(&document(90)).await.json();
    let change = json!({ "path": "lab[cloud-101].duration_minutes", "before": 60, "after": 90 });
    assert_eq!(changed, json!({ "version": 1, "changes": [change] }));
    assert_eq!(check(&document(60)).await.json()["changes"], json!([]));
    assert_eq!(check(&document(0)).await.code(), "INVALID_POLICY");
    assert_eq!(current(client).await["policy"], document(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_documents_are_read_only_for_their_operations_and_from_permitted_principals() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let padded = |bytes: usize| {
        let document = document(60).to_string();
        let spaces = " ".repeat(bytes - document.len());
        document + &spaces
    };
    let send = async |method: Method, path: &str, token: &str, bytes: usize| {
        let request = client.request(method, path).bearer_auth(token);
        let request = request.header(header::IF_MATCH, 0).body(padded(bytes));
        client.send(request).await
    };
    let largest = send(Method::PUT, super::POLICY, ADMIN, 256 * 1024).await;
    assert_eq!(largest.json()["version"], 1, "{largest:?}");
    let check = "/v1/admin/policy/check";
    assert_eq!(
        send(Method::POST, check, ADMIN, 256 * 1024).await.status,
        200
    );
    for (method, path, bytes) in [
        (Method::PUT, super::POLICY, 256 * 1024 + 1),
        (Method::POST, check, 256 * 1024 + 1),
        (Method::GET, super::POLICY, 16 * 1024 + 1),
        (Method::PUT, "/v1/admin/pauses/sync", 16 * 1024 + 1),
    ] {
        let answer = send(method, path, ADMIN, bytes).await;
        assert_eq!(answer.code(), "PAYLOAD_TOO_LARGE", "{path}: {answer:?}");
        let limit = format!("larger than {} bytes", bytes - 1);
        assert!(answer.message().contains(&limit), "{answer:?}");
    }
    let refused = send(Method::PUT, super::POLICY, TRACK, 64 * 1024).await;
    assert_eq!(refused.code(), "FORBIDDEN", "{refused:?}");
}
