//! The attributes of a quarantine, in the item of a sandbox and in its tombstone.

use serde::{Deserialize, Serialize};

use crate::{clock::UnixSeconds, domain::Quarantine};

/// The names of the attributes, for an update that removes them.
pub(in crate::store) const QUARANTINE_ATTRIBUTES: &str =
    "quarantined_by, quarantined_at, quarantine_reason, quarantined_until, quarantined_from";

/// The attributes of a quarantine as they are written; each is absent where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QuarantineRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quarantined_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quarantined_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quarantine_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quarantined_until: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quarantined_from: Option<String>,
}

impl From<&Quarantine> for QuarantineRow {
    fn from(quarantine: &Quarantine) -> Self {
        Self {
            quarantined_by: quarantine.by.clone(),
            quarantined_at: quarantine.at.map(|at| at.0),
            quarantine_reason: quarantine.reason.clone(),
            quarantined_until: quarantine.until.map(|until| until.0),
            quarantined_from: quarantine.from.map(|status| status.to_string()),
        }
    }
}

impl From<QuarantineRow> for Quarantine {
    fn from(row: QuarantineRow) -> Self {
        Self {
            by: row.quarantined_by,
            at: row.quarantined_at.map(UnixSeconds),
            reason: row.quarantine_reason,
            until: row.quarantined_until.map(UnixSeconds),
            from: row.quarantined_from.and_then(|name| name.parse().ok()),
        }
    }
}
