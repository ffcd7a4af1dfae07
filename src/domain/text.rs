//! Identifiers that arrive as text: their bounds and their parsing.

use std::{fmt, sync::Arc};

use serde::Serialize;
use thiserror::Error;

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
    }
}
