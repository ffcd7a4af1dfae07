//! The lease of a sandbox: the name prefix of its allocation, and its extensions, replacement, quota slot and release.

use super::SandboxId;
use crate::clock::UnixSeconds;

/// The name prefix of an allocation, and its extensions, replacement, quota slot and release. Empty in a sandbox that was
/// never allocated, and in one that an earlier version or another service allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The name prefix that the allocation was restricted to, by the request or by its lab.
    pub name_prefix: Option<String>,
    /// How often the end of the allocation was moved to a later time.
    pub extensions: u32,
    /// When the end was last moved.
    pub extended_at: Option<UnixSeconds>,
    /// The sandbox that the holder had before, which this one replaced.
    pub replaces: Option<SandboxId>,
    /// The sandbox that the holder received in place of this one.
    pub replaced_by: Option<SandboxId>,
    /// The reason of the replacement, in the words of the holder.
    pub replacement_reason: Option<String>,
    /// The number of the slot of the lab's quota that the allocation occupies.
    pub quota_slot: Option<u32>,
    /// When its holder released the sandbox; `None` if the allocation has ended in any other way.
    pub released_at: Option<UnixSeconds>,
}
