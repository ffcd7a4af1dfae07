//! The outcome of deleting the NIOSXaaS services in an account.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::UnixSeconds;

/// What became of the NIOSXaaS services in a sandbox's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NiosxaasOutcome {
    /// So many were deleted.
    Cleaned {
        /// How many.
        services: usize,
    },
    /// They were left alone on purpose.
    Skipped {
        /// Why.
        reason: String,
    },
    /// They could not be deleted.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The outcome for one account, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NiosxaasRecord {
    /// The sandbox.
    pub sandbox_id: String,
    /// The kind of outcome.
    pub outcome: NiosxaasVerdict,
    /// The number of deleted services, or the reason why none were deleted.
    pub detail: String,
    /// When it was recorded.
    pub at: UnixSeconds,
}

/// [`NiosxaasOutcome`] in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NiosxaasVerdict {
    /// The services were deleted.
    Cleaned,
    /// They were left alone on purpose.
    Skipped,
    /// They could not be deleted.
    Failed,
}
