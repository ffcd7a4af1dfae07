//! The words of the domain: a sandbox, who may hold it, and which states it may pass through.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use crate::clock::UnixSeconds;

/// Why a text from outside is no valid identifier.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidText {
    /// Nothing is left after trimming.
    #[error("is empty")]
    Empty,
    /// More characters than allowed.
    #[error("has {got} characters; at most {max} are allowed")]
    TooLong {
        /// Characters received.
        got: usize,
        /// Characters allowed.
        max: usize,
    },
    /// A character outside the allowed set.
    #[error("has a character at position {position} that is not visible ASCII (0x21 to 0x7E)")]
    NotVisibleAscii {
        /// Position of the first such character, counted from 1.
        position: usize,
    },
}

/// The longest identifier that is accepted, in characters.
pub const MAX_TEXT: usize = 256;

fn visible_ascii(raw: &[u8]) -> Result<&str, InvalidText> {
    let trimmed = raw.trim_ascii();
    if trimmed.is_empty() {
        return Err(InvalidText::Empty);
    }
    if let Some(at) = trimmed.iter().position(|byte| !byte.is_ascii_graphic()) {
        return Err(InvalidText::NotVisibleAscii { position: at + 1 });
    }
    if trimmed.len() > MAX_TEXT {
        return Err(InvalidText::TooLong {
            got: trimmed.len(),
            max: MAX_TEXT,
        });
    }
    str::from_utf8(trimmed).map_err(|fault| InvalidText::NotVisibleAscii {
        position: fault.valid_up_to() + 1,
    })
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads 1 to 256 visible ASCII characters, white space around them ignored.
            ///
            /// # Errors
            /// [`InvalidText`] says what is wrong with the text.
            pub fn parse(raw: impl AsRef<[u8]>) -> Result<Self, InvalidText> {
                visible_ascii(raw.as_ref()).map(|text| Self(text.into()))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidText;

            fn try_from(raw: &[u8]) -> Result<Self, InvalidText> {
                Self::parse(raw)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text! {
    /// The id of a sandbox: the `csp_id` of its CSP account.
    SandboxId
}
text! {
    /// Who asks: one student's play of a lab. The unit that may hold a sandbox.
    CallerId
}
text! {
    /// What makes two requests of one caller the same request. Defaults to the caller's id.
    IdempotencyKey
}
text! {
    /// The lab a play belongs to, stored as `track_name`.
    LabId
}
text! {
    /// The beginning of the names of the sandboxes that a lab may use.
    NamePrefix
}

impl From<&CallerId> for IdempotencyKey {
    fn from(caller: &CallerId) -> Self {
        Self(Arc::clone(&caller.0))
    }
}

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

/// How long an allocation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Hours until a new allocation expires.
    pub lab_duration_hours: u32,
    /// How long after that its holder may still give it back.
    pub grace: Duration,
}

/// The account behind a sandbox, as CSP describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `csp_id`.
    pub sandbox_id: SandboxId,
    /// The account's name.
    pub name: String,
    /// CSP's resource id, `identity/accounts/<uuid>`.
    pub external_id: String,
    /// The Salesforce account, where CSP knows one.
    pub sfdc_account_id: Option<String>,
    /// When CSP created it.
    pub created_at: Option<UnixSeconds>,
}

/// Who holds, or last held, a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The play.
    pub caller: CallerId,
    /// The key it asked with.
    pub key: IdempotencyKey,
    /// Its lab.
    pub lab: Option<LabId>,
}

/// One sandbox as the table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The account.
    pub account: Account,
    /// Its state.
    pub status: Status,
    /// Its holder, kept after the sandbox is given back.
    pub holder: Option<Holder>,
    /// When it was allocated; 0 if it never was.
    pub allocated_at: UnixSeconds,
    /// How long its allocation lasts, in hours.
    pub lab_duration_hours: u32,
    /// When it was given back or expired.
    pub deletion_requested_at: Option<UnixSeconds>,
    /// What the jobs note on it.
    pub upkeep: Upkeep,
}

/// What the jobs note on a sandbox, for the next run and for admins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Attempts to delete it from CSP that failed.
    pub deletion_retry_count: u32,
    /// When the next attempt is due; at once if absent.
    pub next_deletion_at: Option<UnixSeconds>,
    /// Why the last attempt failed.
    pub deletion_error: Option<String>,
    /// When a sync last wrote it.
    pub last_synced: Option<UnixSeconds>,
    /// When anything last wrote it.
    pub updated_at: Option<UnixSeconds>,
    /// When its NIOSXaaS services were deleted.
    pub niosxaas_cleaned_at: Option<UnixSeconds>,
    /// Why its NIOSXaaS services were left alone.
    pub niosxaas_cleanup_skipped: Option<String>,
    /// Why its NIOSXaaS services could not be deleted.
    pub niosxaas_cleanup_failed_reason: Option<String>,
}

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

impl Sandbox {
    /// The sandbox's id.
    #[must_use]
    pub const fn id(&self) -> &SandboxId {
        &self.account.sandbox_id
    }

    /// When the allocation ends; `None` for a sandbox that never had one.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        (self.allocated_at.0 > 0).then(|| self.allocated_at + lab_duration(self.lab_duration_hours))
    }

    /// Whether `caller` is the holder, or was the last one.
    #[must_use]
    pub fn belongs_to(&self, caller: &CallerId) -> bool {
        self.holder
            .as_ref()
            .is_some_and(|holder| &holder.caller == caller)
    }

    /// Whether it was given to this pair, and to no other since.
    #[must_use]
    pub fn is_held_by(&self, caller: &CallerId, key: &IdempotencyKey) -> bool {
        self.holder
            .as_ref()
            .is_some_and(|holder| &holder.caller == caller && &holder.key == key)
    }

    /// Whether the allocation and its grace period are over at `now`.
    #[must_use]
    pub fn is_overdue(&self, now: UnixSeconds, grace: Duration) -> bool {
        self.expires_at()
            .is_none_or(|expires_at| now > expires_at + grace)
    }
}

/// The length of an allocation of so many hours.
#[must_use]
pub fn lab_duration(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_identifier_is_trimmed_and_bounded() {
        assert_eq!(CallerId::parse("  play-1\t").unwrap().as_str(), "play-1");
        assert_eq!(CallerId::parse(" "), Err(InvalidText::Empty));
        assert!(CallerId::parse("x".repeat(256)).is_ok());
        assert_eq!(
            CallerId::parse("x".repeat(257)),
            Err(InvalidText::TooLong { got: 257, max: 256 })
        );
        assert_eq!(
            CallerId::parse("a b"),
            Err(InvalidText::NotVisibleAscii { position: 2 })
        );
        assert_eq!(
            CallerId::parse("é"),
            Err(InvalidText::NotVisibleAscii { position: 1 })
        );
        assert_eq!(
            CallerId::parse(b"ab\x7f"),
            Err(InvalidText::NotVisibleAscii { position: 3 })
        );
    }

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
        fn whatever_is_an_identifier_is_within_its_bounds(raw in proptest::collection::vec(any::<u8>(), 0..600)) {
            let trimmed = raw.trim_ascii();
            let should = (1..=MAX_TEXT).contains(&trimmed.len()) && trimmed.iter().all(u8::is_ascii_graphic);
            match CallerId::parse(&raw) {
                Ok(id) => {
                    prop_assert!(should);
                    prop_assert_eq!(id.as_str().as_bytes(), trimmed);
                    prop_assert_eq!(CallerId::parse(id.as_str()), Ok(id));
                }
                Err(fault) => {
                    prop_assert!(!should);
                    prop_assert!(!fault.to_string().is_empty());
                }
            }
        }

        #[test]
        fn any_identifier_is_read_with_white_space_around_it(text in "[!-~]{1,256}", space in "[ \t\r\n]{0,9}") {
            let id = SandboxId::parse(format!("{space}{text}{space}")).unwrap();
            prop_assert_eq!(id.as_str(), text);
        }

        #[test]
        fn any_text_is_a_status_only_if_it_is_a_name_of_one(text in crate::arbitrary::text()) {
            match text.parse::<Status>() {
                Ok(status) => prop_assert_eq!(status.as_str(), text),
                Err(fault) => prop_assert_eq!(fault.0, text),
            }
        }
    }
}
