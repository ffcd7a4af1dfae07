//! What jobs and admins read: sandboxes, page after page.

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use futures_util::{Stream, StreamExt, stream};

use super::{
    PoolStore, Position, StoreError,
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
    /// Ids of sandbox items that cannot be read.
    pub unreadable: Vec<String>,
}

/// A page of what an admin asked for.
#[derive(Debug, Default)]
pub struct Listing {
    /// The sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// Where to go on; `None` at the end.
    pub next: Option<Position>,
}

/// So many pages of the table are read for one page of an answer at the most; the cursor leads on.
const PAGES_PER_LISTING: usize = 8;
/// As many sandboxes as there are in the 1 MB that a page of DynamoDB has at the most. The embedded engine reads all
/// that is left before it cuts a page that has no limit.
const PAGE_ITEMS: i32 = 4096;

impl PoolStore {
    /// Every sandbox and tombstone of the table, a page at a time, each as it is when its page is read.
    pub fn sandbox_pages(
        &self,
    ) -> impl Stream<Item = Result<SandboxPage, StoreError>> + Send + Unpin + use<> {
        let pages = self
            .client
            .scan()
            .table_name(&self.table.name)
            .limit(PAGE_ITEMS)
            .consistent_read(true)
            .filter_expression("SK IN (:meta, :gone)")
            .expression_attribute_values(":meta", string(SANDBOX_SORT))
            .expression_attribute_values(":gone", string("GONE"))
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
                    // It still keeps its sandbox from being inserted; it only cannot be reinstated.
                    Err(fault) => {
                        tracing::warn!(key, %fault, "skipped a tombstone that cannot be read");
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

    /// What became of the NIOSXaaS services of deleted sandboxes: the records of the last 30 days, a page at a time.
    pub fn niosxaas_pages(
        &self,
    ) -> impl Stream<Item = Result<Vec<NiosxaasRecord>, StoreError>> + Send + Unpin + use<> {
        let pages = self
            .client
            .scan()
            .table_name(&self.table.name)
            .limit(PAGE_ITEMS)
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

    /// Every sandbox whose deletion is due.
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

    /// Every allocation made at `latest` or before. Reads nothing else.
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

    /// Every sandbox in a state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn in_status(&self, status: Status) -> Result<Vec<Sandbox>, StoreError> {
        self.collect(self.by_status(status)).await
    }

    /// The query for the sandboxes in a state; the index lags behind the table by a moment.
    pub(super) fn by_status(&self, status: Status) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table.name)
            .index_name(&self.table.status_index)
            .limit(PAGE_ITEMS)
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

    /// A page of at most `limit` sandboxes from `start` on, of those that `search` accepts. The page may be shorter although
    /// there are more; it ends with the last sandbox only if it leads nowhere.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(
        &self,
        status: Option<Status>,
        limit: usize,
        start: Option<Position>,
        search: Option<impl Fn(&Sandbox) -> bool + Send + Sync>,
    ) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let mut start = start.map(Position::into_key);
        // A search reads on until it finds something, in pages as large as they come.
        let page_size = if search.is_none() {
            i32::try_from(limit).unwrap_or(PAGE_ITEMS)
        } else {
            PAGE_ITEMS
        };
        for _ in 0..PAGES_PER_LISTING {
            let (items, next) = self.list_page(status, page_size, start.take()).await?;
            for item in items {
                if listing.sandboxes.len() == limit {
                    return Ok(listing);
                }
                let position = Position::of(&item, status);
                if let Some(sandbox) = self
                    .read_or_skip(item)
                    .filter(|sandbox| search.as_ref().is_none_or(|search| search(sandbox)))
                {
                    listing.sandboxes.push(sandbox);
                    listing.next = position;
                }
            }
            listing.next = next.as_ref().and_then(|key| Position::of(key, status));
            if next.is_none() {
                break;
            }
            start = next;
            if listing.sandboxes.len() == limit {
                break;
            }
        }
        Ok(listing)
    }

    async fn list_page(
        &self,
        status: Option<Status>,
        page_size: i32,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let _slot = self.slot().await;
        if let Some(status) = status {
            let query = self
                .by_status(status)
                .limit(page_size)
                .set_exclusive_start_key(start);
            let page = query
                .send()
                .await
                .map_err(|error| StoreError::from_sdk("Query", error))?;
            return Ok((page.items.unwrap_or_default(), page.last_evaluated_key));
        }
        let page = self
            .client
            .scan()
            .table_name(&self.table.name)
            .filter_expression("SK = :meta AND begins_with(PK, :sandbox)")
            .expression_attribute_values(":meta", string(SANDBOX_SORT))
            .expression_attribute_values(":sandbox", string(SANDBOX_PREFIX))
            .limit(page_size)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("Scan", error))?;
        Ok((page.items.unwrap_or_default(), page.last_evaluated_key))
    }
}
