//! Records of NIOSXaaS outcomes.

use serde::Deserialize;

use super::{Item, NIOSXAAS_PREFIX, NIOSXAAS_SORT, key, number, string};
use crate::{
    clock::UnixSeconds,
    domain::{NiosxaasOutcome, NiosxaasRecord, NiosxaasVerdict, SandboxId},
};

/// Builds the record of an outcome at `now`. The table's TTL removes it after `until`.
pub(in crate::store) fn niosxaas_record(
    id: &SandboxId,
    outcome: &NiosxaasOutcome,
    now: UnixSeconds,
    until: UnixSeconds,
) -> Item {
    let mut item = key(format!("{NIOSXAAS_PREFIX}{id}"), NIOSXAAS_SORT);
    let (name, detail) = match outcome {
        NiosxaasOutcome::Cleaned { services } => ("cleaned", services.to_string()),
        NiosxaasOutcome::Skipped { reason } => ("skipped", reason.clone()),
        NiosxaasOutcome::Failed { reason } => ("failed", reason.clone()),
    };
    item.extend([
        ("sandbox_id".to_owned(), string(id.as_str())),
        ("outcome".to_owned(), string(name)),
        ("detail".to_owned(), string(detail)),
        ("deleted_at".to_owned(), number(now.0)),
        ("ttl".to_owned(), number(until.0)),
    ]);
    item
}

/// The attributes of a NIOSXaaS record.
#[derive(Debug, Deserialize)]
struct NiosxaasRow {
    sandbox_id: String,
    outcome: NiosxaasVerdict,
    #[serde(default)]
    detail: String,
    deleted_at: UnixSeconds,
}

/// Converts a record. An unreadable one is logged and skipped.
pub(in crate::store) fn read_niosxaas_record(item: Item) -> Option<NiosxaasRecord> {
    match serde_dynamo::aws_sdk_dynamodb_1::from_item::<NiosxaasRow>(item) {
        Ok(row) => Some(NiosxaasRecord {
            sandbox_id: row.sandbox_id,
            outcome: row.outcome,
            detail: row.detail,
            at: row.deleted_at,
        }),
        Err(fault) => {
            tracing::warn!(%fault, "unreadable NIOSXaaS record skipped");
            None
        }
    }
}
