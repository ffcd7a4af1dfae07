//! The policy: the terms of each lab.

use std::{sync::Arc, time::Duration};

use super::{LabId, LeaseTerms, NamePrefix, lab_duration};

/// What becomes of a sandbox that its holder has had replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// The duration of an allocation that asks for none.
    pub duration: Duration,
    /// The longest duration of an allocation, with its extensions, from its start. At least `duration`.
    pub max_duration: Duration,
    /// How often a holder may have its sandbox replaced.
    pub max_replacements: u32,
    /// What becomes of a replaced sandbox.
    pub replaced: Replaced,
    /// The name prefix of allocations that name none.
    pub name_prefix: Option<NamePrefix>,
    /// The quota: how many sandboxes the lab may hold at once.
    pub max_held: Option<u32>,
}

impl LabTerms {
    /// Returns the duration of an allocation that asks for `wanted`, or for none.
    #[must_use]
    pub fn duration(&self, wanted: Option<Duration>) -> Duration {
        wanted.unwrap_or(self.duration).min(self.max_duration)
    }
}

/// The replacements that a holder has without a policy.
const DEFAULT_MAX_REPLACEMENTS: u32 = 3;

/// The terms of every lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    defaults: Arc<LabTerms>,
}

impl Policy {
    /// Returns the policy without a document: every lab has the terms of the environment.
    #[must_use]
    pub fn of_environment(terms: LeaseTerms) -> Self {
        let duration = lab_duration(terms.lab_duration_hours);
        Self {
            defaults: Arc::new(LabTerms {
                duration,
                max_duration: duration,
                max_replacements: DEFAULT_MAX_REPLACEMENTS,
                replaced: Replaced::default(),
                name_prefix: None,
                max_held: None,
            }),
        }
    }

    /// Returns the terms of a lab. A play without a lab has the default ones.
    #[must_use]
    pub fn terms_of(&self, _lab: Option<&LabId>) -> Arc<LabTerms> {
        Arc::clone(&self.defaults)
    }
}
