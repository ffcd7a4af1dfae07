//! What the tests share: an engine, a pool on it, brokers booted as `main` boots them, and clients.

mod calls;
pub mod faults;
mod process;
mod proxy;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use sandbox_broker::{
    app::RunningBroker,
    clock::{Clock, ManualClock, UnixSeconds},
    config::{Config, Variables},
    csp::simulator::Simulator,
    domain::{Account, Sandbox, SandboxId, Status},
    store::{Change, PoolStore, embedded::EmbeddedEngine, read_sandbox},
    telemetry::metrics::Metrics,
};
use serde_json::Value;

pub use self::{
    process::{BrokerProcess, Signal, command},
    proxy::Proxy,
};

pub const TRACK: &str = "test-track-token";
pub const ADMIN: &str = "test-admin-token";
/// When the tests' clocks begin: a plausible present, because engines expire items by their own clock.
pub const START: UnixSeconds = UnixSeconds(1_795_000_000);

/// The engine under test: the embedded one, or the server at `BROKER_TEST_DYNAMODB_ENDPOINT`.
pub struct Engine {
    endpoint: String,
    _embedded: Option<EmbeddedEngine>,
}

impl Engine {
    pub fn start() -> Self {
        if let Ok(endpoint) = std::env::var("BROKER_TEST_DYNAMODB_ENDPOINT") {
            return Self {
                endpoint,
                _embedded: None,
            };
        }
        let engine = EmbeddedEngine::in_memory().unwrap();
        Self {
            endpoint: engine.endpoint().to_owned(),
            _embedded: Some(engine),
        }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// An engine with one empty table of its own.
pub struct Pool {
    pub engine: Engine,
    pub table: String,
    pub store: PoolStore,
    pub client: Client,
}

impl Pool {
    pub async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        calls::record();
        let engine = Engine::start();
        let table = format!(
            "Pool-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let config = Config::from_variables(&variables(&engine.endpoint, &table, &[])).unwrap();
        let store = PoolStore::connect(&config.store, Some(&engine.endpoint), Metrics::new()).await;
        store.create_table().await.unwrap();
        let client = Client::from_conf(
            aws_sdk_dynamodb::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
                .endpoint_url(&engine.endpoint)
                .build(),
        );
        Self {
            engine,
            table,
            store,
            client,
        }
    }

    /// A pool of available sandboxes with these names.
    pub async fn with_names<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Self {
        let pool = Self::new().await;
        pool.add(names).await;
        pool
    }

    /// A pool of so many available sandboxes.
    pub async fn of(count: usize) -> Self {
        Self::with_names((0..count).map(|n| format!("lab-adventure-{n:04}"))).await
    }

    pub async fn add<T: AsRef<str>>(&self, names: impl IntoIterator<Item = T>) {
        let accounts: Vec<_> = names
            .into_iter()
            .map(|name| account(name.as_ref()))
            .collect();
        self.insert(accounts).await;
    }

    pub async fn insert(&self, accounts: Vec<Account>) {
        self.apply(accounts.into_iter().map(Change::Insert).collect())
            .await;
    }

    pub async fn apply(&self, changes: Vec<Change>) {
        let made = self.store.apply(None, &changes, 4, START).await.unwrap();
        assert!(made.iter().all(|made| *made));
    }

    pub fn variables(&self, more: &[(&str, &str)]) -> Variables {
        variables(&self.engine.endpoint, &self.table, more)
    }

    /// A broker on this pool.
    pub async fn broker(&self) -> TestBroker {
        self.broker_with(&[]).await
    }

    pub async fn broker_with(&self, more: &[(&str, &str)]) -> TestBroker {
        TestBroker::boot(self.variables(more)).await
    }

    /// Every sandbox, as the table has it.
    pub async fn sandboxes(&self) -> Vec<Sandbox> {
        let items = self
            .client
            .scan()
            .table_name(&self.table)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        items
            .collect::<Result<Vec<_>, _>>()
            .await
            .unwrap()
            .into_iter()
            .filter(|item| item["PK"].as_s().unwrap().starts_with("SBX#"))
            .map(|item| read_sandbox(item).unwrap())
            .collect()
    }

    /// How many sandboxes each caller holds, by the table.
    pub async fn holdings(&self) -> BTreeMap<String, Vec<String>> {
        let mut holdings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for sandbox in self.sandboxes().await {
            if sandbox.status == Status::Allocated {
                let caller = sandbox.holder.as_ref().unwrap().caller.to_string();
                holdings
                    .entry(caller)
                    .or_default()
                    .push(sandbox.id().to_string());
            }
        }
        holdings
    }
}

/// A sandbox's account; its id is its name.
pub fn account(name: &str) -> Account {
    Account {
        sandbox_id: SandboxId::parse(name).unwrap(),
        name: name.to_owned(),
        external_id: format!("identity/accounts/{name}"),
        sfdc_account_id: None,
        created_at: None,
    }
}

fn variables(endpoint: &str, table: &str, more: &[(&str, &str)]) -> Variables {
    let fixed = [
        ("STORE", "dynamodb"),
        ("DDB_ENDPOINT_URL", endpoint),
        ("DDB_TABLE_NAME", table),
        ("BROKER_API_TOKEN", TRACK),
        ("BROKER_ADMIN_TOKEN", ADMIN),
        ("CSP_MODE", "live"),
        ("CSP_BASE_URL", "http://127.0.0.1:9/v2"),
        ("CSP_API_TOKEN", "csp-token"),
        ("PORT", "0"),
        ("LOG_LEVEL", "warn"),
    ];
    fixed
        .iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A whole class has the machine to itself, but for one small test beside it: two of them at once are twice the class that
/// the test is about, for an engine on the same two cores.
pub async fn class_room() -> tokio::sync::MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ONE_AT_A_TIME.lock().await
}

/// A broker in this process.
pub struct TestBroker {
    pub running: RunningBroker,
    pub clock: Arc<ManualClock>,
    pub client: BrokerClient,
}

impl TestBroker {
    pub async fn boot(variables: Variables) -> Self {
        Self::boot_at(variables, Arc::new(ManualClock::new(START))).await
    }

    pub async fn boot_at(variables: Variables, clock: Arc<ManualClock>) -> Self {
        // As in an installation, no two brokers make the same choices.
        static SEED: AtomicU64 = AtomicU64::new(1);
        let config = Config::from_variables(&variables).unwrap();
        let seed = SEED.fetch_add(1, Ordering::Relaxed);
        let running = RunningBroker::start(&config, Arc::clone(&clock) as Arc<dyn Clock>, seed)
            .await
            .unwrap();
        let client = BrokerClient::new(format!("http://{}", running.address()));
        Self {
            running,
            clock,
            client,
        }
    }
}

/// An answer of the broker.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The id of the sandbox in the answer.
    pub fn sandbox_id(&self) -> String {
        self.json()["sandbox_id"]
            .as_str()
            .unwrap_or_else(|| panic!("no sandbox: {self:?}"))
            .to_owned()
    }

    /// The code of an error, after a check that the envelope is whole.
    pub fn code(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        assert_eq!(error, &body["detail"], "{self:?}");
        assert_eq!(
            error["request_id"].as_str(),
            self.header("x-request-id"),
            "{self:?}"
        );
        assert!(!error["message"].as_str().unwrap().is_empty(), "{self:?}");
        let retry_after = error["retry_after"]
            .as_u64()
            .map(|seconds| seconds.to_string());
        assert_eq!(
            retry_after.as_deref(),
            self.header("retry-after"),
            "{self:?}"
        );
        if matches!(self.status.as_u16(), 409 | 503) {
            assert!(retry_after.is_some(), "{self:?}");
        }
        error["code"].as_str().unwrap().to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A client of one broker.
#[derive(Clone)]
pub struct BrokerClient {
    pub base: String,
    http: reqwest::Client,
}

impl BrokerClient {
    pub fn new(base: String) -> Self {
        Self {
            base,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let answer = request.send().await?;
        Ok(Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            text: answer.text().await?,
        })
    }

    fn track(&self, method: Method, path: &str, caller: &str) -> reqwest::RequestBuilder {
        self.request(method, path)
            .bearer_auth(TRACK)
            .header("X-Instruqt-Sandbox-ID", caller)
    }

    pub fn allocation(&self, caller: &str) -> reqwest::RequestBuilder {
        self.track(Method::POST, "/v1/allocate", caller)
    }

    pub async fn allocate(&self, caller: &str) -> Answer {
        self.send(self.allocation(caller)).await
    }

    pub async fn release(&self, id: &str, caller: &str) -> Answer {
        self.send(self.track(
            Method::POST,
            &format!("/v1/sandboxes/{id}/mark-for-deletion"),
            caller,
        ))
        .await
    }

    pub async fn get(&self, id: &str, caller: &str) -> Answer {
        self.send(self.track(Method::GET, &format!("/v1/sandboxes/{id}"), caller))
            .await
    }

    pub async fn list(&self, caller: &str) -> Answer {
        self.send(self.track(Method::GET, "/v1/sandboxes", caller))
            .await
    }

    pub async fn admin(&self, method: Method, path: &str) -> Answer {
        self.send(self.request(method, path).bearer_auth(ADMIN))
            .await
    }

    /// Runs a job to its end and returns its report.
    pub async fn job(&self, path: &str) -> Value {
        let answer = self.admin(Method::POST, &format!("/v1/admin/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Waits until no run is under way, and returns the recent ones.
    pub async fn finished_runs(&self) -> Vec<Value> {
        loop {
            let body = self.admin(Method::GET, "/v1/admin/jobs").await.json();
            let runs = body["runs"].as_array().unwrap();
            if runs.iter().all(|run| run["state"] != "running") {
                return runs.clone();
            }
            // Admins have a rate limit too.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn stats(&self) -> Value {
        self.admin(Method::GET, "/v1/admin/stats").await.json()
    }

    pub async fn plain(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }
}

/// A CSP simulator on a port of its own, and its base URL. It stops when the runtime of the test does.
pub async fn simulated_csp(accounts: u64) -> (Simulator, String) {
    let simulator = Simulator::new(accounts, 3);
    let (base_url, listener) = Simulator::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    tokio::spawn(
        simulator
            .clone()
            .serve(listener, tokio_util::sync::CancellationToken::new()),
    );
    (simulator, base_url)
}

/// Checks that nobody shares and nobody has two; returns how many sandboxes are out.
pub fn assert_each_has_one(given: &BTreeMap<String, Vec<String>>) -> usize {
    let mut seen = HashSet::new();
    for (caller, sandboxes) in given {
        assert_eq!(sandboxes.len(), 1, "{caller} has {sandboxes:?}");
        assert!(seen.insert(&sandboxes[0]), "{} is shared", sandboxes[0]);
    }
    seen.len()
}
