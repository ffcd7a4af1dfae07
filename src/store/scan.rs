//! Scans and queries over many sandboxes, for jobs.

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use futures_util::{Stream, StreamExt, stream};

use super::{
    PoolStore, StoreError,
    item::{self, Item, SANDBOX_PREFIX, SANDBOX_SORT, Tombstone, number, string},
};
use crate::{
    clock::UnixSeconds,
    domain::{NiosxaasRecord, Sandbox, Status},
};

/// One page of the table.
#[derive(Debug, Default)]
pub struct SandboxPage {
    /// The sandboxes on it.
    pub sandboxes: Vec<Sandbox>,
    /// The tombstones on it.
    pub tombstones: Vec<Tombstone>,
    /// The ids of unreadable sandbox items.
    pub unreadable: Vec<String>,
}

/// The page limit of scans and queries: about the number of sandboxes in the 1 MB that DynamoDB reads per call. Without
/// a limit, the embedded engine reads all remaining items before it truncates the page.
pub(super) const ITEMS_PER_PAGE: i32 = 4096;

impl PoolStore {
    /// Reads every sandbox and tombstone page by page, each page strongly consistent.
    pub fn sandbox_pages(
        &self,
    ) -> impl Stream<Item = Result<SandboxPage, StoreError>> + Send + Unpin + use<> {
        let pages = self
            .client
            .scan()
            .table_name(&self.table.name)
            .limit(ITEMS_PER_PAGE)
            .consistent_read(true)
            .filter_expression("SK IN (:meta, :gone)")
            .expression_attribute_values(":meta", string(SANDBOX_SORT))
            .expression_attribute_values(":gone", string(item::TOMBSTONE_SORT))
            .into_paginator()
            .send();
        let store = self.clone();
        let pages = stream::unfold(pages, |mut pages| async {
            pages.next().await.map(|page| (page, pages))
        });
        pages
            .map(move |page| {
                let items = page
                    .map_err(|error| StoreError::from_sdk("Scan", error))?
                    .items
                    .unwrap_or_default();
                Ok(store.read_page(items))
            })
            .boxed()
    }

    fn read_page(&self, items: Vec<Item>) -> SandboxPage {
        let mut page = SandboxPage::default();
        for item in items {
            let key = item
                .get("PK")
                .and_then(|key| key.as_s().ok())
                .cloned()
                .unwrap_or_default();
            if !key.starts_with(SANDBOX_PREFIX) {
                match serde_dynamo::aws_sdk_dynamodb_1::from_item(item) {
                    Ok(tombstone) => page.tombstones.push(tombstone),
                    // It still prevents the insertion of its sandbox, which only cannot be reinstated.
                    Err(fault) => {
                        tracing::warn!(key, %fault, "unreadable tombstone skipped");
                    }
                }
                continue;
            }
            match self.read_or_skip(item) {
                Some(sandbox) => page.sandboxes.push(sandbox),
                None => page
                    .unreadable
                    .push(key.trim_start_matches(SANDBOX_PREFIX).to_owned()),
            }
        }
        page
    }

    /// Reads the NIOSXaaS records of the last 30 days page by page.
    pub fn niosxaas_pages(
        &self,
    ) -> impl Stream<Item = Result<Vec<NiosxaasRecord>, StoreError>> + Send + Unpin + use<> {
        let pages = self
            .client
            .scan()
            .table_name(&self.table.name)
            .limit(ITEMS_PER_PAGE)
            .filter_expression("SK = :record AND begins_with(PK, :prefix)")
            .expression_attribute_values(":record", string(item::NIOSXAAS_SORT))
            .expression_attribute_values(":prefix", string(item::NIOSXAAS_PREFIX))
            .into_paginator()
            .send();
        let pages = stream::unfold(pages, |mut pages| async {
            pages.next().await.map(|page| (page, pages))
        });
        pages
            .map(|page| {
                let page = page.map_err(|error| StoreError::from_sdk("Scan", error))?;
                let records = page.items.unwrap_or_default().into_iter();
                Ok(records.filter_map(item::read_niosxaas_record).collect())
            })
            .boxed()
    }

    /// Reads every sandbox whose next deletion attempt is due at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_for_deletion(&self, now: UnixSeconds) -> Result<Vec<Sandbox>, StoreError> {
        let query = self
            .by_status(Status::PendingDeletion)
            .filter_expression("attribute_not_exists(next_deletion_at) OR next_deletion_at <= :now")
            .expression_attribute_values(":now", number(now.0));
        self.collect(query).await
    }

    /// Reads every allocation that started at `latest` or before. The key condition excludes all other sandboxes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn allocated_until(&self, latest: UnixSeconds) -> Result<Vec<Sandbox>, StoreError> {
        let query = self
            .by_status(Status::Allocated)
            .key_condition_expression("#status = :status AND allocated_at <= :latest")
            .expression_attribute_values(":latest", number(latest.0));
        self.collect(query).await
    }

    /// Reads every sandbox in a status.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn in_status(&self, status: Status) -> Result<Vec<Sandbox>, StoreError> {
        self.collect(self.by_status(status)).await
    }

    /// Returns the query for the sandboxes in a status, on an index that is eventually consistent.
    pub(super) fn by_status(&self, status: Status) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table.name)
            .index_name(&self.table.status_index)
            .limit(ITEMS_PER_PAGE)
            .key_condition_expression("#status = :status")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":status", string(status.as_str()))
    }

    async fn collect(&self, query: QueryFluentBuilder) -> Result<Vec<Sandbox>, StoreError> {
        let mut items = query.into_paginator().items().send();
        let mut sandboxes = Vec::new();
        while let Some(item) = items.next().await {
            sandboxes.extend(
                self.read_or_skip(item.map_err(|error| StoreError::from_sdk("Query", error))?),
            );
        }
        Ok(sandboxes)
    }
}
