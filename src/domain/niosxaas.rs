//! Outcomes of deleting the NIOSXaaS services in an account.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::UnixSeconds;

/// The outcome of deleting the NIOSXaaS services of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NiosxaasOutcome {
    /// All services were deleted.
    Cleaned {
        /// The number of deleted services.
        services: usize,
    },
    /// No service was deleted, on purpose.
    Skipped {
        /// The reason.
        reason: String,
    },
    /// Not all services could be deleted.
    Failed {
        /// The reason.
        reason: String,
    },
}

/// A stored [`NiosxaasOutcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NiosxaasRecord {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// The kind of outcome.
    pub outcome: NiosxaasVerdict,
    /// The number of deleted services, or the reason of the other outcomes.
    pub detail: String,
    /// Time of the outcome.
    pub at: UnixSeconds,
}

/// The outcome of a NIOSXaaS cleanup, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NiosxaasVerdict {
    /// All services were deleted.
    Cleaned,
    /// No service was deleted, on purpose.
    Skipped,
    /// Not all services could be deleted.
    Failed,
}
