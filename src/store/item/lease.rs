//! The attributes of a lease, in the item of a sandbox and in its tombstone.

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixSeconds,
    domain::{Lease, SandboxId},
};

/// The attributes of a lease as they are written; each is absent where there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extensions: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extended_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replacement_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota_slot: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    released_at: Option<i64>,
}

impl From<&Lease> for LeaseRow {
    fn from(lease: &Lease) -> Self {
        let id = |id: &Option<SandboxId>| id.as_ref().map(SandboxId::to_string);
        Self {
            name_prefix: lease.name_prefix.clone(),
            extensions: (lease.extensions > 0).then_some(lease.extensions),
            extended_at: lease.extended_at.map(|at| at.0),
            replaces: id(&lease.replaces),
            replaced_by: id(&lease.replaced_by),
            replacement_reason: lease.replacement_reason.clone(),
            quota_slot: lease.quota_slot,
            released_at: lease.released_at.map(|at| at.0),
        }
    }
}

impl From<LeaseRow> for Lease {
    fn from(row: LeaseRow) -> Self {
        Self {
            name_prefix: row.name_prefix,
            extensions: row.extensions.unwrap_or_default(),
            extended_at: row.extended_at.map(UnixSeconds),
            replaces: row.replaces.map(SandboxId::stored),
            replaced_by: row.replaced_by.map(SandboxId::stored),
            replacement_reason: row.replacement_reason,
            quota_slot: row.quota_slot,
            released_at: row.released_at.map(UnixSeconds),
        }
    }
}
