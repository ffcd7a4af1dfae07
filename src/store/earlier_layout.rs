//! The layout of schema version 1, in which the pool's table had all items.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    PoolStore, StoreError,
    item::{self, Item, SANDBOX_PREFIX, schema_key, string, tombstone_key},
    migration::SCHEMA_VERSION,
};
use crate::{clock::UnixSeconds, domain::SandboxId};

const CONCURRENCY: usize = 16;

/// The effect of the migration on an item of the pool's table.
enum Fate {
    /// It moves to the companion table, as this item.
    Moves(Item),
    /// It stays in the pool's table, as this item.
    Changes(Item),
    /// It stays as it is.
    Stays,
}

impl PoolStore {
    /// Returns whether the pool's table has the earlier layout, which brokers of earlier builds may still be using.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_earlier_layout(&self) -> Result<bool, StoreError> {
        let version = self.schema_version_in(&self.table.name).await?;
        Ok(version.is_some_and(|version| version < SCHEMA_VERSION))
    }

    /// Moves the items of the earlier layout to the companion table, or converts them. Returns their number. If it is
    /// interrupted, the next call continues: an item is written before it is deleted, and newer ones are not
    /// overwritten.
    pub(super) async fn move_earlier_items(&self, now: UnixSeconds) -> Result<usize, StoreError> {
        // First, so that no broker of an earlier build starts from now on.
        if self.has_earlier_layout().await? {
            self.put_schema(&self.table.name, earlier_schema(), now)
                .await?;
        }
        let scan = self
            .pool_scan()
            .consistent_read(true)
            .filter_expression("NOT begins_with(PK, :sandbox)")
            .expression_attribute_values(":sandbox", string(SANDBOX_PREFIX));
        let mut pages = std::pin::pin!(self.scan_pages(scan));
        let mut moved = 0;
        while let Some(items) = pages.try_next().await? {
            moved += stream::iter(items)
                .map(|item| self.move_earlier_item(item))
                .buffer_unordered(CONCURRENCY)
                .try_fold(0, async |moved, is_moved| Ok(moved + usize::from(is_moved)))
                .await?;
        }
        Ok(moved)
    }

    /// Moves or converts one item. Returns whether it was of the earlier layout.
    async fn move_earlier_item(&self, item: Item) -> Result<bool, StoreError> {
        match fate(&item) {
            Fate::Moves(to) => {
                self.put_new_companion_item(to).await?;
                let key = item
                    .into_iter()
                    .filter(|(name, _)| matches!(name.as_str(), "PK" | "SK"));
                self.client
                    .delete_item()
                    .table_name(&self.table.name)
                    .set_key(Some(key.collect()))
                    .send()
                    .await
                    .map_err(|error| StoreError::from_sdk("DeleteItem", error))?;
                Ok(true)
            }
            Fate::Changes(to) => {
                self.client
                    .put_item()
                    .table_name(&self.table.name)
                    .set_item(Some(to))
                    .send()
                    .await
                    .map_err(|error| StoreError::from_sdk("PutItem", error))?;
                Ok(true)
            }
            Fate::Stays => Ok(false),
        }
    }
}

/// Returns the schema item for the pool's table. Brokers of earlier builds refuse to start on its version, and the
/// FastAPI service reads it as a deleted sandbox.
fn earlier_schema() -> Item {
    let mut item = schema_key();
    item.extend(item::as_sandbox("SCHEMA", "sandbox-broker", "SCHEMA"));
    item
}

fn fate(item: &Item) -> Fate {
    let Some(partition) = item::partition_of(item) else {
        return Fate::Stays;
    };
    match partition.split_once('#').unwrap_or((partition, "")) {
        ("CLAIM" | "JOB" | "SAMPLES", _) => Fate::Moves(item.clone()),
        ("GONE", id) => {
            let mut tombstone = item.clone();
            tombstone.extend(tombstone_key(&SandboxId::stored(id)));
            Fate::Moves(tombstone)
        }
        ("NIOSXAAS", _) => {
            item::upgraded_niosxaas_record(item.clone()).map_or(Fate::Stays, Fate::Changes)
        }
        _ => Fate::Stays,
    }
}
