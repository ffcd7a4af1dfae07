//! Tombstones, which keep deleted sandboxes from being inserted again.

use serde::{Deserialize, Serialize};

use super::{Item, ItemFault, tombstone_key};
use crate::{
    clock::UnixSeconds,
    domain::{LabId, Sandbox},
};

/// The record of a deleted sandbox that was once allocated. While it exists, the sandbox is not inserted again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// Time of the deletion, in Unix seconds.
    pub deleted_at: i64,
    /// CSP's resource id of the account.
    pub external_id: String,
    pub(super) allocated_at: i64,
    pub(super) lab_duration_hours: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_caller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_lab: Option<String>,
    ttl: i64,
}

/// Builds the tombstone of a sandbox deleted at `now`. The table's TTL removes it after `until`.
pub(in crate::store) fn tombstone(
    sandbox: &Sandbox,
    now: UnixSeconds,
    until: UnixSeconds,
) -> Result<Item, ItemFault> {
    let holder = sandbox.holder.as_ref();
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(Tombstone {
        sandbox_id: sandbox.id().to_string(),
        deleted_at: now.0,
        external_id: sandbox.account.external_id.clone(),
        allocated_at: sandbox.allocated_at.0,
        lab_duration_hours: sandbox.lab_duration_hours,
        expires_at: sandbox.expires_at.map(|end| end.0),
        last_caller: holder.map(|holder| holder.caller.to_string()),
        last_key: holder.map(|holder| holder.key.to_string()),
        last_lab: holder
            .and_then(|holder| holder.lab.as_ref())
            .map(LabId::to_string),
        ttl: until.0,
    })?;
    item.extend(tombstone_key(sandbox.id()));
    Ok(item)
}
