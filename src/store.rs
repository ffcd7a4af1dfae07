//! The pool in DynamoDB or a server with the same API.
//!
//! No item is read, changed in memory and written back. Every write to a sandbox is conditional on the status that it
//! leaves, so neither concurrent writers nor retries nor a crash between two calls can undo a change.

mod actions;
mod audit;
mod census;
mod change;
mod claim;
mod csp_state;
mod cursor;
mod decision;
mod earlier_layout;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod extend;
mod fastapi;
mod item;
mod lab_history;
mod lease;
mod list;
mod migration;
mod observe;
mod page_reads;
mod pauses;
mod policy;
mod probe;
mod quota;
mod read;
mod refill;
mod replace;
mod retire;
mod runs;
mod samples;
mod scan;
mod table;
mod tokens;
mod transaction;
mod unreadable;

use std::{ops::Deref, path::PathBuf, sync::Arc, time::Duration};

use aws_config::{
    ConfigLoader, retry::RetryConfig, stalled_stream_protection::StalledStreamProtectionConfig,
    timeout::TimeoutConfig,
};
use aws_sdk_dynamodb::{
    Client,
    config::Credentials,
    error::SdkError,
    operation::{
        put_item::builders::PutItemFluentBuilder,
        update_item::{UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder},
    },
};
use tokio::sync::{Semaphore, SemaphorePermit};

#[cfg(feature = "embedded")]
use self::embedded::EmbeddedEngine;
pub use self::{
    audit::{AuditPosition, AuditSpan, EventPage, EventPosition},
    census::Census,
    change::{Change, CheckResult, DeletionOutcome},
    claim::{ClaimOutcome, ClaimPrecondition, NewAllocation},
    csp_state::VersionedCspState,
    cursor::Position,
    decision::Decided,
    error::StoreError,
    fastapi::Conversion,
    item::{AllocationRef, Item, ItemFault, StoredClaim, Tombstone, read_sandbox, tombstone_key},
    lease::{Acquired, Fence, LEASE, RunEnd, RunOutcome},
    list::{Listed, Listing},
    migration::{ASSUMED_DURATION, Holders, Migration, SCHEMA_VERSION},
    pauses::StoredPauses,
    policy::{HistoryPosition, PolicyHistory, PolicyReadError, StoredPolicy},
    quota::{AllocationStates, QuotaSlot, StoredSlot},
    read::{AvailablePage, PageSize},
    refill::{CreationStep, RefillItems},
    replace::{NewReplacement, ReplacedClaim, ReplacementRefusal},
    retire::Release,
    scan::{Overdue, SandboxPage, Selection, UnreadableSandbox},
    table::{Creation, TableDifference},
    tokens::{StoredToken, TokenCreation, TokenFingerprint, UnreadableToken},
    unreadable::UnreadableItem,
};
use self::{
    error::is_conflict,
    observe::Observer,
    page_reads::{PageLimits, PageReads, ReadPermit},
};
use crate::{aws, domain::Sandbox, telemetry::metrics::Metrics, url::is_loopback_url};

/// The maximum number of concurrent calls, except for [reads of many items](page_reads). Further calls wait here,
/// because in the database's queue they would time out. It also bounds how many attempts two brokers lose when they
/// conflict over the same sandboxes.
const CONCURRENCY: usize = 64;
/// Reads of many items on DynamoDB, whose pages have at most 1 MB.
const PAGES: PageLimits = PageLimits {
    concurrent: 4,
    items: i32::MAX,
};
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
const ATTEMPTS: u32 = 3;
const CONFLICT_ATTEMPTS: u32 = 5;
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

/// The engine that stores the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The embedded engine, which stores the table in SQLite in `DATA_DIR`.
    Embedded,
    /// DynamoDB, or the server at `DDB_ENDPOINT_URL`.
    DynamoDb,
}

/// The location of the table.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `STORE`.
    pub engine: Engine,
    /// `DATA_DIR`.
    pub data_dir: PathBuf,
    /// `DDB_TABLE_NAME` and the `DDB_GSI…_NAME` variables.
    pub table: TableNames,
    /// `DDB_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// `AWS_REGION`.
    pub region: String,
    /// The duration of the allocations that the FastAPI service made, in hours.
    pub inherited_hours: u32,
}

/// The names of the tables and indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNames {
    /// The pool's table: sandboxes and `NIOSXaaS` records, in the form of the FastAPI service.
    pub name: String,
    /// The companion table: all other items, which the FastAPI service could not read.
    pub companion: String,
    /// The index by `status`.
    pub status_index: String,
    /// The index by `allocated_to_track`.
    pub track_index: String,
    /// The index by `idempotency_key`.
    pub idempotency_index: String,
}

impl TableNames {
    /// Returns the name and the hash attribute of each index.
    fn indexes(&self) -> [(&str, &'static str); 3] {
        [
            (&self.status_index, "status"),
            (&self.track_index, "allocated_to_track"),
            (&self.idempotency_index, "idempotency_key"),
        ]
    }
}

/// A client of the pool's table. Clones are cheap and share the connections and slots.
#[derive(Clone, Debug)]
pub struct PoolStore {
    client: Client,
    table: Arc<TableNames>,
    inherited_hours: u32,
    slots: Arc<Semaphore>,
    reads: PageReads,
}

/// Returns the pause after an attempt that conflicted with a transaction, from 1.
fn conflict_pause(attempt: u32) -> Duration {
    CONFLICT_PAUSE * 2_u32.pow(attempt)
}

/// Returns credentials for an engine on this machine, which accepts any. The search for real ones takes seconds and may
/// find some.
fn local_credentials() -> Credentials {
    Credentials::new("local", "local", None, None, "loopback")
}

/// A client for one read of many items for an operator, with the permit for it, which is released on drop. Reads for
/// jobs do not wait for those of operators.
#[derive(Debug)]
pub struct OperatorRead {
    store: PoolStore,
    _permit: ReadPermit,
}

impl Deref for OperatorRead {
    type Target = PoolStore;

    fn deref(&self) -> &PoolStore {
        &self.store
    }
}

/// A permit for one call to the database. Released on drop.
#[derive(Debug)]
pub struct Slot<'a> {
    store: &'a PoolStore,
    _permit: Option<SemaphorePermit<'a>>,
}

impl PoolStore {
    /// Creates a client of the table that `config` names; `endpoint` replaces the endpoint of AWS. Opens no connection
    /// yet.
    pub async fn connect(config: &StoreConfig, endpoint: Option<&str>, metrics: Metrics) -> Self {
        let mut settings = aws::settings(&config.region, endpoint);
        if endpoint.is_some_and(is_loopback_url) {
            settings = settings.credentials_provider(local_credentials());
        }
        Self::build(config, settings, PAGES, metrics).await
    }

    /// Creates a client of the table that `config` names in the embedded engine.
    #[cfg(feature = "embedded")]
    pub async fn embedded(config: &StoreConfig, engine: &EmbeddedEngine, metrics: Metrics) -> Self {
        // The endpoint is only part of the requests, which never leave the process.
        let settings = aws::settings(&config.region, Some("http://embedded-engine"))
            .http_client(engine.http_client())
            .credentials_provider(local_credentials());
        Self::build(config, settings, embedded::PAGES, metrics).await
    }

    async fn build(
        config: &StoreConfig,
        settings: ConfigLoader,
        pages: PageLimits,
        metrics: Metrics,
    ) -> Self {
        let settings = settings
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(OPERATION_TIMEOUT)
                    .build(),
            )
            // The time-outs above cover stalled answers, so the SDK need not watch every body as well.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let client_config = aws_sdk_dynamodb::config::Builder::from(&settings.load().await)
            .interceptor(Observer(metrics))
            .interceptor(aws::CallTrace);
        Self {
            client: Client::from_conf(client_config.build()),
            table: Arc::new(config.table.clone()),
            inherited_hours: config.inherited_hours,
            slots: Arc::new(Semaphore::new(CONCURRENCY)),
            reads: PageReads::new(pages),
        }
    }

    /// Admits a read of many items for an operator, who can repeat it if it is rejected. The client is held until the
    /// read is done.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many are in progress.
    pub fn admit_read(&self) -> Result<OperatorRead, StoreError> {
        let permit = self.reads.admit()?;
        Ok(OperatorRead {
            store: self.for_operators(),
            _permit: permit,
        })
    }

    /// Returns a client whose reads of many items are for operators.
    fn for_operators(&self) -> Self {
        Self {
            reads: self.reads.for_operators(),
            ..self.clone()
        }
    }

    /// Waits for one of the `CONCURRENCY` slots, each a permit for one call. The holder of a slot must not wait for a
    /// second one: if every holder did, none would proceed.
    pub async fn slot(&self) -> Slot<'_> {
        Slot {
            store: self,
            // Fails only for a closed semaphore, and this one is never closed.
            _permit: self.slots.acquire().await.ok(),
        }
    }

    /// Converts a sandbox item. An unreadable one is logged.
    fn read(&self, item: &Item) -> Result<Sandbox, ItemFault> {
        read_sandbox(item, self.inherited_hours).inspect_err(|fault| {
            let key = item::partition_of(item);
            tracing::warn!(key, %fault, table = self.table.name, "unreadable sandbox skipped");
        })
    }

    /// Converts a sandbox item. An unreadable one is logged and skipped.
    fn read_or_skip(&self, item: &Item) -> Option<Sandbox> {
        self.read(item).ok()
    }

    /// Starts to write an item of the companion table.
    fn put_companion_item(&self, item: Item) -> PutItemFluentBuilder {
        self.client
            .put_item()
            .table_name(&self.table.companion)
            .set_item(Some(item))
    }

    /// Reads an item of a table, strongly consistent.
    async fn get_item(&self, table: &str, key: Item) -> Result<Option<Item>, StoreError> {
        let _slot = self.slot().await;
        self.get_at_once(table, key).await
    }

    /// Reads an item as [`get_item`](Self::get_item) does, but takes no slot: polls of what operators change must not wait
    /// behind a burst of allocations.
    async fn get_at_once(&self, table: &str, key: Item) -> Result<Option<Item>, StoreError> {
        let call = self
            .client
            .get_item()
            .table_name(table)
            .set_key(Some(key))
            .consistent_read(true);
        let answer = Box::pin(call.send())
            .await
            .map_err(|error| StoreError::from_sdk("GetItem", error))?;
        Ok(answer.item)
    }

    /// Sends an update. DynamoDB rejects an update while a transaction writes the same item, so it is retried.
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
            attempt += 1;
            if !answer.as_ref().is_err_and(is_conflict) || attempt == CONFLICT_ATTEMPTS {
                return answer;
            }
            tokio::time::sleep(conflict_pause(attempt)).await;
        }
    }
}
