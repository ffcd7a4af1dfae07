//! Tombstones, which keep deleted sandboxes from being inserted again.

use serde::{Deserialize, Serialize};

use super::{Item, ItemFault, lease::LeaseRow, quarantine::QuarantineRow, tombstone_key};
use crate::{
    clock::UnixSeconds,
    domain::{CallerId, Holder, IdempotencyKey, LabId, Lease, Quarantine, Sandbox},
};

/// The record of a deleted sandbox that was once allocated. While it exists, the sandbox is not inserted again. The
/// attributes that are optional are absent where they are not known, and in tombstones of earlier versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// Time of the deletion, in Unix seconds.
    pub deleted_at: i64,
    /// CSP's resource id of the account.
    pub external_id: String,
    /// The name of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Creation of the account in CSP, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<i64>,
    /// When sync inserted the sandbox, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inserted_at: Option<i64>,
    /// When its account was first found usable, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable_at: Option<i64>,
    /// Start of the last allocation, in Unix seconds; 0 if there was none.
    pub allocated_at: i64,
    /// Duration of the last allocation, in hours.
    pub lab_duration_hours: u32,
    /// End of the last allocation, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// The caller that held the sandbox last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_caller: Option<String>,
    /// The idempotency key of the last allocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_key: Option<String>,
    /// The lab of the last allocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_lab: Option<String>,
    /// Time of the release or expiry, or of the operator's deletion, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_requested_at: Option<i64>,
    /// The name of the principal or job that released or deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_by: Option<String>,
    /// Failed attempts to delete it from CSP.
    #[serde(default)]
    pub deletion_retry_count: u32,
    #[serde(flatten)]
    pub(super) lease: LeaseRow,
    #[serde(flatten)]
    pub(super) quarantine: QuarantineRow,
    /// When the table's TTL removes the tombstone, in Unix seconds.
    pub ttl: i64,
}

impl Tombstone {
    /// Returns the last holder.
    #[must_use]
    pub fn last_holder(&self) -> Option<Holder> {
        let caller = CallerId::stored(self.last_caller.as_deref()?);
        let key = match self.last_key.as_deref() {
            Some(key) => IdempotencyKey::stored(key),
            None => IdempotencyKey::from(&caller),
        };
        let lab = self.last_lab.as_deref().map(LabId::stored);
        Some(Holder { caller, key, lab })
    }

    /// Returns the lease of the last allocation.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease.clone().into()
    }

    /// Returns the quarantine that ended with the deletion.
    #[must_use]
    pub fn quarantine(&self) -> Quarantine {
        self.quarantine.clone().into()
    }
}

/// Builds the tombstone of a sandbox deleted at `now`. The table's TTL removes it after `until`.
pub(in crate::store) fn tombstone(
    sandbox: &Sandbox,
    now: UnixSeconds,
    until: UnixSeconds,
) -> Result<Item, ItemFault> {
    let holder = sandbox.holder.as_ref();
    let seconds = |time: Option<UnixSeconds>| time.map(|time| time.0);
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(Tombstone {
        sandbox_id: sandbox.id().to_string(),
        deleted_at: now.0,
        external_id: sandbox.account.external_id.clone(),
        name: Some(sandbox.account.name.clone()),
        created_at: seconds(sandbox.account.created_at),
        inserted_at: seconds(sandbox.inserted_at),
        usable_at: seconds(sandbox.readiness.usable_at),
        allocated_at: sandbox.allocated_at.0,
        lab_duration_hours: sandbox.lab_duration_hours,
        expires_at: seconds(sandbox.expires_at),
        last_caller: holder.map(|holder| holder.caller.to_string()),
        last_key: holder.map(|holder| holder.key.to_string()),
        last_lab: holder
            .and_then(|holder| holder.lab.as_ref())
            .map(LabId::to_string),
        deletion_requested_at: seconds(sandbox.deletion_requested_at),
        released_by: sandbox.released_by.clone(),
        deletion_retry_count: sandbox.maintenance.deletion_retry_count,
        lease: (&sandbox.lease).into(),
        quarantine: (&sandbox.quarantine).into(),
        ttl: until.0,
    })?;
    item.extend(tombstone_key(sandbox.id()));
    Ok(item)
}
