//! The policy document, as operators write it. A field that is `None` is not stated.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{schedule::ScheduleEntry, terms::Replaced};
use crate::domain::{LabId, NamePrefix};

/// The maximum size of a document as JSON, which leaves room in an item of the table.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// The mark at the end of the id of an entry that stands for all labs whose ids begin with the rest.
const PATTERN: char = '*';

/// The policy document. The order of labs, pools and schedules has no meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "defaults": { "duration_minutes": 240, "max_duration_minutes": 480 },
    "lab": [{ "id": "cloud-security-101", "name_prefix": "lab-", "duration_minutes": 120, "max_held": 60 }],
    "pool": [{ "name_prefix": "lab-", "target_available": 50, "max_total": 120 }]
}))]
pub struct PolicyDocument {
    /// The terms of labs that no entry states otherwise.
    #[serde(skip_serializing_if = "StatedTerms::is_empty")]
    #[schema(required = false)]
    pub defaults: StatedTerms,
    /// The labs with terms of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 10000)]
    pub lab: Vec<LabEntry>,
    /// The pools, by name prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 1000)]
    pub pool: Vec<PoolEntry>,
}

/// The terms that the defaults and an entry of a lab can state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct StatedTerms {
    /// The duration of an allocation whose request names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 43200)]
    pub duration_minutes: Option<u32>,
    /// The longest duration of an allocation, with its extensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 43200)]
    pub max_duration_minutes: Option<u32>,
    /// How often a holder may have its sandbox replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100)]
    pub max_replacements: Option<u32>,
    /// The fate of a replaced sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

/// The terms of one lab, or of all labs whose ids begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LabEntry {
    /// The id of the lab, or the beginning of ids with a `*` at its end.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub id: LabId,
    /// The name prefix of allocations that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false, min_length = 1, max_length = 256)]
    pub name_prefix: Option<NamePrefix>,
    /// The terms; a field that is not stated is that of the defaults.
    #[serde(flatten)]
    pub terms: StatedTerms,
    /// The quota: how many sandboxes the lab may hold at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100_000)]
    pub max_held: Option<u32>,
}

/// The sandboxes whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PoolEntry {
    /// The beginning of the names.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub name_prefix: NamePrefix,
    /// How many sandboxes should be available.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100_000)]
    pub target_available: Option<u32>,
    /// How many sandboxes there may be in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100_000)]
    pub max_total: Option<u32>,
    /// The periods with a target of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100)]
    pub schedule: Vec<ScheduleEntry>,
    /// How sandboxes are created; `None` if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<PoolCreation>,
}

/// The attributes of an account that CSP creates for a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PoolCreation {
    /// The description of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500)]
    pub description: Option<String>,
    /// The tags of the account.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    pub tags: BTreeMap<String, String>,
    /// The administrator of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_user: Option<AdminUser>,
}

/// The administrator of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AdminUser {
    /// The address of the administrator.
    #[schema(min_length = 3, max_length = 254)]
    pub email: String,
    /// The name of the administrator.
    #[schema(min_length = 1, max_length = 256)]
    pub name: String,
}

impl StatedTerms {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl LabEntry {
    /// Returns the beginning of the ids that the entry stands for; `None` if it stands for one lab.
    #[must_use]
    pub fn pattern(&self) -> Option<&str> {
        self.id.as_str().strip_suffix(PATTERN)
    }

    /// Parses an id: that of a lab, or a pattern. A `*` elsewhere is most likely meant as a pattern that does not exist.
    pub(super) fn parse_id(text: &str) -> Option<LabId> {
        let id = LabId::parse(text).ok()?;
        let text = id.as_str();
        let beginning = text.strip_suffix(PATTERN).unwrap_or(text);
        (!beginning.contains(PATTERN)).then_some(id)
    }
}
