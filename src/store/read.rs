//! Reads of the request path: single sandboxes and claims, available and held sandboxes.

use futures_util::{Stream, stream};

use super::{
    Listed, PoolStore, StoreError, StoredClaim, Tombstone,
    item::{self, Item, string},
    scan::read_tombstone,
};
use crate::domain::{CallerId, Candidate, IdempotencyKey, Sandbox, SandboxId, Status};

/// The size of a page of candidates. A page is decoded in one piece on a thread that serves requests; a larger one
/// would delay them.
const CANDIDATES_PER_PAGE: i32 = 500;
/// The limit of growing pages: about the 1 MB that DynamoDB reads per call.
const MAX_CANDIDATES_PER_PAGE: i32 = 4000;

/// A page of available sandboxes.
#[derive(Debug)]
pub struct AvailablePage {
    /// The sandboxes on the page.
    pub candidates: Vec<Candidate>,
    /// Whether this is the last page.
    pub is_last: bool,
}

/// The sizes of the pages of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// Small pages, which do not delay concurrent requests.
    Steady,
    /// A small first page, because requests wait for it; then each page is twice as large, so that a long scan takes
    /// fewer calls.
    Growing,
}

impl PageSize {
    fn after(self, size: i32) -> i32 {
        match self {
            Self::Steady => size,
            Self::Growing => (size * 2).min(MAX_CANDIDATES_PER_PAGE),
        }
    }
}

impl PoolStore {
    /// Reads a sandbox, strongly consistent. `None` if it does not exist or its item is unreadable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, id: &SandboxId) -> Result<Option<Sandbox>, StoreError> {
        let item = self
            .get_item(&self.table.name, item::sandbox_key(id))
            .await?;
        Ok(item.and_then(|item| self.read_or_skip(&item)))
    }

    /// Reads a sandbox, strongly consistent, also if its item is unreadable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(&self, id: &SandboxId) -> Result<Option<Listed>, StoreError> {
        let item = self
            .get_item(&self.table.name, item::sandbox_key(id))
            .await?;
        Ok(item.map(|item| self.read_listed(item)))
    }

    /// Reads the tombstone of a sandbox, strongly consistent.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_tombstone(&self, id: &SandboxId) -> Result<Option<Tombstone>, StoreError> {
        let item = self
            .get_item(&self.table.companion, item::tombstone_key(id))
            .await?;
        Ok(item.and_then(read_tombstone))
    }

    /// Reads the claim of a (caller, key) pair, strongly consistent.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_claim(
        &self,
        caller: &CallerId,
        key: &IdempotencyKey,
    ) -> Result<StoredClaim, StoreError> {
        Ok(StoredClaim::read(
            self.get_item(&self.table.companion, item::claim_key(caller, key))
                .await?,
        ))
    }

    /// Reads the available sandboxes page by page, from an index that is eventually consistent.
    pub fn available_pages(
        &self,
        page_size: PageSize,
    ) -> impl Stream<Item = Result<AvailablePage, StoreError>> + Send {
        let first = Some((CANDIDATES_PER_PAGE, None));
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
            .limit(self.reads.page_of(size))
            .projection_expression(
                "PK, sandbox_id, #name, external_id, sfdc_account_id, #status, allocated_at",
            )
            .expression_attribute_names("#name", "name")
            .set_exclusive_start_key(position)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("Query", error))?;
        let sandboxes = page
            .items
            .unwrap_or_default()
            .into_iter()
            .filter_map(|item| self.read_or_skip(&item));
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

    /// Reads the sandboxes that `caller` holds, oldest first, from an index that is eventually consistent.
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
            let item = item.map_err(|error| StoreError::from_sdk("Query", error))?;
            held.extend(self.read_or_skip(&item));
        }
        Ok(held)
    }
}
