//! Audit records: two items of the companion table for each action, one by day and one by sandbox.
//!
//! A change of the table and the records of it are one transaction, so that neither exists without the other.

mod read;

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    PoolStore, StoreError, change,
    item::{self, Item, number},
    transaction::OPERATION,
};
use crate::{
    clock::UnixSeconds,
    domain::{AUDIT_RETENTION, AuditRecord, AuditTarget, Reason, Role, SandboxId},
};

pub use self::read::{AuditPosition, AuditSpan, EventPage, EventPosition};

/// The attributes of an audit record.
#[derive(Debug, Serialize)]
struct Row<'a> {
    at_ms: i64,
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    action: &'a str,
    target: String,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// As JSON text, so that the states of different targets need no schema in the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
}

/// Returns the partition of the records of a day.
fn day_partition(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MIN);
    format!("AUDIT#{}", at.strftime("%Y-%m-%d"))
}

/// Returns the partition of the records of a sandbox.
fn sandbox_partition(id: &SandboxId) -> String {
    format!("{}{id}", item::SANDBOX_PREFIX)
}

/// The beginning of the sort keys of the records of a sandbox.
const EVENT: &str = "EVENT#";

impl PoolStore {
    /// Returns the actions that write the records of an action: those of its day, and those of its sandbox.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] for a record that cannot be stored.
    pub fn audit_actions(
        &self,
        record: &AuditRecord,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let puts = records(record).map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        puts.into_iter()
            .map(|item| {
                change::put(&self.table.companion, item)
                    .map_err(|fault| StoreError::unexpected(OPERATION, fault))
            })
            .collect()
    }

    /// Writes the records of an action that changes nothing else in the tables.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        // Without conditions, a transaction is never refused.
        self.transact(self.audit_actions(record)?).await.map(drop)
    }
}

/// Returns the items of a record.
fn records(record: &AuditRecord) -> Result<Vec<Item>, serde_dynamo::Error> {
    let row = Row {
        at_ms: record.at_ms,
        actor: &record.author.name,
        role: record.author.role.map(Role::as_str),
        action: record.action.as_str(),
        target: record.target.to_string(),
        outcome: record.outcome,
        reason: record.reason.as_ref().map(Reason::as_str),
        before: record.before.as_ref().map(ToString::to_string),
        after: record.after.as_ref().map(ToString::to_string),
        request_id: &record.author.request_id,
        address: record.author.address.as_deref(),
    };
    let mut attributes: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(row)?;
    let at = UnixSeconds(record.at_ms.div_euclid(1000));
    attributes.insert("ttl".to_owned(), number((at + AUDIT_RETENTION).0));
    // Clients choose request ids, so an id can repeat.
    let suffix: u32 = rand::random();
    let name = format!(
        "{:013}#{}#{suffix:08x}",
        record.at_ms, record.author.request_id
    );
    let item = |partition, sort: &str| {
        let mut item = attributes.clone();
        item.extend(item::key(partition, sort));
        item
    };
    let mut items = vec![item(day_partition(record.at_ms), &name)];
    if let AuditTarget::Sandbox(id) = &record.target {
        items.push(item(sandbox_partition(id), &format!("{EVENT}{name}")));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_is_the_day_in_utc() {
        assert_eq!(day_partition(1_774_000_000_000), "AUDIT#2026-03-20");
        assert_eq!(day_partition(1_773_964_799_999), "AUDIT#2026-03-19");
        assert_eq!(day_partition(1_773_964_800_000), "AUDIT#2026-03-20");
    }
}
