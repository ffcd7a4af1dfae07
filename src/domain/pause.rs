//! Pauses: activities of the broker that an operator has stopped for a while.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An activity that can be paused.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// New allocations.
    Allocations,
    /// Deletions from CSP.
    Deletions,
    /// Syncs with CSP.
    Sync,
    /// The retirement of overdue allocations.
    Expiry,
    /// The creation of accounts.
    Refill,
}

impl Activity {
    /// Every activity.
    pub const ALL: [Self; 5] = [
        Self::Allocations,
        Self::Deletions,
        Self::Sync,
        Self::Expiry,
        Self::Refill,
    ];

    /// Returns the name used in the table and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allocations => "allocations",
            Self::Deletions => "deletions",
            Self::Sync => "sync",
            Self::Expiry => "expiry",
            Self::Refill => "refill",
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Activity {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|activity| activity.as_str() == name).ok_or(())
    }
}
