//! Pauses: one item of the companion table for all processes, with one attribute for each activity that is paused.
//!
//! Each attribute is read, and changed, on its own: one that is unreadable does not undo the others, and an attribute
//! of an activity that only a newer broker knows stays as it is.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use serde::{Deserialize, Serialize};

use super::{
    PoolStore, StoreError,
    item::{self, Item},
    transaction::{OPERATION, Transaction},
};
use crate::{
    clock::UnixSeconds,
    domain::{Activity, AuditRecord, Pause, Pauses, Reason},
};

/// The item as read. A change of a pause requires that its attribute is still the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredPauses(Item);

/// The attribute of one activity.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    reason: Reason,
    author: Arc<str>,
    since: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<UnixSeconds>,
}

impl StoredPauses {
    /// Returns the pauses. An attribute that is present but unreadable is a pause without an end: to go on with an
    /// activity that an operator has stopped can do harm, and a pause is visible and ended in one request.
    #[must_use]
    pub fn pauses(&self) -> Pauses {
        let of_activity = |activity: Activity| {
            let attribute = self.0.get(activity.as_str())?;
            Some(read(activity, attribute.clone()))
        };
        Activity::ALL.into_iter().filter_map(of_activity).collect()
    }
}

fn read(activity: Activity, attribute: AttributeValue) -> Pause {
    match serde_dynamo::aws_sdk_dynamodb_1::from_attribute_value::<Row>(attribute) {
        Ok(row) => Pause {
            activity,
            reason: row.reason,
            author: row.author,
            since: row.since,
            until: row.until,
        },
        Err(fault) => {
            tracing::error!(activity = activity.as_str(), %fault, "unreadable pause counts as paused");
            Pause {
                activity,
                reason: unreadable(),
                author: "unknown".into(),
                since: UnixSeconds(0),
                until: None,
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "the text is a constant")]
fn unreadable() -> Reason {
    Reason::parse("the stored pause is unreadable; set it again, or end it")
        .expect("the text is a valid reason")
}

fn key() -> Item {
    item::key("CONTROL".to_owned(), "PAUSES")
}

impl PoolStore {
    /// Reads the pauses, strongly consistent. The read takes no slot: it must not wait behind a burst of allocations
    /// that the pause is to stop.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pauses(&self) -> Result<StoredPauses, StoreError> {
        let item = self.get_at_once(&self.table.companion, key()).await?;
        Ok(StoredPauses(item.unwrap_or_default()))
    }

    /// Replaces the pause of an activity by `after`, or removes it, in one transaction with its audit record, if it is
    /// still as in `read`. Returns whether it was changed; if not, another request has changed it.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the pause was changed is then unknown.
    pub async fn change_pause(
        &self,
        read: &StoredPauses,
        activity: Activity,
        after: Option<&Pause>,
        record: &AuditRecord,
    ) -> Result<bool, StoreError> {
        let update = Update::builder()
            .table_name(&self.table.companion)
            .set_key(Some(key()))
            .expression_attribute_names("#activity", activity.as_str());
        let update = match read.0.get(activity.as_str()) {
            Some(before) => update
                .condition_expression("#activity = :before")
                .expression_attribute_values(":before", before.clone()),
            None => update.condition_expression("attribute_not_exists(#activity)"),
        };
        let update = match after {
            Some(pause) => update
                .update_expression("SET #activity = :after")
                .expression_attribute_values(":after", attribute(pause)?),
            None => update.update_expression("REMOVE #activity"),
        };
        let update = update
            .build()
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let mut actions = vec![TransactWriteItem::builder().update(update).build()];
        actions.extend(self.audit_actions(record)?);
        Ok(matches!(self.transact(actions).await?, Transaction::Done))
    }
}

fn attribute(pause: &Pause) -> Result<AttributeValue, StoreError> {
    let row = Row {
        reason: pause.reason.clone(),
        author: Arc::clone(&pause.author),
        since: pause.since,
        until: pause.until,
    };
    serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(row)
        .map_err(|fault| StoreError::unexpected(OPERATION, fault))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary;

    const NOW: UnixSeconds = UnixSeconds(1_774_000_000);

    fn pause(activity: Activity, until: Option<UnixSeconds>) -> Pause {
        Pause {
            activity,
            reason: Reason::parse("CSP is being repaired").unwrap(),
            author: "alice".into(),
            since: NOW,
            until,
        }
    }

    fn stored(pauses: &[Pause]) -> StoredPauses {
        let attributes = pauses
            .iter()
            .map(|pause| (pause.activity.to_string(), attribute(pause).unwrap()));
        StoredPauses(key().into_iter().chain(attributes).collect())
    }

    #[test]
    fn pauses_read_back() {
        let pauses = [
            pause(Activity::Deletions, None),
            pause(Activity::Sync, Some(UnixSeconds(NOW.0 + 60))),
        ];
        let read = stored(&pauses).pauses();
        assert!(read.in_force(NOW).eq(&pauses));
        assert_eq!(StoredPauses::default().pauses(), Pauses::default());
    }

    #[test]
    fn attribute_of_an_unknown_activity_is_ignored() {
        let mut stored = stored(&[]);
        let attribute = AttributeValue::S("later".to_owned());
        stored.0.insert("replacements".to_owned(), attribute);
        assert_eq!(stored.pauses(), Pauses::default());
    }

    proptest! {
        #[test]
        fn unreadable_pause_counts_as_paused_and_leaves_the_others(value in arbitrary::attribute()) {
            let mut stored = stored(&[pause(Activity::Sync, Some(UnixSeconds(NOW.0 + 60)))]);
            stored.0.insert("deletions".to_owned(), value);
            let pauses = stored.pauses();
            let of = |activity| pauses.of(activity, NOW);
            prop_assert!(of(Activity::Deletions).is_some());
            prop_assert_eq!(of(Activity::Sync).unwrap().author.as_ref(), "alice");
            prop_assert!(of(Activity::Allocations).is_none());
        }

        #[test]
        fn any_item_is_readable(item in arbitrary::corrupted(stored(&[pause(Activity::Expiry, None)]).0)) {
            let is_present = item.contains_key("expiry");
            let pauses = StoredPauses(item).pauses();
            prop_assert_eq!(pauses.of(Activity::Expiry, NOW).is_some(), is_present);
        }
    }
}
