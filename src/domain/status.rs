//! The states of a sandbox and the transitions between them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// The state of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In the pool, never held by anyone.
    Available,
    /// Held by one caller.
    Allocated,
    /// Given back or expired; waits for its deletion from CSP.
    PendingDeletion,
    /// CSP refused its deletion for good; an admin decides.
    DeletionFailed,
    /// Never held, and no longer listed by CSP.
    Stale,
}

impl Status {
    /// Every status, in the order in which a sandbox meets them.
    pub const ALL: [Self; 5] = [
        Self::Available,
        Self::Allocated,
        Self::PendingDeletion,
        Self::DeletionFailed,
        Self::Stale,
    ];

    /// The name in the table and the API.
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

/// A status name that the broker does not know.
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

/// The legal changes of status. There is no other: each write to a sandbox's status is made from one of these and
/// is conditional on the status it leaves. A sandbox that had a holder has no way back to `available`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A caller gets the sandbox.
    Allocate,
    /// Its holder gives it back, or its time is up.
    Retire,
    /// CSP no longer lists it.
    MarkStale,
    /// CSP lists it again.
    Restore,
    /// CSP refuses its deletion, or the attempts are used up.
    GiveUp,
    /// An admin has its deletion tried again.
    RetryDeletion,
}

impl Transition {
    /// The status that the write requires.
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

    /// The status that the write leaves behind.
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
    fn every_status_name_reads_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("gone".parse::<Status>(), Err(UnknownStatus("gone".into())));
    }

    #[test]
    fn nothing_that_had_a_holder_becomes_available() {
        let back_to_pool = [
            Transition::Allocate,
            Transition::Retire,
            Transition::MarkStale,
            Transition::Restore,
        ]
        .into_iter()
        .filter(|transition| transition.to() == Status::Available);
        for transition in back_to_pool {
            assert_eq!(transition.from(), Status::Stale);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_status_only_if_it_is_a_name_of_one(text in crate::arbitrary::text()) {
            match text.parse::<Status>() {
                Ok(status) => prop_assert_eq!(status.as_str(), text),
                Err(fault) => prop_assert_eq!(fault.0, text),
            }
        }
    }
}
