//! Tables and what is in them.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};
use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, Region},
    types::{AttributeValue, PutRequest, WriteRequest},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use sandbox_broker::{
    config::{Config, Variables},
    store::PoolStore,
    telemetry::metrics::Metrics,
};

use crate::{engine::Engine, stub};

/// DynamoDB's own bound of a batch.
const BATCH: usize = 25;
const BATCHES_AT_ONCE: usize = 8;

/// A client as the broker has one for a loopback endpoint, without its time-outs and its bound of calls at once.
pub async fn client(endpoint: &str) -> Client {
    let settings = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(Credentials::new("local", "local", None, None, "loopback"))
        .load()
        .await;
    Client::new(&settings)
}

/// A table with sandboxes numbered from 0 on.
pub struct Table {
    pub name: String,
    endpoint: String,
    keeps_items: bool,
    client: Client,
    count: usize,
}

impl Table {
    pub async fn create(engine: &Engine) -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("Bench-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        if engine.kind.keeps_tables() {
            let variables = variables(engine, &name);
            let config = Config::from_variables(&variables)?;
            let store =
                PoolStore::connect(&config.store, Some(engine.endpoint()), Metrics::new()).await;
            store.create_table().await?;
        }
        Ok(Self {
            name,
            endpoint: engine.endpoint().to_owned(),
            keeps_items: engine.kind.keeps_tables(),
            client: client(engine.endpoint()).await,
            count: 0,
        })
    }

    pub const fn count(&self) -> usize {
        self.count
    }

    /// Adds sandboxes until there are `count`, those that were allocated included.
    pub async fn grow_to(&mut self, count: usize) -> Result<()> {
        let from = self.count;
        if !self.keeps_items {
            stub::grow(&self.endpoint, &self.name, from, count).await?;
            self.count = self.count.max(count);
            return Ok(());
        }
        let batches: Vec<_> = (from..count).collect();
        stream::iter(batches.chunks(BATCH).map(<[usize]>::to_vec))
            .map(|numbers| self.put(numbers))
            .buffer_unordered(BATCHES_AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.count = self.count.max(count);
        Ok(())
    }

    async fn put(&self, numbers: Vec<usize>) -> Result<()> {
        let mut requests = Vec::with_capacity(numbers.len());
        for number in numbers {
            let put = PutRequest::builder()
                .set_item(Some(sandbox_item(number)))
                .build()?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        let answer = self
            .client
            .batch_write_item()
            .request_items(&self.name, requests)
            .send()
            .await?;
        ensure!(
            answer.unprocessed_items.unwrap_or_default().is_empty(),
            "the engine did not take everything"
        );
        Ok(())
    }
}

/// What a broker on the table is started with: nothing that is not needed, so the defaults are measured.
pub fn variables(engine: &Engine, table: &str) -> Variables {
    [
        ("STORE", "dynamodb"),
        ("DDB_ENDPOINT_URL", engine.endpoint()),
        ("DDB_TABLE_NAME", table),
        ("CSP_MODE", "live"),
        ("CSP_BASE_URL", "http://127.0.0.1:9/v2"),
        ("CSP_API_TOKEN", "unused"),
        ("PORT", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

pub fn sandbox_id(number: usize) -> String {
    format!("sandbox-{number:08}")
}

pub fn name(number: usize) -> String {
    format!("lab-adventure-{number:08}")
}

pub fn external_id(number: usize) -> String {
    format!("identity/accounts/00000000-0000-4000-8000-{number:012}")
}

/// An available sandbox, with every attribute that a sync writes.
pub fn sandbox_item(number: usize) -> HashMap<String, AttributeValue> {
    let string = |value: String| AttributeValue::S(value);
    let number_of = |value: i64| AttributeValue::N(value.to_string());
    [
        ("PK", string(format!("SBX#{}", sandbox_id(number)))),
        ("SK", string("META".to_owned())),
        ("sandbox_id", string(sandbox_id(number))),
        ("name", string(name(number))),
        ("external_id", string(external_id(number))),
        ("status", string("available".to_owned())),
        ("allocated_at", number_of(0)),
        ("lab_duration_hours", number_of(4)),
        ("deletion_retry_count", number_of(0)),
        ("created_at", number_of(1_795_000_000)),
        ("updated_at", number_of(1_795_000_000)),
        ("last_synced", number_of(1_795_000_000)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
