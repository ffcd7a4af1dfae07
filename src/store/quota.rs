//! Quotas of labs: the slots of a lab, each an item that points to the allocation that has taken it.
//!
//! An allocation of a lab with a quota takes a slot in its transaction, and a replacement keeps the slot. No write ends the
//! use of a slot: it is free again once the allocation that it points to has ended, however that happened. A sandbox is
//! allocated only once, so an allocation that has ended never goes on, and what was read about it stays true.
//!
//! The items have no TTL: the end of an allocation can move. A lab has at most as many as it has held sandboxes at once,
//! and some more, because numbers are reused.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure},
};

use super::{
    AllocationRef, PoolStore, StoreError,
    item::{self, Item, integer, number, string},
    scan::ITEMS_PER_PAGE,
};
use crate::{
    clock::UnixSeconds,
    domain::{Holder, LabId, SandboxId, Status},
};

const OPERATION: &str = "BatchGetItem";
/// The maximum number of items that DynamoDB reads in one call.
const ITEMS_PER_BATCH: i32 = 100;
/// How often the keys that a call has left out are read again.
const ATTEMPTS: u32 = 6;
/// Half of the pause before the first repetition; the pauses double.
const PAUSE: Duration = Duration::from_millis(10);

/// The slot that an allocation takes.
#[derive(Clone, Copy, Debug)]
pub struct QuotaSlot<'a> {
    /// The lab.
    pub lab: &'a LabId,
    /// The number of the slot.
    pub number: u32,
    /// The ended allocation to which the slot still points, as read; `None` if the slot has no item.
    pub leftover: Option<&'a AllocationRef>,
}

/// The item of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredSlot {
    /// The allocation that has taken the slot.
    Taken(AllocationRef),
    /// An item that points to no allocation. The slot counts as taken, because its allocation may go on.
    Unreadable,
}

impl StoredSlot {
    /// Converts the item of a slot. An unreadable one is logged.
    pub(super) fn read(item: Item) -> Self {
        let (key, sort) = (item::partition_of(&item).cloned(), sort_of(&item).cloned());
        serde_dynamo::aws_sdk_dynamodb_1::from_item(item).map_or_else(
            |fault| {
                tracing::error!(
                    key, sort, %fault,
                    "unreadable slot of a quota counts as taken; remove its item to free it"
                );
                Self::Unreadable
            },
            Self::Taken,
        )
    }
}

fn partition(lab: &LabId) -> String {
    format!("QUOTA#{lab}")
}

fn sort_of(item: &Item) -> Option<&String> {
    item.get("SK")?.as_s().ok()
}

/// Returns the number of a slot from the key of its item.
fn number_of(item: &Item) -> Option<u32> {
    sort_of(item)?.strip_prefix("SLOT#")?.parse().ok()
}

impl QuotaSlot<'_> {
    /// Returns the write that takes the slot for an allocation of `sandbox` to `holder`.
    pub(super) fn take(
        self,
        table: &str,
        sandbox: &SandboxId,
        holder: &Holder,
        at: UnixSeconds,
    ) -> Result<Put, BuildError> {
        let mut item = item::key(partition(self.lab), &format!("SLOT#{}", self.number));
        item.extend([
            ("sandbox_id".to_owned(), string(sandbox.as_str())),
            ("allocated_at".to_owned(), number(at.0)),
            ("caller".to_owned(), string(holder.caller.as_str())),
        ]);
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match self.leftover {
            None => put.condition_expression("attribute_not_exists(PK)"),
            Some(ended) => put
                .condition_expression("sandbox_id = :ended AND allocated_at = :start")
                .expression_attribute_values(":ended", string(&ended.sandbox_id))
                .expression_attribute_values(":start", number(ended.allocated_at)),
        }
        .build()
    }
}

/// The state of the allocations to which slots point.
#[derive(Debug, Default)]
pub struct AllocationStates {
    /// The allocated sandboxes with the start of their allocation.
    allocated: HashMap<String, i64>,
    /// The sandboxes of allocations that may go on: their items do not say it, or the holder has another sandbox now, to
    /// which the slot has moved on in the transaction of the replacement, after it was read.
    unclear: HashSet<String>,
}

impl AllocationStates {
    /// Returns whether an allocation has ended.
    #[must_use]
    pub fn has_ended(&self, allocation: &AllocationRef) -> bool {
        let id = &allocation.sandbox_id;
        !self.unclear.contains(id) && self.allocated.get(id) != Some(&allocation.allocated_at)
    }

    /// Returns the state of a pool in which these allocations go on, and no others.
    #[cfg(test)]
    pub(crate) fn only<'a>(allocations: impl IntoIterator<Item = &'a AllocationRef>) -> Self {
        let allocated = allocations.into_iter();
        Self {
            allocated: allocated
                .map(|allocation| (allocation.sandbox_id.clone(), allocation.allocated_at))
                .collect(),
            unclear: HashSet::new(),
        }
    }

    fn add(&mut self, item: &Item) {
        let Some(id) =
            item::partition_of(item).and_then(|key| key.strip_prefix(item::SANDBOX_PREFIX))
        else {
            return;
        };
        let status = item.get("status").and_then(|status| status.as_s().ok());
        match (
            status.map(|status| status.parse()),
            integer(Some(item), "allocated_at"),
        ) {
            (Some(Ok(Status::Allocated)), Some(start)) => {
                self.allocated.insert(id.to_owned(), start);
            }
            (Some(Ok(status)), _)
                if status != Status::Allocated && !item.contains_key("replaced_by") => {}
            _ => {
                self.unclear.insert(id.to_owned());
            }
        }
    }
}

impl PoolStore {
    /// Reads the slots of a lab by number, strongly consistent. Slots that were never taken have no item.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quota_slots(&self, lab: &LabId) -> Result<BTreeMap<u32, StoredSlot>, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table.companion)
            .limit(self.reads.page_of(ITEMS_PER_PAGE))
            .consistent_read(true)
            .key_condition_expression("PK = :lab")
            .expression_attribute_values(":lab", string(partition(lab)));
        let slots = self.collect(query, |item| {
            let Some(number) = number_of(&item) else {
                tracing::error!(%lab, sort = sort_of(&item), "item of a quota without a number ignored");
                return None;
            };
            Some((number, StoredSlot::read(item)))
        });
        Ok(slots.await?.into_iter().collect())
    }

    /// Reads the sandboxes of allocations to which slots point, strongly consistent, in batches.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn allocation_states<'a>(
        &self,
        allocations: impl IntoIterator<Item = &'a AllocationRef>,
    ) -> Result<AllocationStates, StoreError> {
        // A call must not name a key twice.
        let ids: HashSet<&str> = allocations
            .into_iter()
            .map(|allocation| allocation.sandbox_id.as_str())
            .collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let mut states = AllocationStates::default();
        let batch = usize::try_from(self.reads.page_of(ITEMS_PER_BATCH)).unwrap_or(1);
        for ids in ids.chunks(batch) {
            let keys = ids
                .iter()
                .map(|id| item::sandbox_key(&SandboxId::stored(*id)));
            for item in self.read_batch(keys.collect()).await? {
                states.add(&item);
            }
        }
        Ok(states)
    }

    /// Reads the attributes that decide whether sandboxes are allocated. DynamoDB may leave out some keys of a call, which are then
    /// read again.
    async fn read_batch(&self, keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        let (mut keys, mut items) = (keys, Vec::new());
        for attempt in 1..=ATTEMPTS {
            let batch = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(true)
                .projection_expression("PK, #status, allocated_at, replaced_by")
                .expression_attribute_names("#status", "status")
                .build()
                .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
            let answer = {
                let _permit = self.reads.page_permit().await;
                let call = self
                    .client
                    .batch_get_item()
                    .request_items(&self.table.name, batch);
                Box::pin(call.send())
                    .await
                    .map_err(|error| StoreError::from_sdk(OPERATION, error))?
            };
            let found = answer.responses.unwrap_or_default().into_values();
            items.extend(found.flatten());
            let left_out = answer.unprocessed_keys.unwrap_or_default();
            keys = left_out
                .into_values()
                .flat_map(|batch| batch.keys)
                .collect();
            if keys.is_empty() {
                return Ok(items);
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
        }
        Err(StoreError::unavailable(
            OPERATION,
            "the database is throttling: it left out keys of every call",
        ))
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::corrupted,
        domain::{CallerId, IdempotencyKey},
    };

    const START: i64 = 1_774_000_000;

    fn allocation() -> AllocationRef {
        AllocationRef {
            sandbox_id: "2847".to_owned(),
            allocated_at: START,
        }
    }

    fn slot_item() -> Item {
        let lab = LabId::parse("cloud-101").unwrap();
        let slot = QuotaSlot {
            lab: &lab,
            number: 7,
            leftover: None,
        };
        let holder = Holder {
            caller: CallerId::parse("play").unwrap(),
            key: IdempotencyKey::parse("play").unwrap(),
            lab: Some(lab.clone()),
        };
        let sandbox = SandboxId::parse("2847").unwrap();
        let put = slot.take("table", &sandbox, &holder, UnixSeconds(START));
        put.unwrap().item
    }

    fn sandbox(status: &str, allocated_at: i64) -> Item {
        let mut item = item::sandbox_key(&SandboxId::parse("2847").unwrap());
        item.insert("status".to_owned(), string(status));
        item.insert("allocated_at".to_owned(), number(allocated_at));
        item
    }

    fn has_ended(items: &[Item]) -> bool {
        let mut states = AllocationStates::default();
        for item in items {
            states.add(item);
        }
        states.has_ended(&allocation())
    }

    #[test]
    fn slot_reads_back() {
        let item = slot_item();
        assert_eq!(number_of(&item), Some(7));
        assert_eq!(StoredSlot::read(item), StoredSlot::Taken(allocation()));
    }

    #[test]
    fn allocation_has_ended_when_its_sandbox_is_gone_or_in_another_state() {
        assert!(has_ended(&[]));
        for status in Status::ALL {
            let ended = has_ended(&[sandbox(status.as_str(), START)]);
            assert_eq!(ended, status != Status::Allocated, "{status}");
        }
        assert!(has_ended(&[sandbox("allocated", START + 1)]));
    }

    #[test]
    fn slot_of_a_replaced_sandbox_has_moved_on() {
        for status in [Status::PendingDeletion, Status::Quarantined] {
            let mut item = sandbox(status.as_str(), START);
            item.insert("replaced_by".to_owned(), string("2848"));
            assert!(!has_ended(&[item]), "{status}");
        }
    }

    #[test]
    fn allocation_goes_on_while_its_item_does_not_say_that_it_has_ended() {
        assert!(!has_ended(&[sandbox("provisional", START)]));
        for attribute in ["status", "allocated_at"] {
            let mut item = sandbox("allocated", START);
            item.remove(attribute);
            assert!(!has_ended(&[item]), "{attribute}");
        }
    }

    proptest! {
        #[test]
        fn any_item_is_a_valid_slot_or_unreadable(item in corrupted(slot_item())) {
            let points_to_one = item.get("sandbox_id").is_some_and(AttributeValue::is_s)
                && item.get("allocated_at").and_then(|at| at.as_n().ok()).is_some_and(|at| at.parse::<i64>().is_ok());
            prop_assert_eq!(matches!(StoredSlot::read(item), StoredSlot::Taken(_)), points_to_one);
        }

        #[test]
        fn damaged_sandbox_ends_its_allocation_only_if_its_item_says_so(item in corrupted(sandbox("allocated", START))) {
            let status = item.get("status").and_then(|status| status.as_s().ok()).and_then(|status| status.parse().ok());
            let start = integer(Some(&item), "allocated_at");
            let is_same_item = item::partition_of(&item).is_some_and(|key| key == "SBX#2847");
            let ended = has_ended(std::slice::from_ref(&item));
            if is_same_item && ended {
                prop_assert!(status.is_some_and(|status: Status| status != Status::Allocated || start.is_some_and(|start| start != START)));
            }
        }
    }
}
