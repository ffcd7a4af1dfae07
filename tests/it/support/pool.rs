//! A pool of sandboxes in a table of its own.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicU32, Ordering},
};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    types::AttributeValue,
};
use sandbox_broker::{
    config::{Config, Variables},
    domain::{Account, FASTAPI_LAB_DURATION_HOURS, Sandbox, SandboxId, Status},
    store::{Change, Item, PoolStore, read_sandbox},
    telemetry::metrics::Metrics,
};

use super::{ADMIN, START, TRACK, broker::TestBroker, calls, engine::Engine, proxy::Proxy};

/// Two tables of its own on an engine.
pub struct Pool {
    pub engine: Engine,
    pub table: String,
    pub companion: String,
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
        let config = Config::from_variables(&variables(engine.endpoint(), &table, &[])).unwrap();
        let store =
            PoolStore::connect(&config.store, Some(engine.endpoint()), Metrics::new()).await;
        store.create_tables().await.unwrap();
        let client = Client::from_conf(
            aws_sdk_dynamodb::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
                .endpoint_url(engine.endpoint())
                .build(),
        );
        Self {
            engine,
            table,
            companion: config.store.table.companion,
            store,
            client,
        }
    }

    /// Creates a pool of available sandboxes with these names.
    pub async fn with_names<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Self {
        let pool = Self::new().await;
        pool.add(names).await;
        pool
    }

    /// Creates a pool of `count` available sandboxes.
    pub async fn of(count: usize) -> Self {
        Self::with_names((0..count).map(|n| format!("lab-adventure-{n:04}"))).await
    }

    /// Inserts available sandboxes with these names.
    pub async fn add<T: AsRef<str>>(&self, names: impl IntoIterator<Item = T>) {
        let accounts: Vec<_> = names
            .into_iter()
            .map(|name| account(name.as_ref()))
            .collect();
        self.insert(accounts).await;
    }

    /// Inserts available sandboxes of these accounts.
    pub async fn insert(&self, accounts: Vec<Account>) {
        self.apply(
            accounts
                .into_iter()
                .map(|account| Change::Insert(account, Status::Available))
                .collect(),
        )
        .await;
    }

    /// Makes changes at `START`, all of which must be possible.
    pub async fn apply(&self, changes: Vec<Change>) {
        let made = self.store.apply(None, &changes, 4, START).await.unwrap();
        assert!(made.iter().all(|made| *made));
    }

    /// Returns the configuration of a broker on this pool.
    pub fn variables(&self, more: &[(&str, &str)]) -> Variables {
        variables(self.engine.endpoint(), &self.table, more)
    }

    /// Boots a broker on this pool.
    pub async fn broker(&self) -> TestBroker {
        self.broker_with(&[]).await
    }

    /// Boots a broker on this pool with further variables.
    pub async fn broker_with(&self, more: &[(&str, &str)]) -> TestBroker {
        TestBroker::boot(self.variables(more)).await
    }

    /// Boots a broker whose calls to the database go through the proxy.
    pub async fn broker_behind(&self, proxy: &Proxy) -> TestBroker {
        self.broker_with(&[("DDB_ENDPOINT_URL", &proxy.endpoint())])
            .await
    }

    /// Reads every item of the pool's table, and then of the companion table.
    pub async fn items(&self) -> Vec<Item> {
        let pool = self.items_of(&self.table).await;
        let companion = self.items_of(&self.companion).await;
        pool.into_iter().chain(companion).collect()
    }

    /// Reads every item of a table.
    pub async fn items_of(&self, table: &str) -> Vec<Item> {
        let items = self
            .client
            .scan()
            .table_name(table)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        items.collect::<Result<Vec<_>, _>>().await.unwrap()
    }

    /// Sets or removes attributes of an item of a table unconditionally.
    pub async fn rewrite(
        &self,
        table: &str,
        key: Item,
        attributes: &[(&str, Option<AttributeValue>)],
    ) {
        let get = self.client.get_item().table_name(table);
        let get = get.set_key(Some(key.clone())).send();
        let mut item: Item = get.await.unwrap().item.unwrap_or_default();
        item.extend(key);
        for (name, value) in attributes {
            match value {
                Some(value) => item.insert((*name).to_owned(), value.clone()),
                None => item.remove(*name),
            };
        }
        let put = self.client.put_item().table_name(table);
        put.set_item(Some(item)).send().await.unwrap();
    }

    /// Sets or removes attributes of a sandbox unconditionally.
    pub async fn rewrite_sandbox(&self, id: &str, attributes: &[(&str, Option<AttributeValue>)]) {
        let key = key(&format!("SBX#{id}"), "META");
        self.rewrite(&self.table, key, attributes).await;
    }

    /// Reads every sandbox from the pool's table.
    pub async fn sandboxes(&self) -> Vec<Sandbox> {
        self.items_of(&self.table)
            .await
            .into_iter()
            .filter(|item| item["PK"].as_s().unwrap().starts_with("SBX#"))
            .map(|item| read_sandbox(&item, FASTAPI_LAB_DURATION_HOURS).unwrap())
            .collect()
    }

    /// Returns the sandboxes that each caller holds according to the table.
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

/// An account whose id is its name.
pub fn account(name: &str) -> Account {
    Account {
        sandbox_id: SandboxId::parse(name).unwrap(),
        name: name.to_owned(),
        external_id: format!("identity/accounts/{name}"),
        sfdc_account_id: None,
        created_at: None,
    }
}

/// The configuration of a broker that tests start from. Nothing listens at its CSP.
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

/// Checks that each caller holds one sandbox and no two callers share one; returns the number of held sandboxes.
pub fn assert_each_has_one(given: &BTreeMap<String, Vec<String>>) -> usize {
    let mut seen = HashSet::new();
    for (caller, sandboxes) in given {
        assert_eq!(sandboxes.len(), 1, "{caller} has {sandboxes:?}");
        assert!(seen.insert(&sandboxes[0]), "{} is shared", sandboxes[0]);
    }
    seen.len()
}

/// Builds a primary key.
pub fn key(partition: &str, sort: &str) -> Item {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    Item::from([
        ("PK".to_owned(), text(partition)),
        ("SK".to_owned(), text(sort)),
    ])
}
