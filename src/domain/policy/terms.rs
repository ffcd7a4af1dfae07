//! The terms of the allocations of one lab.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::NamePrefix;

/// The fate of a sandbox that its holder has had replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replaced {
    /// It is deleted.
    #[default]
    Delete,
    /// It is set aside until an operator has looked at it.
    Quarantine,
}

/// The terms of the allocations of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabTerms {
    /// The duration of an allocation whose request names none.
    pub duration: Duration,
    /// The longest duration of an allocation, with its extensions, from its start. At least `duration`.
    pub max_duration: Duration,
    /// How often a holder may have its sandbox replaced.
    pub max_replacements: u32,
    /// The fate of a replaced sandbox.
    pub replaced: Replaced,
    /// The name prefix of allocations that name none.
    pub name_prefix: Option<NamePrefix>,
    /// The quota: how many sandboxes the lab may hold at once.
    pub max_held: Option<u32>,
}

impl LabTerms {
    /// Returns the duration of an allocation whose request names the duration `wanted`, or none.
    #[must_use]
    pub fn duration(&self, wanted: Option<Duration>) -> Duration {
        wanted.unwrap_or(self.duration).min(self.max_duration)
    }
}
