//! Tables filled with sandboxes.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, Region},
    types::{PutRequest, WriteRequest},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use sandbox_broker::{
    config::{Config, Variables},
    store::PoolStore,
    telemetry::metrics::Metrics,
};

use crate::{engine::Engine, sandbox::sandbox_item, stub};

/// DynamoDB's limit for a batch.
const BATCH: usize = 25;
const CONCURRENT_BATCHES: usize = 8;

/// The broker's client for a loopback endpoint, without its time-outs and its limit of concurrent calls.
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

/// A table with sandboxes numbered from 0.
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
            store.create_tables().await?;
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

    /// Adds sandboxes until there are `count`, allocated ones included.
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
            .buffer_unordered(CONCURRENT_BATCHES)
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
            "the engine did not store every item"
        );
        Ok(())
    }
}

/// The environment of a broker on the table: only required variables, so that its defaults are measured.
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
