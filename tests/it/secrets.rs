//! Secrets in AWS Secrets Manager: rotation, failures, SIGHUP. `scripts/with-secrets-manager` runs these tests against
//! a compatible server.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_secretsmanager::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use axum::{Json, Router, http::HeaderMap, routing::get};
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::{
    ADMIN, BrokerClient, BrokerProcess, Pool, Proxy, Signal, TestBroker, command,
};

const OVERLAP: Duration = Duration::from_secs(10);

/// The secrets of one test.
struct SecretsServer {
    endpoint: String,
    client: Client,
}

impl SecretsServer {
    fn new() -> Self {
        let endpoint = std::env::var("BROKER_TEST_SECRETS_ENDPOINT")
            .expect("run this test with scripts/with-secrets-manager");
        let client = Client::from_conf(
            aws_sdk_secretsmanager::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
                .endpoint_url(&endpoint)
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .build(),
        );
        Self { endpoint, client }
    }

    async fn create(&self, name: &str, text: &str) {
        self.client
            .create_secret()
            .name(name)
            .secret_string(text)
            .send()
            .await
            .unwrap();
    }

    async fn current_version(&self, name: &str) -> String {
        let value = self.client.get_secret_value().secret_id(name).send().await;
        value.unwrap().version_id().unwrap().to_owned()
    }

    /// Rotates a secret: the current value becomes the previous one.
    async fn rotate(&self, name: &str, text: &str) {
        self.client
            .put_secret_value()
            .secret_id(name)
            .secret_string(text)
            .send()
            .await
            .unwrap();
    }
}

fn variables(pool: &Pool, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut variables = pool.variables(more);
    for (in_environment, elsewhere) in [
        ("BROKER_API_TOKEN", "BROKER_API_TOKEN_SECRET_ID"),
        ("CSP_API_TOKEN", "CSP_API_TOKEN_SECRET_ID"),
    ] {
        if variables.contains_key(elsewhere) {
            variables.remove(in_environment);
        }
    }
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables
}

async fn status_with(client: &BrokerClient, token: &str, caller: &str) -> u16 {
    let request = client
        .request(Method::GET, "/v1/sandboxes")
        .bearer_auth(token)
        .header("X-Instruqt-Sandbox-ID", caller);
    client.send(request).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Secrets Manager: scripts/with-secrets-manager"]
async fn rotation_under_load_rejects_no_client_and_the_old_token_expires_with_the_overlap() {
    let (server, pool) = (SecretsServer::new(), Pool::of(1).await);
    server.create("rotated", "token-0").await;
    let directory = tempfile::tempdir().unwrap();
    let variables = variables(
        &pool,
        &[
            ("BROKER_API_TOKEN_SECRET_ID", "rotated"),
            ("SECRETS_ENDPOINT_URL", &server.endpoint),
            ("SECRETS_OVERLAP_SEC", &OVERLAP.as_secs().to_string()),
            ("RATE_LIMIT_PER_SEC", "100000"),
            ("RATE_LIMIT_BURST", "1000000"),
        ],
    );
    let broker = BrokerProcess::serve(directory.path(), &variables);
    let client = &broker.client;
    let (rotated, stop) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let requests = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let load: Vec<_> = (0..8)
        .map(|n| {
            let (client, rotated, stop, requests) = (
                client.clone(),
                Arc::clone(&rotated),
                Arc::clone(&stop),
                Arc::clone(&requests),
            );
            tokio::spawn(async move {
                let caller = format!("play-{n}");
                while !stop.load(Ordering::SeqCst) {
                    let generation = usize::from(rotated.load(Ordering::SeqCst) && n % 2 == 0);
                    let token = format!("token-{generation}");
                    assert_eq!(status_with(&client, &token, &caller).await, 200, "{token}");
                    requests[generation].fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    let rotation = Instant::now();
    server.rotate("rotated", "token-1").await;
    rotated.store(true, Ordering::SeqCst);
    // Secrets Manager reports times in whole seconds.
    tokio::time::sleep_until(rotation + OVERLAP - Duration::from_secs(1)).await;
    stop.store(true, Ordering::SeqCst);
    for client in load {
        client.await.unwrap();
    }
    for (generation, count) in requests.iter().enumerate() {
        let count = count.load(Ordering::SeqCst);
        assert!(count > 50, "{count} requests with token {generation}");
    }
    tokio::time::sleep_until(rotation + OVERLAP + Duration::from_secs(1)).await;
    assert_eq!(status_with(client, "token-0", "play-0").await, 401);
    assert_eq!(status_with(client, "token-1", "play-0").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Secrets Manager: scripts/with-secrets-manager"]
async fn overlap_begins_when_an_old_version_becomes_current_again() {
    let (server, pool) = (SecretsServer::new(), Pool::of(1).await);
    server.create("rolled-back", "token-0").await;
    let first = server.current_version("rolled-back").await;
    let directory = tempfile::tempdir().unwrap();
    let variables = variables(
        &pool,
        &[
            ("BROKER_API_TOKEN_SECRET_ID", "rolled-back"),
            ("SECRETS_ENDPOINT_URL", &server.endpoint),
            ("SECRETS_OVERLAP_SEC", "3"),
        ],
    );
    let broker = BrokerProcess::serve(directory.path(), &variables);
    let client = &broker.client;
    server.rotate("rolled-back", "token-1").await;
    assert_eq!(status_with(client, "token-1", "play-0").await, 200);
    // By now the first version is older than the overlap.
    sleep(Duration::from_secs(5)).await;
    let second = server.current_version("rolled-back").await;
    server
        .client
        .update_secret_version_stage()
        .secret_id("rolled-back")
        .version_stage("AWSCURRENT")
        .remove_from_version_id(second)
        .move_to_version_id(first)
        .send()
        .await
        .unwrap();
    assert_eq!(status_with(client, "token-0", "play-0").await, 200);
    assert_eq!(status_with(client, "token-1", "play-0").await, 200);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(status_with(client, "token-1", "play-0").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Secrets Manager: scripts/with-secrets-manager"]
async fn failed_refresh_keeps_the_secret_and_is_counted() {
    let (server, pool) = (SecretsServer::new(), Pool::of(1).await);
    server.create("kept", "token-0").await;
    let mut proxy = Proxy::to(&server.endpoint).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = variables(
        &pool,
        &[
            ("BROKER_API_TOKEN_SECRET_ID", "kept"),
            ("SECRETS_ENDPOINT_URL", &proxy.endpoint()),
        ],
    );
    let broker = BrokerProcess::serve(directory.path(), &variables);
    let client = &broker.client;
    let failed = |event: &serde_json::Value| {
        event["message"] == "secret refresh failed; the previous value stays in use"
    };

    proxy.switch_off().await;
    broker.signal(Signal::HUP);
    broker.events_until(failed);
    assert_eq!(status_with(client, "token-0", "play-0").await, 200);

    proxy.switch_on();
    for nonsense in [" , ", "dev-track-token", "token with spaces"] {
        server.rotate("kept", nonsense).await;
        broker.signal(Signal::HUP);
        let events = broker.events_until(failed);
        let text = serde_json::to_string(&events).unwrap();
        assert!(!text.contains("token with spaces"), "{text}");
        assert_eq!(status_with(client, "token-0", "play-0").await, 200);
    }
    let metrics = client.plain("/metrics").await.text;
    assert!(
        metrics.contains(
            "broker_secret_refreshes_total{outcome=\"error\",secret=\"track_tokens\"} 4\n"
        ),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Secrets Manager: scripts/with-secrets-manager"]
async fn new_csp_token_is_used_after_sighup() {
    let (server, pool) = (SecretsServer::new(), Pool::new().await);
    server.create("csp", "csp-0").await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let list = async move |headers: HeaderMap| {
        let token = headers["authorization"].to_str().unwrap().to_owned();
        noted.lock().unwrap().push(token);
        Json(json!({ "results": [] }))
    };
    let csp = Router::new().route("/v2/current_user/accounts", get(list));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let base = format!("http://{}/v2", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, csp).await.unwrap() });
    let directory = tempfile::tempdir().unwrap();
    let variables = variables(
        &pool,
        &[
            ("CSP_API_TOKEN_SECRET_ID", "csp"),
            ("SECRETS_ENDPOINT_URL", &server.endpoint),
            ("CSP_BASE_URL", &base),
        ],
    );
    let broker = BrokerProcess::serve(directory.path(), &variables);
    broker.client.job("sync").await;
    server.rotate("csp", "csp-1").await;
    broker.signal(Signal::HUP);
    broker.events_until(|event| event["message"] == "secrets refreshed");
    broker.client.job("sync").await;
    assert_eq!(*seen.lock().unwrap(), ["Token csp-0", "Token csp-1"]);
}

#[tokio::test]
#[ignore = "needs a Secrets Manager: scripts/with-secrets-manager"]
async fn missing_secret_prevents_the_start_and_is_named() {
    let (server, pool) = (SecretsServer::new(), Pool::new().await);
    let directory = tempfile::tempdir().unwrap();
    let variables = variables(
        &pool,
        &[
            ("BROKER_API_TOKEN_SECRET_ID", "nowhere"),
            ("SECRETS_ENDPOINT_URL", &server.endpoint),
        ],
    );
    let run = tokio::task::spawn_blocking(move || {
        command(directory.path(), &variables)
            .arg("serve")
            .output()
            .unwrap()
    });
    let output = run.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the secret nowhere cannot be read"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Secrets Manager: scripts/with-secrets-manager"]
async fn broker_in_this_process_accepts_a_token_from_secrets_manager() {
    let (manager, pool) = (SecretsServer::new(), Pool::of(1).await);
    manager.create("in-process", "token-0").await;
    let variables = variables(
        &pool,
        &[
            ("BROKER_API_TOKEN_SECRET_ID", "in-process"),
            ("SECRETS_ENDPOINT_URL", &manager.endpoint),
        ],
    );
    let broker = TestBroker::boot(variables).await;
    assert_eq!(status_with(&broker.client, "token-0", "play-0").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Secrets Manager: scripts/with-secrets-manager"]
async fn secret_may_be_json_and_a_token_of_both_roles_has_both() {
    let (manager, pool) = (SecretsServer::new(), Pool::of(1).await);
    let json = json!({ "note": "for labs", "token": ADMIN });
    manager.create("json", &json.to_string()).await;
    let variables = variables(
        &pool,
        &[
            ("BROKER_API_TOKEN_SECRET_ID", "json"),
            ("SECRETS_ENDPOINT_URL", &manager.endpoint),
        ],
    );
    let directory = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::serve(directory.path(), &variables);
    assert_eq!(status_with(&broker.client, ADMIN, "play-0").await, 200);
    assert_eq!(broker.client.stats().await["available"], 1);
}
