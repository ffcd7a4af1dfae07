//! The listing of the versions of the policy.

use super::{
    super::{PoolStore, StoreError, cursor, scan::ITEMS_PER_PAGE},
    PARTITION, VERSION, key, number_in, read_version, sort_key,
};
use crate::{
    clock::UnixSeconds,
    domain::PolicyVersion,
    store::item::{Item, string},
};

/// Stands for the author of a version whose item is unreadable.
const UNKNOWN: &str = "unknown";

/// A page of the versions, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyHistory {
    /// The versions.
    pub versions: Vec<PolicyVersion>,
    /// The start of the next page; `None` at the end.
    pub next: Option<HistoryPosition>,
}

/// A position in the listing of the versions: the number of the last one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPosition(u32);

impl HistoryPosition {
    /// Decodes a cursor. Returns `None` if it does not belong to the listing of the versions.
    #[must_use]
    pub fn from_cursor(cursor: &str) -> Option<Self> {
        let (listing, number): (String, u32) = cursor::decode(cursor)?;
        (listing == PARTITION).then_some(Self(number))
    }

    /// Encodes the position as a text that is safe in a URL.
    #[must_use]
    pub fn to_cursor(self) -> String {
        cursor::encode(&(PARTITION, self.0))
    }
}

/// Reads a version for the listing, which leaves out no item with the key of a version.
pub(super) fn listed(item: Item) -> Option<PolicyVersion> {
    let number = number_in(&item)?;
    let version = read_version(&sort_key(number), item);
    Some(version.unwrap_or_else(|fault| {
        tracing::warn!(%fault, "unreadable version of the policy");
        PolicyVersion {
            number,
            author: UNKNOWN.into(),
            at: UnixSeconds(0),
            reason: None,
        }
    }))
}

impl PoolStore {
    /// Returns a page of at most `limit` versions from `start` on. Each item is read with its document, of which there
    /// are 50.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn policy_history(
        &self,
        limit: usize,
        start: Option<HistoryPosition>,
    ) -> Result<PolicyHistory, StoreError> {
        let mut versions = Vec::new();
        let mut start = start.map(|HistoryPosition(number)| key(&sort_key(number)));
        loop {
            let (items, next) = self.policy_items(limit - versions.len(), start).await?;
            versions.extend(items.into_iter().filter_map(listed));
            if next.is_none() || versions.len() >= limit {
                let next = next.as_ref().and_then(number_in).map(HistoryPosition);
                return Ok(PolicyHistory { versions, next });
            }
            start = next;
        }
    }

    /// Reads at most `limit` items of versions, without their documents, and the key after which there are more.
    async fn policy_items(
        &self,
        limit: usize,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let largest = self.reads.page_of(ITEMS_PER_PAGE);
        let _permit = self.reads.page_permit().await;
        let answer = self
            .client
            .query()
            .table_name(&self.table.companion)
            .key_condition_expression("PK = :policy AND begins_with(SK, :version)")
            .projection_expression("SK, version, author, #at, reason")
            .expression_attribute_names("#at", "at")
            .expression_attribute_values(":policy", string(PARTITION))
            .expression_attribute_values(":version", string(VERSION))
            .set_exclusive_start_key(start)
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(i32::try_from(limit).map_or(largest, |limit| limit.min(largest)))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("Query", error))?;
        Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_cursor_of_the_history_or_is_rejected(text in crate::arbitrary::text(), number: u32) {
            let position = HistoryPosition(number);
            prop_assert_eq!(HistoryPosition::from_cursor(&position.to_cursor()), Some(position));
            if let Some(position) = HistoryPosition::from_cursor(&text) {
                prop_assert_eq!(HistoryPosition::from_cursor(&position.to_cursor()), Some(position));
            }
        }
    }
}
