//! Scans and queries over many sandboxes, for jobs.

use std::time::Duration;

use aws_sdk_dynamodb::operation::{
    query::builders::QueryFluentBuilder, scan::builders::ScanFluentBuilder,
};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use super::{
    PoolStore, StoreError,
    item::{
        self, Item, SANDBOX_PREFIX, SANDBOX_SORT, TOMBSTONE_PARTITIONS, Tombstone, number, string,
    },
};
use crate::{
    clock::{MAX_CLOCK_SKEW, UnixSeconds},
    domain::{NiosxaasRecord, SHORTEST_DURATION, Sandbox, Status},
};

/// One page of the tables.
#[derive(Debug, Default)]
pub struct SandboxPage {
    /// The sandboxes on it.
    pub sandboxes: Vec<Sandbox>,
    /// The tombstones on it.
    pub tombstones: Vec<Tombstone>,
    /// The unreadable items on it.
    pub unreadable: Vec<UnreadableSandbox>,
}

/// The identity of an unreadable item of the pool, so that sync does not insert its account again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableSandbox {
    /// The id in its key.
    pub id: String,
    /// The external id of its account, if it is a text.
    pub external_id: Option<String>,
}

/// The sandboxes that a query selects.
#[derive(Debug, Default)]
pub struct Selection {
    /// The sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// The number of unreadable items among those selected.
    pub unreadable: usize,
}

/// The overdue allocations.
#[derive(Debug, Default)]
pub struct Overdue {
    /// Their sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// The number of inherited allocations that were read, overdue or not.
    pub inherited: usize,
    /// The number of unreadable items among those read.
    pub unreadable: usize,
}

/// The page limit of scans and queries on DynamoDB: a page of sandboxes is decoded in a few milliseconds. The 1 MB that
/// DynamoDB reads per call at most would hold four times as many.
pub(super) const ITEMS_PER_PAGE: i32 = 1000;

impl PoolStore {
    /// Reads every sandbox and then every tombstone page by page, each page strongly consistent. In this order, a
    /// sandbox that is deleted meanwhile is on a page as a sandbox, as a tombstone, or as both.
    pub fn sandbox_pages(
        &self,
    ) -> impl Stream<Item = Result<SandboxPage, StoreError>> + Send + Unpin + use<> {
        let store = self.clone();
        let scan = self
            .pool_scan()
            .consistent_read(true)
            .filter_expression("SK = :meta AND begins_with(PK, :sandbox)")
            .expression_attribute_values(":meta", string(SANDBOX_SORT))
            .expression_attribute_values(":sandbox", string(SANDBOX_PREFIX));
        let sandboxes = self.scan_pages(scan).map(move |items| {
            let mut page = SandboxPage::default();
            for item in items? {
                let key = item::partition_of(&item).cloned().unwrap_or_default();
                match store.read_or_skip(&item) {
                    Some(sandbox) => page.sandboxes.push(sandbox),
                    None => page.unreadable.push(UnreadableSandbox {
                        id: key.strip_prefix(SANDBOX_PREFIX).unwrap_or(&key).to_owned(),
                        external_id: item
                            .get("external_id")
                            .and_then(|value| value.as_s().ok())
                            .cloned(),
                    }),
                }
            }
            Ok(page)
        });
        let store = self.clone();
        let tombstones = stream::iter(0..TOMBSTONE_PARTITIONS).then(move |partition| {
            let store = store.clone();
            async move {
                Ok(SandboxPage {
                    tombstones: store.tombstones(partition).await?,
                    ..SandboxPage::default()
                })
            }
        });
        sandboxes.chain(tombstones).boxed()
    }

    /// Reads a partition of the tombstones.
    async fn tombstones(&self, partition: u8) -> Result<Vec<Tombstone>, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table.companion)
            .limit(self.reads.page_of(ITEMS_PER_PAGE))
            .consistent_read(true)
            .key_condition_expression("PK = :partition")
            .expression_attribute_values(
                ":partition",
                string(item::tombstone_partition(partition)),
            );
        self.collect(query, read_tombstone).await
    }

    /// Reads the NIOSXaaS records of the last 30 days page by page.
    pub fn niosxaas_pages(
        &self,
    ) -> impl Stream<Item = Result<Vec<NiosxaasRecord>, StoreError>> + Send + Unpin + use<> {
        let scan = self
            .pool_scan()
            .filter_expression("SK = :record AND begins_with(PK, :prefix)")
            .expression_attribute_values(":record", string(item::NIOSXAAS_SORT))
            .expression_attribute_values(":prefix", string(item::NIOSXAAS_PREFIX));
        self.scan_pages(scan)
            .map(|items| {
                Ok(items?
                    .into_iter()
                    .filter_map(item::read_niosxaas_record)
                    .collect())
            })
            .boxed()
    }

    /// Reads every sandbox whose next deletion attempt is due at `now`. No attempt is deferred for more than `longest`,
    /// so a later one was scheduled by a clock that was ahead, and is due.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_for_deletion(
        &self,
        now: UnixSeconds,
        longest: Duration,
    ) -> Result<Selection, StoreError> {
        let query = self
            .by_status(Status::PendingDeletion)
            // Due as well if it has no such time, or a value that is no number.
            .filter_expression("NOT (next_deletion_at > :now AND next_deletion_at <= :absurd)")
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":absurd", number((now + longest + MAX_CLOCK_SKEW).0));
        self.select(query).await
    }

    /// Reads every allocation that is overdue at `now`. The key condition excludes only those that cannot be over with
    /// any duration, because the end is no key of the index; the others are dropped page by page.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn overdue(&self, now: UnixSeconds, grace: Duration) -> Result<Overdue, StoreError> {
        let latest = now - SHORTEST_DURATION - grace;
        let query = self
            .by_status(Status::Allocated)
            .key_condition_expression("#status = :status AND allocated_at <= :latest")
            .expression_attribute_values(":latest", number(latest.0));
        let mut overdue = Overdue::default();
        self.for_each(query, |item| match self.read_or_skip(&item) {
            Some(sandbox) => {
                overdue.inherited += usize::from(sandbox.is_inherited);
                if sandbox.is_overdue(now, grace) {
                    overdue.sandboxes.push(sandbox);
                }
            }
            None => overdue.unreadable += 1,
        })
        .await?;
        Ok(overdue)
    }

    /// Reads every sandbox in a status.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn in_status(&self, status: Status) -> Result<Selection, StoreError> {
        self.select(self.by_status(status)).await
    }

    /// Calls `visit` with each sandbox in a status, page by page.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn each_in_status(
        &self,
        status: Status,
        mut visit: impl FnMut(Sandbox),
    ) -> Result<(), StoreError> {
        self.for_each(self.by_status(status), |item| {
            if let Some(sandbox) = self.read_or_skip(&item) {
                visit(sandbox);
            }
        })
        .await
    }

    /// Returns the query for the sandboxes in a status, on an index that is eventually consistent.
    pub(super) fn by_status(&self, status: Status) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table.name)
            .index_name(&self.table.status_index)
            .limit(self.reads.page_of(ITEMS_PER_PAGE))
            .key_condition_expression("#status = :status")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":status", string(status.as_str()))
    }

    async fn select(&self, query: QueryFluentBuilder) -> Result<Selection, StoreError> {
        let items = self
            .collect(query, |item| Some(self.read_or_skip(&item)))
            .await?;
        let count = items.len();
        let sandboxes: Vec<_> = items.into_iter().flatten().collect();
        Ok(Selection {
            unreadable: count - sandboxes.len(),
            sandboxes,
        })
    }

    /// Starts a scan of the pool's table.
    pub(super) fn pool_scan(&self) -> ScanFluentBuilder {
        self.client
            .scan()
            .table_name(&self.table.name)
            .limit(self.reads.page_of(ITEMS_PER_PAGE))
    }

    /// Reads the pages of a scan.
    pub(super) fn scan_pages(
        &self,
        scan: ScanFluentBuilder,
    ) -> impl Stream<Item = Result<Vec<Item>, StoreError>> + use<> {
        self.reads
            .pages("Scan", scan.into_paginator().send())
            .map_ok(|page| page.items.unwrap_or_default())
    }

    /// Reads all items of a query, and skips those that `read` does not convert.
    pub(super) async fn collect<T>(
        &self,
        query: QueryFluentBuilder,
        read: impl Fn(Item) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        self.for_each(query, |item| all.extend(read(item))).await?;
        Ok(all)
    }

    /// Calls `visit` with each item of a query.
    pub(super) async fn for_each(
        &self,
        query: QueryFluentBuilder,
        visit: impl FnMut(Item),
    ) -> Result<(), StoreError> {
        let mut pages = self.reads.pages("Query", query.into_paginator().send());
        let mut visit = visit;
        while let Some(page) = pages.try_next().await? {
            page.items
                .unwrap_or_default()
                .into_iter()
                .for_each(&mut visit);
        }
        Ok(())
    }
}

/// Converts a tombstone. An unreadable one is logged: it still prevents the insertion of its sandbox, which only cannot
/// be reinstated.
pub(super) fn read_tombstone(item: Item) -> Option<Tombstone> {
    let key = item.get("SK").and_then(|key| key.as_s().ok()).cloned();
    serde_dynamo::aws_sdk_dynamodb_1::from_item(item)
        .inspect_err(|fault| tracing::warn!(key, %fault, "unreadable tombstone skipped"))
        .ok()
}
