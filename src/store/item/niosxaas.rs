//! Records of NIOSXaaS outcomes, in the form of the FastAPI service, whose dashboard counts them.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Deserialize;

use super::{Item, NIOSXAAS_PREFIX, NIOSXAAS_SORT, key, number, string};
use crate::{
    clock::UnixSeconds,
    domain::{LabId, NiosxaasOutcome, NiosxaasRecord, NiosxaasVerdict, Sandbox},
};

/// The text of the FastAPI service for an unknown caller or lab.
const UNKNOWN: &str = "N/A";

/// Builds the record of an outcome at `now`. The table's TTL removes it after `until`.
///
/// The FastAPI service's listing reads every item of the table as a sandbox, so the record has the attributes that it
/// requires of one. Without `allocated_at`, no index contains the record.
pub(in crate::store) fn niosxaas_record(
    sandbox: &Sandbox,
    outcome: &NiosxaasOutcome,
    now: UnixSeconds,
    until: UnixSeconds,
) -> Item {
    let (verdict, detail) = match outcome {
        NiosxaasOutcome::Cleaned { services } => (NiosxaasVerdict::Cleaned, services.to_string()),
        NiosxaasOutcome::Skipped { reason } => (NiosxaasVerdict::Skipped, reason.clone()),
        NiosxaasOutcome::Failed { reason } => (NiosxaasVerdict::Failed, reason.clone()),
    };
    let id = sandbox.id();
    let holder = sandbox.holder.as_ref();
    let lab = holder.and_then(|holder| holder.lab.as_ref());
    let mut item = key(format!("{NIOSXAAS_PREFIX}{id}"), NIOSXAAS_SORT);
    item.extend(as_sandbox(
        id.as_str(),
        &sandbox.account.name,
        &sandbox.account.external_id,
    ));
    item.extend(outcome_attributes(verdict, &detail, now));
    item.extend([
        (
            "sandbox_name".to_owned(),
            string(sandbox.account.name.as_str()),
        ),
        (
            "track_name".to_owned(),
            string(lab.map_or(UNKNOWN, LabId::as_str)),
        ),
        (
            "allocated_to_track".to_owned(),
            string(holder.map_or(UNKNOWN, |holder| holder.caller.as_str())),
        ),
        ("deleted_at".to_owned(), number(now.0)),
        ("ttl".to_owned(), number(until.0)),
    ]);
    item
}

/// Returns the attributes that the FastAPI service requires of every item of the pool's table.
pub(in crate::store) fn as_sandbox(id: &str, name: &str, external_id: &str) -> Item {
    Item::from([
        ("sandbox_id".to_owned(), string(id)),
        ("name".to_owned(), string(name)),
        ("external_id".to_owned(), string(external_id)),
        ("status".to_owned(), string("deleted")),
    ])
}

fn outcome_attributes(verdict: NiosxaasVerdict, detail: &str, at: UnixSeconds) -> Item {
    let is = |other| verdict == other;
    let reason = if is(NiosxaasVerdict::Failed) {
        detail
    } else {
        ""
    };
    Item::from([
        ("niosxaas_cleaned_at".to_owned(), number(at.0)),
        (
            "niosxaas_cleanup_skipped".to_owned(),
            AttributeValue::Bool(is(NiosxaasVerdict::Skipped)),
        ),
        ("niosxaas_cleanup_failed_reason".to_owned(), string(reason)),
        ("detail".to_owned(), string(detail)),
    ])
}

/// Converts a record that an earlier build of this broker wrote with an `outcome`. `None` for any other item.
pub(in crate::store) fn upgraded_niosxaas_record(mut item: Item) -> Option<Item> {
    #[derive(Deserialize)]
    struct Earlier {
        sandbox_id: String,
        outcome: NiosxaasVerdict,
        #[serde(default)]
        detail: String,
        deleted_at: UnixSeconds,
    }
    let earlier: Earlier = serde_dynamo::aws_sdk_dynamodb_1::from_item(item.clone()).ok()?;
    item.remove("outcome");
    item.extend(as_sandbox(&earlier.sandbox_id, UNKNOWN, UNKNOWN));
    item.extend(outcome_attributes(
        earlier.outcome,
        &earlier.detail,
        earlier.deleted_at,
    ));
    Some(item)
}

/// The attributes of a NIOSXaaS record. The FastAPI service writes no `detail`.
#[derive(Debug, Deserialize)]
struct NiosxaasRow {
    sandbox_id: String,
    #[serde(default)]
    niosxaas_cleanup_skipped: bool,
    #[serde(default)]
    niosxaas_cleanup_failed_reason: String,
    #[serde(default)]
    detail: Option<String>,
    deleted_at: UnixSeconds,
}

/// Converts a record. An unreadable one is logged and skipped.
pub(in crate::store) fn read_niosxaas_record(item: Item) -> Option<NiosxaasRecord> {
    let present: Item = item
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    match serde_dynamo::aws_sdk_dynamodb_1::from_item::<NiosxaasRow>(present) {
        Ok(row) => {
            let reason = row.niosxaas_cleanup_failed_reason;
            let outcome = if !matches!(reason.as_str(), "" | UNKNOWN) {
                NiosxaasVerdict::Failed
            } else if row.niosxaas_cleanup_skipped {
                NiosxaasVerdict::Skipped
            } else {
                NiosxaasVerdict::Cleaned
            };
            Some(NiosxaasRecord {
                sandbox_id: row.sandbox_id,
                outcome,
                detail: row.detail.unwrap_or(reason),
                at: row.deleted_at,
            })
        }
        Err(fault) => {
            tracing::warn!(%fault, "unreadable NIOSXaaS record skipped");
            None
        }
    }
}
