//! The status of a sandbox and the transitions between statuses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// The status of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never allocated; can be allocated.
    Available,
    /// Held by one caller.
    Allocated,
    /// Released or expired; waits for its deletion from CSP.
    PendingDeletion,
    /// The deletion was abandoned; an admin may retry it.
    DeletionFailed,
    /// Never allocated, and no longer listed by CSP.
    Stale,
}

impl Status {
    /// Every status, in the order of a sandbox's life.
    pub const ALL: [Self; 5] = [
        Self::Available,
        Self::Allocated,
        Self::PendingDeletion,
        Self::DeletionFailed,
        Self::Stale,
    ];

    /// Returns the name used in the table and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Allocated => "allocated",
            Self::PendingDeletion => "pending_deletion",
            Self::DeletionFailed => "deletion_failed",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error for a text that is not the name of a status.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown status {0:?}")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or_else(|| UnknownStatus(name.to_owned()))
    }
}

/// A legal change of status. Every write to a sandbox's status is one of these and is conditional on the status that
/// it leaves. No transition returns a sandbox that ever had a holder to `available`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A caller allocates the sandbox.
    Allocate,
    /// The holder releases the sandbox, or the allocation expires.
    Retire,
    /// CSP no longer lists it.
    MarkStale,
    /// CSP lists it again.
    Restore,
    /// CSP rejects its deletion permanently, or the attempts are exhausted.
    GiveUp,
    /// An admin requests another attempt at its deletion.
    RetryDeletion,
}

impl Transition {
    /// Every transition.
    #[cfg(test)]
    const ALL: [Self; 6] = [
        Self::Allocate,
        Self::Retire,
        Self::MarkStale,
        Self::Restore,
        Self::GiveUp,
        Self::RetryDeletion,
    ];

    /// Returns the status that the write requires.
    #[must_use]
    pub const fn from(self) -> Status {
        match self {
            Self::Allocate | Self::MarkStale => Status::Available,
            Self::Retire => Status::Allocated,
            Self::Restore => Status::Stale,
            Self::GiveUp => Status::PendingDeletion,
            Self::RetryDeletion => Status::DeletionFailed,
        }
    }

    /// Returns the status that the write sets.
    #[must_use]
    pub const fn to(self) -> Status {
        match self {
            Self::Allocate => Status::Allocated,
            Self::Retire | Self::RetryDeletion => Status::PendingDeletion,
            Self::GiveUp => Status::DeletionFailed,
            Self::MarkStale => Status::Stale,
            Self::Restore => Status::Available,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_status_name_parses_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("gone".parse::<Status>(), Err(UnknownStatus("gone".into())));
    }

    #[test]
    fn only_stale_sandboxes_become_available_again() {
        for transition in Transition::ALL {
            if transition.to() == Status::Available {
                assert_eq!(transition.from(), Status::Stale);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_status_name_or_is_rejected(text in crate::arbitrary::text()) {
            match text.parse::<Status>() {
                Ok(status) => prop_assert_eq!(status.as_str(), text),
                Err(fault) => prop_assert_eq!(fault.0, text),
            }
        }
    }
}
