//! The terms of one pool.

use super::document::PoolCreation;
use crate::domain::{NamePrefix, ScheduledTarget};

/// The terms of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTerms {
    /// The beginning of the names of its sandboxes.
    pub name_prefix: NamePrefix,
    /// How many sandboxes should be available while no schedule is in force; 0 if that is not stated.
    pub target_available: u32,
    /// How many sandboxes there may be in all.
    pub max_total: Option<u32>,
    /// The schedules, by their begin.
    pub schedules: Vec<ScheduledTarget>,
    /// How sandboxes are created; `None` if they are not.
    pub create: Option<PoolCreation>,
}
