//! The pool in DynamoDB, or in anything that speaks its API.
//!
//! Nothing is read, changed in memory and put back. Each write to a sandbox names the state it leaves as its
//! condition, so two writers, a retry or a crash between two calls cannot undo one another.

mod change;
mod claim;
mod cursor;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod item;
mod lease;
mod observe;
mod read;
mod release;
mod runs;
mod samples;
mod scan;
mod schema;

use std::{path::PathBuf, sync::Arc, time::Duration};

use aws_config::{
    retry::RetryConfig, stalled_stream_protection::StalledStreamProtectionConfig,
    timeout::TimeoutConfig,
};
use aws_sdk_dynamodb::{
    Client,
    config::Credentials,
    error::SdkError,
    operation::update_item::{
        UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder,
    },
};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::observe::Observer;
pub use self::{
    change::{Change, DeletionOutcome},
    claim::{ClaimOutcome, ClaimPrecondition, StoredClaim},
    cursor::Position,
    error::StoreError,
    item::{ClaimTarget, Item, ItemFault, Tombstone, read_sandbox},
    lease::{Acquired, Fence, LEASE, RunOutcome},
    read::{AvailablePage, PageSize},
    release::Release,
    scan::{Listing, SandboxPage},
    schema::{Creation, Migration, SCHEMA_VERSION},
};
use crate::{aws, domain::Sandbox, telemetry::metrics::Metrics, url::is_loopback_url};

/// Requests under way at once. More only queue up in the database, where they time out; here they wait. Two brokers that
/// meet in the pool lose as many attempts.
const CONCURRENCY: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
const ATTEMPTS: u32 = 3;
const CONFLICT_ATTEMPTS: u32 = 5;
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

/// Which engine holds the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The one in this process, over SQLite in `DATA_DIR`.
    Embedded,
    /// DynamoDB, or the server at `DDB_ENDPOINT_URL`.
    DynamoDb,
}

/// Where the table is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `STORE`.
    pub engine: Engine,
    /// `DATA_DIR`.
    pub data_dir: PathBuf,
    /// `DDB_TABLE_NAME` and the `DDB_GSI…_NAME`s.
    pub table: TableNames,
    /// `DDB_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// `AWS_REGION`.
    pub region: String,
}

/// The table's and its indexes' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNames {
    /// The table.
    pub name: String,
    /// The index by `status`.
    pub status_index: String,
    /// The index by `allocated_to_track`.
    pub track_index: String,
    /// The index by `idempotency_key`.
    pub idempotency_index: String,
}

impl TableNames {
    /// Each index with its hash attribute.
    fn indexes(&self) -> [(&str, &'static str); 3] {
        [
            (&self.status_index, "status"),
            (&self.track_index, "allocated_to_track"),
            (&self.idempotency_index, "idempotency_key"),
        ]
    }
}

/// The pool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PoolStore {
    client: Client,
    table: Arc<TableNames>,
    slots: Arc<Semaphore>,
}

/// A turn to make a call.
#[derive(Debug)]
pub struct Slot<'a> {
    store: &'a PoolStore,
    _permit: Option<SemaphorePermit<'a>>,
}

impl PoolStore {
    /// A store over the table that `config` names. `endpoint` takes the place of AWS's own. Connects to nothing yet.
    pub async fn connect(config: &StoreConfig, endpoint: Option<&str>, metrics: Metrics) -> Self {
        let mut settings = aws::settings(&config.region, endpoint)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(OPERATION_TIMEOUT)
                    .build(),
            )
            // The timeouts above end what stalls; watching every body for it as well only costs.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if endpoint.is_some_and(is_loopback_url) {
            // Emulators take any credentials; looking for real ones would take seconds and may find some.
            settings = settings
                .credentials_provider(Credentials::new("local", "local", None, None, "loopback"));
        }
        let config_of_client = aws_sdk_dynamodb::config::Builder::from(&settings.load().await)
            .interceptor(Observer(metrics));
        Self::new(
            Client::from_conf(config_of_client.build()),
            config.table.clone(),
        )
    }

    /// A store over `client`.
    #[must_use]
    pub fn new(client: Client, table: TableNames) -> Self {
        Self {
            client,
            table: Arc::new(table),
            slots: Arc::new(Semaphore::new(CONCURRENCY)),
        }
    }

    /// Waits for a turn to make a call that a request or a job waits for; few of them are under way at once. Whoever has one
    /// must not wait for another.
    pub async fn slot(&self) -> Slot<'_> {
        // Never closed, so never an error.
        Slot {
            store: self,
            _permit: self.slots.acquire().await.ok(),
        }
    }

    /// Reads an item, or logs why it is no sandbox.
    fn read_or_skip(&self, item: Item) -> Option<Sandbox> {
        let key = item.get("PK").and_then(|key| key.as_s().ok()).cloned();
        match read_sandbox(item) {
            Ok(sandbox) => Some(sandbox),
            Err(fault) => {
                tracing::warn!(key, %fault, table = self.table.name, "skipped an item that cannot be read");
                None
            }
        }
    }

    /// An item as it is now.
    async fn get_item(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let _slot = self.slot().await;
        let call = self
            .client
            .get_item()
            .table_name(&self.table.name)
            .set_key(Some(key))
            .consistent_read(true);
        let answer = Box::pin(call.send())
            .await
            .map_err(|error| StoreError::from_sdk("GetItem", error))?;
        Ok(answer.item)
    }

    /// One conditional update. A transaction on the same item makes DynamoDB refuse it at once; that passes.
    async fn update_item(
        &self,
        request: UpdateItemFluentBuilder,
    ) -> Result<UpdateItemOutput, SdkError<UpdateItemError>> {
        let mut attempt = 0;
        loop {
            let answer = {
                let _slot = self.slot().await;
                Box::pin(request.clone().send()).await
            };
            let is_conflict = answer.as_ref().is_err_and(|error| {
                error
                    .as_service_error()
                    .is_some_and(UpdateItemError::is_transaction_conflict_exception)
            });
            attempt += 1;
            if !is_conflict || attempt == CONFLICT_ATTEMPTS {
                return answer;
            }
            tokio::time::sleep(CONFLICT_PAUSE * 2_u32.pow(attempt)).await;
        }
    }
}
