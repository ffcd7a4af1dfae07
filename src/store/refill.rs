//! Refill: in a partition of the companion table for each pool, the state of its refill and its creations.
//!
//! The sort keys of closed creations are before all others, so that one query reads the state and the open creations,
//! and costs the same after any number of closed ones, which expire.
//!
//! Every write is one transaction under the fence of a run, and names the state of the creation that it leaves.

mod items;
mod steps;

use futures_util::TryStreamExt;

use self::items::{OPEN, partition, read_item};
pub use self::{items::RefillItems, steps::CreationStep};
use super::{
    PoolStore, StoreError,
    item::{SANDBOX_PREFIX, SANDBOX_SORT, string},
    read_sandbox,
    scan::ITEMS_PER_PAGE,
};
use crate::domain::{NamePrefix, Sandbox};

impl PoolStore {
    /// Reads the state of a pool's refill and its open creations, strongly consistent, in one query. An unreadable item
    /// does not affect the others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn refill_items(&self, prefix: &NamePrefix) -> Result<RefillItems, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table.companion)
            .limit(self.reads.page_of(ITEMS_PER_PAGE))
            .consistent_read(true)
            .key_condition_expression("PK = :pool AND SK >= :open")
            .expression_attribute_values(":pool", string(partition(prefix)))
            .expression_attribute_values(":open", string(OPEN));
        let mut items = RefillItems::default();
        let mut pages = self.reads.pages("Query", query.into_paginator().send());
        while let Some(page) = pages.try_next().await? {
            for item in page.items.unwrap_or_default() {
                read_item(&mut items, &item);
            }
        }
        Ok(items)
    }

    /// Reads every sandbox, strongly consistent: a sandbox that the pool had when the read began is on some page, in one
    /// status. Calls `visit` with the name of each, also of an unreadable item that has one, and the sandbox.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn each_sandbox(
        &self,
        mut visit: impl FnMut(&str, Option<&Sandbox>) + Send,
    ) -> Result<(), StoreError> {
        let scan = self
            .pool_scan()
            .consistent_read(true)
            .projection_expression(
                "PK, sandbox_id, #name, external_id, #status, allocated_at, inserted_at, usable_at",
            )
            .filter_expression("SK = :meta AND begins_with(PK, :sandbox)")
            .expression_attribute_names("#name", "name")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":meta", string(SANDBOX_SORT))
            .expression_attribute_values(":sandbox", string(SANDBOX_PREFIX));
        let mut pages = std::pin::pin!(self.scan_pages(scan));
        while let Some(items) = pages.try_next().await? {
            for item in &items {
                let name = item.get("name").and_then(|name| name.as_s().ok());
                let sandbox = read_sandbox(item, self.inherited_hours).ok();
                if let Some(name) = name {
                    visit(name, sandbox.as_ref());
                }
            }
        }
        Ok(())
    }
}
