//! The status of a sandbox and the transitions between statuses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// The status of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never allocated; its account is not known to be usable yet.
    Provisioning,
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
    /// Set aside by an operator or by a check: neither allocated nor deleted until its quarantine ends.
    Quarantined,
}

impl Status {
    /// Every status, in the order of a sandbox's life; last those of a sandbox that is out of use.
    pub const ALL: [Self; 7] = [
        Self::Provisioning,
        Self::Available,
        Self::Allocated,
        Self::PendingDeletion,
        Self::DeletionFailed,
        Self::Stale,
        Self::Quarantined,
    ];

    /// Returns the name used in the table and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Available => "available",
            Self::Allocated => "allocated",
            Self::PendingDeletion => "pending_deletion",
            Self::DeletionFailed => "deletion_failed",
            Self::Stale => "stale",
            Self::Quarantined => "quarantined",
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
    /// The holder or an operator releases the sandbox, or the allocation expires.
    Retire,
    /// Its account is found usable, or is no longer checked.
    Provide,
    /// CSP no longer lists it. Built by [`Transition::mark_stale`].
    MarkStale {
        /// The status that it leaves.
        from: Status,
    },
    /// CSP lists it again. Built by [`Transition::restore`].
    Restore {
        /// The status that it reaches.
        to: Status,
    },
    /// CSP rejects its deletion permanently, or the attempts are exhausted.
    GiveUp,
    /// An admin requests another attempt at its deletion.
    RetryDeletion,
    /// An operator sets it aside. Built by [`Transition::quarantine`].
    Quarantine {
        /// The status that it leaves.
        from: Status,
    },
    /// The quarantine of a sandbox that never had a holder ends. Built by [`Transition::restore_quarantined`].
    RestoreQuarantined {
        /// The status that it returns to.
        to: Status,
    },
    /// A sandbox in quarantine is converted for the FastAPI service, which does not know that status.
    ConvertForFastapi,
    /// An operator deletes it, or the quarantine of a sandbox that had a holder ends. Built by [`Transition::delete`].
    Delete {
        /// The status that it leaves.
        from: Status,
    },
}

impl Transition {
    /// Returns the quarantine of a sandbox in the status `from`; `None` if that status cannot be quarantined. A sandbox
    /// that is being deleted cannot, because a run of cleanup may be deleting its account at that moment.
    #[must_use]
    pub const fn quarantine(from: Status) -> Option<Self> {
        match from {
            Status::Provisioning | Status::Available | Status::Allocated | Status::Stale => {
                Some(Self::Quarantine { from })
            }
            Status::PendingDeletion | Status::DeletionFailed | Status::Quarantined => None,
        }
    }

    /// Returns the end of the quarantine of a sandbox that never had a holder. It returns to the status it was
    /// `quarantined_from`, which sync keeps up to date: `stale` if CSP does not list it, or if that is not known,
    /// because the next sync makes it available if CSP lists it.
    #[must_use]
    pub const fn restore_quarantined(quarantined_from: Option<Status>) -> Self {
        match quarantined_from {
            Some(to @ (Status::Provisioning | Status::Available)) => {
                Self::RestoreQuarantined { to }
            }
            _ => Self::RestoreQuarantined { to: Status::Stale },
        }
    }

    /// Returns the transition of a sandbox in the status `from` that CSP no longer lists; `None` unless it waits for a
    /// holder.
    #[must_use]
    pub const fn mark_stale(from: Status) -> Option<Self> {
        match from {
            Status::Provisioning | Status::Available => Some(Self::MarkStale { from }),
            _ => None,
        }
    }

    /// Returns the transition of a stale sandbox that CSP lists again: to `available`, or to `provisioning` if its
    /// account has to be checked first.
    #[must_use]
    pub const fn restore(has_to_be_checked: bool) -> Self {
        let to = if has_to_be_checked {
            Status::Provisioning
        } else {
            Status::Available
        };
        Self::Restore { to }
    }

    /// Returns the deletion of a sandbox in the status `from`; `None` if it has a holder, who has to release it first,
    /// or is being deleted.
    #[must_use]
    pub const fn delete(from: Status) -> Option<Self> {
        match from {
            Status::Provisioning
            | Status::Available
            | Status::DeletionFailed
            | Status::Stale
            | Status::Quarantined => Some(Self::Delete { from }),
            Status::Allocated | Status::PendingDeletion => None,
        }
    }

    /// Returns the status that the write requires.
    #[must_use]
    pub const fn from(self) -> Status {
        match self {
            Self::Provide => Status::Provisioning,
            Self::Allocate => Status::Available,
            Self::Retire => Status::Allocated,
            Self::Restore { .. } => Status::Stale,
            Self::GiveUp => Status::PendingDeletion,
            Self::RetryDeletion => Status::DeletionFailed,
            Self::RestoreQuarantined { .. } | Self::ConvertForFastapi => Status::Quarantined,
            Self::MarkStale { from } | Self::Quarantine { from } | Self::Delete { from } => from,
        }
    }

    /// Returns the status that the write sets.
    #[must_use]
    pub const fn to(self) -> Status {
        match self {
            Self::Allocate => Status::Allocated,
            Self::Retire | Self::RetryDeletion | Self::Delete { .. } => Status::PendingDeletion,
            Self::GiveUp | Self::ConvertForFastapi => Status::DeletionFailed,
            Self::MarkStale { .. } => Status::Stale,
            Self::Provide => Status::Available,
            Self::Quarantine { .. } => Status::Quarantined,
            Self::Restore { to } | Self::RestoreQuarantined { to } => to,
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

    /// Returns every transition.
    fn transitions() -> Vec<Transition> {
        let statuses = Status::ALL.into_iter();
        let mut all = vec![
            Transition::Allocate,
            Transition::Retire,
            Transition::Provide,
            Transition::restore(true),
            Transition::restore(false),
            Transition::GiveUp,
            Transition::RetryDeletion,
            Transition::ConvertForFastapi,
        ];
        all.extend(statuses.clone().filter_map(Transition::mark_stale));
        all.extend(statuses.clone().filter_map(Transition::quarantine));
        all.extend(statuses.clone().filter_map(Transition::delete));
        all.extend(statuses.map(|from| Transition::restore_quarantined(Some(from))));
        all.push(Transition::restore_quarantined(None));
        all
    }

    #[test]
    fn only_sandboxes_without_a_holder_become_available() {
        for transition in transitions() {
            if transition.to() == Status::Available {
                let from = transition.from();
                assert!(
                    matches!(
                        from,
                        Status::Provisioning | Status::Stale | Status::Quarantined
                    ),
                    "{transition:?}"
                );
            }
        }
    }

    #[test]
    fn sandbox_that_is_being_deleted_only_leaves_for_good() {
        for transition in transitions() {
            if matches!(
                transition.from(),
                Status::PendingDeletion | Status::DeletionFailed
            ) {
                let to = transition.to();
                assert!(
                    matches!(to, Status::PendingDeletion | Status::DeletionFailed),
                    "{transition:?}"
                );
            }
        }
    }

    #[test]
    fn every_status_but_those_of_a_deletion_and_its_own_can_be_quarantined() {
        let quarantinable: Vec<_> = Status::ALL
            .into_iter()
            .filter(|status| Transition::quarantine(*status).is_some())
            .collect();
        assert_eq!(
            quarantinable,
            [
                Status::Provisioning,
                Status::Available,
                Status::Allocated,
                Status::Stale
            ]
        );
    }

    #[test]
    fn every_status_but_those_with_a_holder_or_a_deletion_can_be_deleted() {
        let deletable: Vec<_> = Status::ALL
            .into_iter()
            .filter(|status| Transition::delete(*status).is_some())
            .collect();
        let expected = [
            Status::Provisioning,
            Status::Available,
            Status::DeletionFailed,
            Status::Stale,
            Status::Quarantined,
        ];
        assert_eq!(deletable, expected);
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
