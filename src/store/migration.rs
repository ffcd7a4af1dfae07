//! The schema version, and the migration of tables that the FastAPI service or an earlier build of this broker wrote.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    AllocationRef, CONFLICT_ATTEMPTS, PoolStore, StoreError, StoredClaim, conflict_pause,
    error::{is_conflict, is_failed_condition},
    item::{self, Item, number, schema_key, string},
};
use crate::{
    clock::UnixSeconds,
    domain::{CallerId, Holder, IdempotencyKey, LeaseTerms, Sandbox, SandboxId, Status},
};

/// The version of the layout of the tables that this broker writes. In version 1 all items were in the pool's table.
pub const SCHEMA_VERSION: u32 = 2;

const CLAIM_CONCURRENCY: usize = 16;

/// The warning about the duration of inherited allocations where `LAB_DURATION_HOURS` is not set.
pub const ASSUMED_DURATION: &str =
    "LAB_DURATION_HOURS is not set: allocations of the FastAPI service last for its default";

/// The result of `table migrate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Migration {
    /// The number of allocated sandboxes.
    pub allocated: usize,
    /// The number of claims written for them. The others had a claim already.
    pub claims_written: usize,
    /// The number of items of an earlier layout that were moved to the companion table or converted.
    pub moved: usize,
    /// The number of allocated sandboxes without a claim because the same (caller, key) pair holds a newer one.
    pub duplicates: usize,
    /// The number of allocated sandboxes that the FastAPI service allocated.
    pub inherited: usize,
    /// The number of items that are no valid sandboxes. They are left as they are.
    pub unreadable: usize,
}

/// The holders of allocated sandboxes. A pair has one sandbox: the newest, if the FastAPI service allocated several.
#[derive(Debug, Default)]
pub struct Holders {
    newest: HashMap<(CallerId, IdempotencyKey), (Holder, Sandbox)>,
    sandboxes: usize,
}

impl Holders {
    /// Adds the holder of `sandbox`, if it is allocated and its item names one.
    pub fn add(&mut self, sandbox: Sandbox) {
        let is_allocated = sandbox.status == Status::Allocated;
        let Some(holder) = sandbox.holder.clone().filter(|_| is_allocated) else {
            return;
        };
        self.sandboxes += 1;
        let pair = (holder.caller.clone(), holder.key.clone());
        let is_newest = self
            .newest
            .get(&pair)
            .is_none_or(|(_, other)| other.allocated_at < sandbox.allocated_at);
        if is_newest {
            self.newest.insert(pair, (holder, sandbox));
        }
    }

    fn duplicates(&self) -> usize {
        self.sandboxes - self.newest.len()
    }
}

impl PoolStore {
    /// Reads the version in the schema item; `None` if there is no such item. As the cheapest possible read, it also
    /// serves as the check that the database is available.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn schema_version(&self) -> Result<Option<u32>, StoreError> {
        self.schema_version_in(&self.table.companion).await
    }

    pub(super) async fn schema_version_in(&self, table: &str) -> Result<Option<u32>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(table)
            .set_key(Some(schema_key()))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("GetItem", error))?;
        let Some(item) = answer.item else {
            return Ok(None);
        };
        let version = item
            .get("version")
            .and_then(|version| version.as_n().ok())
            .and_then(|text| text.parse().ok());
        version.map(Some).ok_or_else(|| {
            StoreError::unexpected("GetItem", "the schema item has no valid version")
        })
    }

    /// Moves the items that an earlier build of this broker wrote to the pool's table, writes a claim for every
    /// allocated sandbox that lacks one, so that a retry of its holder is answered with it, and then writes the schema
    /// item. It may run again at any time, also concurrently with allocations: it never overwrites a claim whose
    /// sandbox is still held.
    ///
    /// # Errors
    /// [`StoreError`]. Written claims remain, and another run continues.
    pub async fn migrate(
        &self,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Migration, StoreError> {
        let moved = self.move_earlier_items(now).await?;
        let (mut holders, mut inherited, mut unreadable) = (Holders::default(), 0, 0);
        let mut pages = self.sandbox_pages();
        while let Some(page) = pages.next().await {
            let page = page?;
            unreadable += page.unreadable.len();
            for sandbox in page.sandboxes {
                let is_allocated = sandbox.status == Status::Allocated;
                inherited += usize::from(is_allocated && sandbox.is_inherited);
                holders.add(sandbox);
            }
        }
        self.record_unreadable(unreadable, now).await?;
        if inherited > 0 && terms.is_inherited_duration_assumed() {
            let hours = terms.inherited_hours;
            tracing::warn!(inherited, hours, "{ASSUMED_DURATION}");
        }
        let (allocated, duplicates) = (holders.sandboxes, holders.duplicates());
        let claims_written = self.write_missing_claims(holders, terms).await?;
        self.put_schema(&self.table.companion, schema_key(), now)
            .await?;
        Ok(Migration {
            allocated,
            claims_written,
            moved,
            duplicates,
            inherited,
            unreadable,
        })
    }

    /// Writes the claims that `holders` lack, as [`migrate`](Self::migrate) does. Returns their number.
    ///
    /// # Errors
    /// [`StoreError`]. Written claims remain.
    pub async fn write_missing_claims(
        &self,
        holders: Holders,
        terms: LeaseTerms,
    ) -> Result<usize, StoreError> {
        stream::iter(holders.newest.into_values())
            .map(|(holder, sandbox)| async move {
                self.put_missing_claim(&sandbox, &holder, terms).await
            })
            .buffer_unordered(CLAIM_CONCURRENCY)
            .try_fold(0, async |written, new| Ok(written + usize::from(new)))
            .await
    }

    /// Writes the claim of an allocation, unless the pair has a claim for a sandbox that it still holds. A claim for a
    /// released sandbox is replaced: the pair may have released that one through a broker, and then have been allocated
    /// this one by the FastAPI service.
    async fn put_missing_claim(
        &self,
        sandbox: &Sandbox,
        holder: &Holder,
        terms: LeaseTerms,
    ) -> Result<bool, StoreError> {
        let end = sandbox.expires_at.unwrap_or(sandbox.allocated_at) + terms.grace;
        let item = item::claim_item(sandbox.id(), holder, sandbox.allocated_at, end);
        if self.put_new_companion_item(item.clone()).await? {
            return Ok(true);
        }
        let StoredClaim::Readable(target) = self.find_claim(&holder.caller, &holder.key).await?
        else {
            return Ok(false);
        };
        if self.is_held(&target, holder).await? {
            return Ok(false);
        }
        let replacement = self
            .put_companion_item(item)
            .condition_expression("sandbox_id = :sandbox AND allocated_at = :allocated_at")
            .expression_attribute_values(":sandbox", string(target.sandbox_id))
            .expression_attribute_values(":allocated_at", number(target.allocated_at));
        self.put_if(replacement).await
    }

    async fn is_held(&self, target: &AllocationRef, holder: &Holder) -> Result<bool, StoreError> {
        let id = SandboxId::stored(target.sandbox_id.as_str());
        let sandbox = self.get(&id).await?;
        Ok(sandbox.is_some_and(|sandbox| {
            sandbox.status == Status::Allocated
                && sandbox.allocated_at.0 == target.allocated_at
                && sandbox.is_held_by(&holder.caller, &holder.key)
        }))
    }

    /// Inserts an item into the companion table, unless there is one with its key. Returns whether it was inserted.
    pub(super) async fn put_new_companion_item(&self, item: Item) -> Result<bool, StoreError> {
        let put = self.put_companion_item(item);
        self.put_if(put.condition_expression("attribute_not_exists(PK)"))
            .await
    }

    /// Sends a conditional put. Returns whether its condition held. An allocation may be writing the same claim, so a
    /// put that conflicts with a transaction is retried.
    async fn put_if(&self, put: PutItemFluentBuilder) -> Result<bool, StoreError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match put.clone().send().await {
                Ok(_) => return Ok(true),
                Err(error) if is_failed_condition(&error) => return Ok(false),
                Err(error) if is_conflict(&error) && attempt < CONFLICT_ATTEMPTS => {
                    tokio::time::sleep(conflict_pause(attempt)).await;
                }
                Err(error) => return Err(StoreError::from_sdk("PutItem", error)),
            }
        }
    }

    /// Writes a schema item with the version of this broker.
    pub(super) async fn put_schema(
        &self,
        table: &str,
        mut item: Item,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        item.insert("version".to_owned(), number(SCHEMA_VERSION));
        item.insert("updated_at".to_owned(), number(now.0));
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(item))
            .send()
            .await
            .map(drop)
            .map_err(|error| StoreError::from_sdk("PutItem", error))
    }
}
