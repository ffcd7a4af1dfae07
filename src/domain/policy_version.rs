//! The versions of the policy: who has changed it, when and why.

use std::sync::Arc;

use super::Reason;
use crate::clock::UnixSeconds;

/// The number of the version before the first one: there is no document, and the terms of the environment are in force.
pub const NO_POLICY: u32 = 0;

/// How many versions are retained, with that in force.
pub const POLICY_VERSIONS: u32 = 50;

/// A version of the policy, without its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// Its number: 1 for the first, and one more for each change.
    pub number: u32,
    /// The principal that wrote it.
    pub author: Arc<str>,
    /// When it was written.
    pub at: UnixSeconds,
    /// Why, in the words of its author.
    pub reason: Option<Reason>,
}
