//! Identifiers that arrive as text: parsing and bounds.

use std::{fmt, sync::Arc};

use serde::Serialize;
use thiserror::Error;

/// The reason why a text is not a valid identifier.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidText {
    /// Empty after trimming.
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
    /// A character other than visible ASCII.
    #[error("has a character at position {position} that is not visible ASCII (0x21 to 0x7E)")]
    NotVisibleAscii {
        /// Position of the first such character, counted from 1.
        position: usize,
    },
}

/// The maximum length of an identifier, in characters.
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
            /// Parses 1 to 256 visible ASCII characters; white space around them is ignored.
            ///
            /// # Errors
            /// [`InvalidText`].
            pub fn parse(raw: impl AsRef<[u8]>) -> Result<Self, InvalidText> {
                visible_ascii(raw.as_ref()).map(|text| Self(text.into()))
            }

            /// Returns the identifier as text.
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
    /// The id of a sandbox, which is the `csp_id` of its CSP account.
    SandboxId
}
text! {
    /// The id of a caller: one student's play of a lab. Only callers hold sandboxes.
    CallerId
}
text! {
    /// An idempotency key, which distinguishes several allocations of one caller. Defaults to the caller's id.
    IdempotencyKey
}
text! {
    /// The id of the lab that a play belongs to, stored as `track_name`.
    LabId
}
text! {
    /// A prefix of sandbox names, which restricts an allocation to matching sandboxes.
    NamePrefix
}

impl From<&CallerId> for IdempotencyKey {
    fn from(caller: &CallerId) -> Self {
        Self(Arc::clone(&caller.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identifier_is_trimmed_and_bounded() {
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

    proptest! {
        #[test]
        fn identifier_is_accepted_only_within_its_bounds(raw in proptest::collection::vec(any::<u8>(), 0..600)) {
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
        fn white_space_around_an_identifier_is_ignored(text in "[!-~]{1,256}", space in "[ \t\r\n]{0,9}") {
            let id = SandboxId::parse(format!("{space}{text}{space}")).unwrap();
            prop_assert_eq!(id.as_str(), text);
        }
    }
}
