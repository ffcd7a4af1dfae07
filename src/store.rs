//! The pool in DynamoDB, or in anything that speaks its API.
//!
//! Nothing is read, changed in memory and put back. Each write to a sandbox names the state it leaves as its
//! condition, so two writers, a retry or a crash between two calls cannot undo one another.

mod change;
mod claim;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod item;
mod lease;
mod observe;
mod samples;
mod scan;
mod schema;

use std::{sync::Arc, time::Duration};

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
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure, Select},
};
use futures_util::{Stream, stream};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::{
    change::{Change, DeletionOutcome},
    claim::{Claim, Found, Guard},
    error::StoreError,
    item::{Item, ItemFault, NiosxaasRecord, NiosxaasVerdict, Pointer, Tombstone, read_sandbox},
    lease::{Acquired, Ended, Fence, JobName, LEASE, RunId, RunRecord, RunState},
    samples::{Flow, SAMPLE_SPAN, SAMPLES_KEPT_FOR, Sample},
    scan::{Listing, SandboxPage, position_values, read_position},
    schema::{Creation, Migration, SCHEMA_VERSION},
};
use self::{
    item::{number, string},
    observe::Observer,
};
use crate::{
    aws,
    candidates::Candidate,
    clock::UnixSeconds,
    config::StoreConfig,
    metrics::Metrics,
    sandbox::{
        CallerId, IdempotencyKey, LeaseTerms, Sandbox, SandboxId, Status, Transition, lab_duration,
    },
};

/// Requests under way at once. More only queue up in the database, where they time out; here they wait. Two brokers that
/// meet in the pool lose as many attempts.
const CONCURRENCY: usize = 64;
/// A page is read in one piece, on a thread that serves requests; more would be in the way of those.
const CANDIDATES_A_PAGE: i32 = 500;
/// Where pages grow: about the 1 MB that DynamoDB reads at a time.
const MOST_CANDIDATES_A_PAGE: i32 = 4000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
const ATTEMPTS: u32 = 3;
const CONFLICT_ATTEMPTS: u32 = 5;
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

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

/// A page of the available sandboxes.
#[derive(Debug)]
pub struct AvailablePage {
    /// Its sandboxes.
    pub candidates: Vec<Candidate>,
    /// Whether there are no more.
    pub is_last: bool,
}

/// How large the pages of a reading are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// Small: requests go on beside it.
    Steady,
    /// Small at first, for those who wait for it; then larger, so that a long reading takes fewer calls.
    Growing,
}

impl PageSize {
    fn after(self, size: i32) -> i32 {
        match self {
            Self::Steady => size,
            Self::Growing => (size * 2).min(MOST_CANDIDATES_A_PAGE),
        }
    }
}

/// How giving a sandbox back ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is on its way out now; as the table has it.
    Released(Sandbox),
    /// It was on its way out already.
    Repeated(Sandbox),
    /// Its allocation and grace period were over.
    Expired(Sandbox),
    /// The caller does not hold it and was not its last holder.
    NotOwner,
    /// There is no such sandbox.
    NotFound,
}

/// How many sandboxes there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`Status::Available`].
    pub available: u64,
    /// [`Status::Allocated`].
    pub allocated: u64,
    /// [`Status::PendingDeletion`].
    pub pending_deletion: u64,
    /// [`Status::Stale`].
    pub stale: u64,
    /// [`Status::DeletionFailed`].
    pub deletion_failed: u64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.available + self.allocated + self.pending_deletion + self.stale + self.deletion_failed
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
        if endpoint.is_some_and(crate::config::is_loopback_url) {
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

    /// A sandbox as it is now, or `None` if there is none or its item cannot be read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, id: &SandboxId) -> Result<Option<Sandbox>, StoreError> {
        let item = self.get_item(item::sandbox_key(id)).await?;
        Ok(item.and_then(|item| self.read_or_skip(item)))
    }

    /// The claim of a (caller, key) pair.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_claim(
        &self,
        caller: &CallerId,
        key: &IdempotencyKey,
    ) -> Result<Found, StoreError> {
        Ok(Found::read(
            self.get_item(item::claim_key(caller, key)).await?,
        ))
    }

    /// The available sandboxes, a page at a time. The index lags behind the table by a moment.
    pub fn available_pages(
        &self,
        page_size: PageSize,
    ) -> impl Stream<Item = Result<AvailablePage, StoreError>> + Send {
        let first = Some((CANDIDATES_A_PAGE, None));
        stream::try_unfold(first, move |next| async move {
            let Some((size, position)) = next else {
                return Ok(None);
            };
            let (page, position) = self.available_page(size, position).await?;
            let next = position.map(|position| (page_size.after(size), Some(position)));
            Ok(Some((page, next)))
        })
    }

    async fn available_page(
        &self,
        size: i32,
        position: Option<Item>,
    ) -> Result<(AvailablePage, Option<Item>), StoreError> {
        let page = self
            .by_status(Status::Available)
            .limit(size)
            .projection_expression("PK, sandbox_id, #name, external_id, sfdc_account_id, #status")
            .expression_attribute_names("#name", "name")
            .set_exclusive_start_key(position)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("Query", error))?;
        let sandboxes = page
            .items
            .unwrap_or_default()
            .into_iter()
            .filter_map(|item| self.read_or_skip(item));
        let candidates = sandboxes
            .map(|sandbox| Candidate::from(&sandbox.account))
            .collect();
        let position = page.last_evaluated_key;
        let is_last = position.is_none();
        Ok((
            AvailablePage {
                candidates,
                is_last,
            },
            position,
        ))
    }

    /// The sandboxes that `caller` holds, oldest first. The index lags behind the table by a moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_by(&self, caller: &CallerId) -> Result<Vec<Sandbox>, StoreError> {
        let _slot = self.slot().await;
        let mut items = self
            .client
            .query()
            .table_name(&self.table.name)
            .index_name(&self.table.track_index)
            .key_condition_expression("allocated_to_track = :caller")
            .filter_expression("#status = :allocated")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":caller", string(caller.as_str()))
            .expression_attribute_values(":allocated", string(Status::Allocated.as_str()))
            .into_paginator()
            .items()
            .send();
        let mut held = Vec::new();
        while let Some(item) = items.next().await {
            held.extend(
                self.read_or_skip(item.map_err(|error| StoreError::from_sdk("Query", error))?),
            );
        }
        Ok(held)
    }

    /// How many sandboxes are in each state, over all pages of the index.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let (available, allocated, pending_deletion, stale, deletion_failed) = tokio::try_join!(
            self.count(Status::Available),
            self.count(Status::Allocated),
            self.count(Status::PendingDeletion),
            self.count(Status::Stale),
            self.count(Status::DeletionFailed),
        )?;
        Ok(Counts {
            available,
            allocated,
            pending_deletion,
            stale,
            deletion_failed,
        })
    }

    async fn count(&self, status: Status) -> Result<u64, StoreError> {
        let _slot = self.slot().await;
        let mut pages = self
            .by_status(status)
            .select(Select::Count)
            .into_paginator()
            .send();
        let mut count = 0;
        while let Some(page) = pages.next().await {
            count += u64::try_from(
                page.map_err(|error| StoreError::from_sdk("Query", error))?
                    .count,
            )
            .unwrap_or(0);
        }
        Ok(count)
    }

    /// Gives a sandbox back: one conditional write if its allocation has the configured length.
    ///
    /// # Errors
    /// [`StoreError`]; whether the sandbox was given back is then not known, and asking again is safe.
    pub async fn release(
        &self,
        id: &SandboxId,
        caller: &CallerId,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Release, StoreError> {
        let oldest = now - lab_duration(terms.lab_duration_hours) - terms.grace;
        let mut attempt = self
            .retire(id, now)
            .condition_expression(
                "#status = :from AND allocated_to_track = :caller AND lab_duration_hours = :hours \
                 AND allocated_at >= :oldest",
            )
            .expression_attribute_values(":caller", string(caller.as_str()))
            .expression_attribute_values(":hours", number(terms.lab_duration_hours))
            .expression_attribute_values(":oldest", number(oldest.0));
        for is_last in [false, true] {
            let sandbox = match self.retired(attempt).await? {
                Retired::Done(sandbox) => return Ok(Release::Released(sandbox)),
                Retired::Refused(None) => return Ok(Release::NotFound),
                Retired::Refused(Some(sandbox)) => sandbox,
            };
            return Ok(match sandbox.status {
                _ if !sandbox.belongs_to(caller) => Release::NotOwner,
                Status::PendingDeletion | Status::DeletionFailed => Release::Repeated(sandbox),
                Status::Allocated if sandbox.is_overdue(now, terms.grace) => {
                    Release::Expired(sandbox)
                }
                Status::Allocated if !is_last => {
                    // Of another length than the configured one, but in time by its own: this very allocation goes.
                    attempt = self
                        .retire(id, now)
                        .condition_expression(
                            "#status = :from AND allocated_to_track = :caller AND allocated_at = :allocated_at",
                        )
                        .expression_attribute_values(":caller", string(caller.as_str()))
                        .expression_attribute_values(":allocated_at", number(sandbox.allocated_at.0));
                    continue;
                }
                Status::Allocated => break,
                Status::Available | Status::Stale => Release::NotOwner,
            });
        }
        Err(StoreError::unexpected(
            "UpdateItem",
            "the sandbox is its caller's, and yet it is not",
        ))
    }

    /// Retires an allocation whose time is up, if it is still the one made at `allocated_at`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire(
        &self,
        id: &SandboxId,
        allocated_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let update = self
            .retire(id, now)
            .condition_expression("#status = :from AND allocated_at = :allocated_at")
            .expression_attribute_values(":allocated_at", number(allocated_at.0));
        Ok(matches!(self.retired(update).await?, Retired::Done(_)))
    }

    fn retire(&self, id: &SandboxId, now: UnixSeconds) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(id)))
            .update_expression("SET #status = :to, deletion_requested_at = :now, updated_at = :now")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", string(Transition::Retire.from().as_str()))
            .expression_attribute_values(":to", string(Transition::Retire.to().as_str()))
            .expression_attribute_values(":now", number(now.0))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    async fn retired(&self, update: UpdateItemFluentBuilder) -> Result<Retired, StoreError> {
        const OPERATION: &str = "UpdateItem";
        match self.update_item(update).await {
            Ok(answer) => {
                let sandbox = read_sandbox(answer.attributes.unwrap_or_default())
                    .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
                Ok(Retired::Done(sandbox))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    Ok(Retired::Refused(
                        refusal
                            .item()
                            .cloned()
                            .and_then(|item| self.read_or_skip(item)),
                    ))
                }
                _ => Err(StoreError::from_sdk(OPERATION, error)),
            },
        }
    }
}

enum Retired {
    Done(Sandbox),
    Refused(Option<Sandbox>),
}
