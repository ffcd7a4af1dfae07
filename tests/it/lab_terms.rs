//! The terms that the policy has for labs: durations and name prefixes, also of bound tokens.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN, Answer, BrokerClient, Pool, START, TRACK, TestBroker};

const MINUTE: i64 = 60;

/// A pool with sandboxes of three names, and a broker with a policy for some labs.
async fn broker_with_policy() -> (Pool, TestBroker) {
    let names = ["lab-a-", "lab-b-", "other-"].into_iter();
    let names = names.flat_map(|prefix| (0..6).map(move |n| format!("{prefix}{n}")));
    let pool = Pool::with_names(names).await;
    let broker = pool.broker().await;
    let policy = json!({
        "defaults": { "duration_minutes": 100, "max_duration_minutes": 200 },
        "lab": [
            { "id": "inside", "name_prefix": "lab-a", "duration_minutes": 45, "max_duration_minutes": 50 },
            { "id": "outside", "name_prefix": "other" },
            { "id": "short-*", "duration_minutes": 5 },
        ],
    });
    broker.client.set_policy(0, &policy).await;
    (pool, broker)
}

/// An allocate request; an empty lab or prefix counts as absent.
struct Request<'a> {
    token: &'a str,
    caller: &'a str,
    lab: &'a str,
    prefix: &'a str,
    body: &'static str,
}

impl Request<'_> {
    async fn send(&self, client: &BrokerClient) -> Answer {
        let request = client.request(Method::POST, "/v1/allocate");
        let request = request
            .bearer_auth(self.token)
            .header("X-Instruqt-Sandbox-ID", self.caller)
            .header("X-Instruqt-Track-ID", self.lab)
            .header("X-Sandbox-Name-Prefix", self.prefix);
        client.send(request.body(self.body)).await
    }
}

async fn item(broker: &TestBroker, id: &str) -> Value {
    let path = format!("/v1/admin/sandboxes/{id}");
    broker.client.admin(Method::GET, &path).await.json()["sandbox"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_of_a_lab_count_where_the_request_names_none() {
    let (_pool, broker) = broker_with_policy().await;
    for (lab, prefix, body, kept, minutes, longest) in [
        ("inside", "", "", Some("lab-a"), 45, 50),
        ("inside", "lab-b-", "", Some("lab-b-"), 45, 50),
        (
            "inside",
            "",
            "{\"duration_minutes\": 7}",
            Some("lab-a"),
            7,
            50,
        ),
        (
            "inside",
            "",
            "{\"duration_minutes\": 51}",
            Some("lab-a"),
            50,
            50,
        ),
        ("outside", "", "", Some("other"), 100, 200),
        ("short-101", "", "", None, 5, 200),
        ("of no entry", "lab-", "", Some("lab-"), 100, 200),
        ("", "", "{\"duration_minutes\": 43200}", None, 200, 200),
    ] {
        let caller = format!("{lab} {prefix} {body}");
        let request = Request {
            token: TRACK,
            caller: &caller,
            lab,
            prefix,
            body,
        };
        let answer = request.send(&broker.client).await;
        assert_eq!(answer.status, 201, "{caller}: {answer:?}");
        let id = answer.sandbox_id();
        assert!(id.starts_with(kept.unwrap_or_default()), "{caller}: {id}");
        let shown = broker.client.get(&id, &caller).await.json();
        assert_eq!(shown["expires_at"], START.0 + minutes * MINUTE, "{caller}");
        assert_eq!(
            shown["max_expires_at"],
            START.0 + longest * MINUTE,
            "{caller}"
        );
        assert_eq!(
            item(&broker, &id).await["name_prefix"],
            json!(kept),
            "{caller}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_a_token_hold_for_the_prefix_that_counts() {
    let (pool, broker) = broker_with_policy().await;
    let token = json!({ "name": "prefixes", "role": "track", "name_prefixes": ["lab-"] });
    let request = broker.client.request(Method::POST, "/v1/admin/tokens");
    let created = broker
        .client
        .send(request.bearer_auth(ADMIN).json(&token))
        .await;
    let created = created.json();
    let token = created["secret"].as_str().unwrap();
    let allocate = async |caller: &str, lab: &str, prefix: &str| {
        let request = Request {
            token,
            caller,
            lab,
            prefix,
            body: "",
        };
        request.send(&broker.client).await
    };
    for (lab, prefix, faults) in [
        (
            "outside",
            "",
            [
                "the policy has another one for this lab, \"other\"",
                "X-Sandbox-Name-Prefix",
            ],
        ),
        (
            "inside",
            "other",
            ["X-Sandbox-Name-Prefix names another one", "name prefixes"],
        ),
        (
            "inside",
            "lab",
            ["X-Sandbox-Name-Prefix names another one", "name prefixes"],
        ),
        (
            "short-1",
            "",
            ["X-Sandbox-Name-Prefix is missing", "name prefixes"],
        ),
        (
            "",
            "",
            ["X-Sandbox-Name-Prefix is missing", "name prefixes"],
        ),
    ] {
        let answer = allocate("play-1", lab, prefix).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (403, "LAB_NOT_ALLOWED")
        );
        let message = answer.message();
        for fault in faults {
            assert!(
                message.to_lowercase().contains(&fault.to_lowercase()),
                "{lab} {prefix}: {message}"
            );
        }
    }
    assert!(pool.holdings().await.is_empty());
    for (caller, lab, prefix) in [("play-1", "inside", ""), ("play-2", "outside", "lab-b-")] {
        let answer = allocate(caller, lab, prefix).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(answer.sandbox_id().starts_with("lab-"));
        assert_eq!(allocate(caller, lab, prefix).await.status, 200);
        // The bounds hold for a replay as well.
        assert_eq!(allocate(caller, "outside", "").await.status, 403);
    }
}
