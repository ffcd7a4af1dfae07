//! The policy: one small item that names the version in force, which every process polls, and an item with the document
//! for each of the last [`POLICY_VERSIONS`] versions.

mod history;

use std::sync::Arc;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{Delete, Put, TransactWriteItem},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use self::history::{HistoryPosition, PolicyHistory};
use super::{
    PoolStore, StoreError, change,
    item::{self, Item, number, string},
    transaction::{OPERATION, Transaction},
};
use crate::{
    clock::UnixSeconds,
    domain::{AuditRecord, POLICY_VERSIONS, PolicyDocument, PolicyFaults, PolicyVersion, Reason},
};

const PARTITION: &str = "POLICY";
const CURRENT: &str = "CURRENT";
/// The beginning of the sort keys of versions.
const VERSION: &str = "V#";

/// A version of the policy with its document.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPolicy {
    /// The version.
    pub version: PolicyVersion,
    /// The document.
    pub document: PolicyDocument,
}

/// The reason why the policy could not be read.
#[derive(Debug, Error)]
pub enum PolicyReadError {
    /// An item was edited or removed, or was written by a version of the broker that this one does not understand.
    #[error("the item {PARTITION} / {key} {fault}")]
    Unreadable {
        /// The sort key of the item.
        key: String,
        /// Its fault.
        fault: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PolicyReadError {
    /// The error if no version is in force although there was one.
    #[must_use]
    pub fn no_version_in_force() -> Self {
        unreadable(CURRENT, "is missing")
    }

    /// The error if the version in force has no item.
    #[must_use]
    pub fn no_document(number: u32) -> Self {
        unreadable(&sort_key(number), "is missing")
    }
}

/// The attributes of a version, in its own item and in that of the version in force.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    version: u32,
    author: Arc<str>,
    at: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

impl From<&PolicyVersion> for Row {
    fn from(version: &PolicyVersion) -> Self {
        Self {
            version: version.number,
            author: Arc::clone(&version.author),
            at: version.at,
            reason: version.reason.clone(),
        }
    }
}

impl From<Row> for PolicyVersion {
    fn from(row: Row) -> Self {
        Self {
            number: row.version,
            author: row.author,
            at: row.at,
            reason: row.reason,
        }
    }
}

fn key(sort: &str) -> Item {
    item::key(PARTITION.to_owned(), sort)
}

/// Returns the sort key of a version. Its digits are as many for each, so that keys sort as numbers.
fn sort_key(number: u32) -> String {
    format!("{VERSION}{number:010}")
}

/// Returns the number in the key of a version.
fn number_in(key: &Item) -> Option<u32> {
    let sort = key.get("SK")?.as_s().ok()?;
    sort.strip_prefix(VERSION)?.parse().ok()
}

fn version_item(version: &PolicyVersion, sort: &str) -> Result<Item, serde_dynamo::Error> {
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(Row::from(version))?;
    item.extend(key(sort));
    Ok(item)
}

fn read_version(sort: &str, item: Item) -> Result<PolicyVersion, PolicyReadError> {
    let row: Row = serde_dynamo::aws_sdk_dynamodb_1::from_item(item)
        .map_err(|fault| unreadable(sort, format!("is unreadable: {fault}")))?;
    if row.version == 0 {
        return Err(unreadable(sort, "is unreadable: its version is 0"));
    }
    Ok(row.into())
}

fn read_policy(number: u32, item: Item) -> Result<StoredPolicy, PolicyReadError> {
    let sort = sort_key(number);
    let text = item.get("document").and_then(|text| text.as_s().ok());
    let text = text.ok_or_else(|| unreadable(&sort, "has no document"))?;
    let value: Value = serde_json::from_str(text)
        .map_err(|fault| unreadable(&sort, format!("is unreadable: {fault}")))?;
    let document =
        PolicyDocument::stored(&value).map_err(|faults| unreadable(&sort, described(&faults)))?;
    let version = read_version(&sort, item)?;
    if version.number != number {
        let fault = format!("is unreadable: its version is {}", version.number);
        return Err(unreadable(&sort, fault));
    }
    Ok(StoredPolicy { version, document })
}

/// Returns the first fault of a stored document, and the number of the others.
fn described(faults: &PolicyFaults) -> String {
    let first = faults.faults.first();
    let first = first.map(ToString::to_string).unwrap_or_default();
    match faults.count() {
        0 | 1 => format!("is unreadable: {first}"),
        count => format!("is unreadable: {first}; {} more", count - 1),
    }
}

fn unreadable(sort: &str, fault: impl Into<String>) -> PolicyReadError {
    PolicyReadError::Unreadable {
        key: sort.to_owned(),
        fault: fault.into(),
    }
}

impl PoolStore {
    /// Reads which version of the policy is in force, strongly consistent; `None` if there is none. The read takes no
    /// slot, as that of the pauses.
    ///
    /// # Errors
    /// [`PolicyReadError`].
    pub async fn policy_in_force(&self) -> Result<Option<PolicyVersion>, PolicyReadError> {
        let item = self.get_at_once(&self.table.companion, key(CURRENT));
        let item = item.await?;
        item.map(|item| read_version(CURRENT, item)).transpose()
    }

    /// Reads a version of the policy, strongly consistent; `None` if it is not, or no longer, there.
    ///
    /// # Errors
    /// [`PolicyReadError`].
    pub async fn policy(&self, number: u32) -> Result<Option<StoredPolicy>, PolicyReadError> {
        let item = self.get_at_once(&self.table.companion, key(&sort_key(number)));
        let item = item.await?;
        item.map(|item| read_policy(number, item)).transpose()
    }

    /// Puts a version of the policy in force in place of `before`, in one transaction with its audit record, if that is
    /// still in force. Removes the version that is no longer retained. Returns whether the policy was changed; if not,
    /// another request has changed it.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the policy was changed is then unknown.
    pub async fn change_policy(
        &self,
        before: Option<&PolicyVersion>,
        after: &StoredPolicy,
        record: &AuditRecord,
    ) -> Result<bool, StoreError> {
        let mut actions = self
            .policy_actions(before, after)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        actions.extend(self.audit_actions(record)?);
        Ok(matches!(self.transact(actions).await?, Transaction::Done))
    }

    fn policy_actions(
        &self,
        before: Option<&PolicyVersion>,
        after: &StoredPolicy,
    ) -> Result<Vec<TransactWriteItem>, Box<dyn std::error::Error + Send + Sync>> {
        let StoredPolicy { version, document } = after;
        let sort = sort_key(version.number);
        let mut item = version_item(version, &sort)?;
        let document = serde_json::to_string(document)?;
        item.insert("document".to_owned(), string(document));
        let current = self.put_current(before, version_item(version, CURRENT)?)?;
        let mut actions = vec![current, change::put(&self.table.companion, item)?];
        if let Some(oldest @ 1..) = version.number.checked_sub(POLICY_VERSIONS) {
            let delete = Delete::builder()
                .table_name(&self.table.companion)
                .set_key(Some(key(&sort_key(oldest))));
            let delete = TransactWriteItem::builder().delete(delete.build()?);
            actions.push(delete.build());
        }
        Ok(actions)
    }

    /// Replaces the item of the version in force, if it is still that of `before`.
    fn put_current(
        &self,
        before: Option<&PolicyVersion>,
        item: Item,
    ) -> Result<TransactWriteItem, BuildError> {
        let put = Put::builder()
            .table_name(&self.table.companion)
            .set_item(Some(item));
        let put = match before {
            Some(before) => put
                .condition_expression("version = :before")
                .expression_attribute_values(":before", number(before.number)),
            None => put.condition_expression("attribute_not_exists(PK)"),
        };
        Ok(TransactWriteItem::builder().put(put.build()?).build())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{history::listed, *};
    use crate::arbitrary::corrupted;

    fn version() -> PolicyVersion {
        PolicyVersion {
            number: 7,
            author: "alice".into(),
            at: UnixSeconds(1_774_000_000),
            reason: Some(Reason::parse("more time for lab 7").unwrap()),
        }
    }

    fn item() -> Item {
        let mut item = version_item(&version(), &sort_key(7)).unwrap();
        item.insert("document".to_owned(), string("{}"));
        item
    }

    #[test]
    fn version_reads_back_with_and_without_its_document() {
        assert_eq!(read_version("V#0000000007", item()).unwrap(), version());
        let stored = StoredPolicy {
            version: version(),
            document: PolicyDocument::default(),
        };
        assert_eq!(read_policy(7, item()).unwrap(), stored);
        assert_eq!(listed(item()), Some(version()));
    }

    #[test]
    fn keys_of_versions_sort_as_their_numbers() {
        let mut keys = [u32::MAX, 1, 10, 9, 100_000].map(sort_key);
        keys.sort();
        let numbers = keys.map(|sort| number_in(&key(&sort)).unwrap());
        assert_eq!(numbers, [1, 9, 10, 100_000, u32::MAX]);
    }

    #[test]
    fn damaged_item_is_unreadable_and_stays_in_the_history() {
        for (attribute, value) in [
            ("document", None),
            ("document", Some(string("{"))),
            ("document", Some(string(r#"{"lab": 3}"#))),
            ("document", Some(number(3))),
            ("version", None),
            ("version", Some(number(0))),
            ("version", Some(number(8))),
            ("author", None),
            ("at", Some(string("yesterday"))),
        ] {
            let mut item = item();
            match &value {
                Some(value) => drop(item.insert(attribute.to_owned(), value.clone())),
                None => drop(item.remove(attribute)),
            }
            assert!(listed(item.clone()).is_some(), "{attribute}: {value:?}");
            let fault = read_policy(7, item).unwrap_err().to_string();
            assert!(
                fault.starts_with("the item POLICY / V#0000000007 "),
                "{attribute}: {value:?}: {fault}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_item_is_a_version_or_unreadable(item in corrupted(item())) {
            if let Ok(read) = read_policy(7, item.clone()) {
                prop_assert_eq!(read.version.number, 7);
            }
            if let Some(version) = listed(item) {
                prop_assert_eq!(version.number, 7);
            }
        }
    }
}
