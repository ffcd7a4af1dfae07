//! Identifiers that arrive as text. Their rules hold for input only: a stored text is accepted as it is.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
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
    /// A character that is not printable.
    #[error("has a control character at position {position}")]
    NotPrintable {
        /// Position of the first such character, counted from 1.
        position: usize,
    },
    /// The text that stands for a variable without a value, or a variable that was not expanded.
    #[error(
        "is {0:?}, which is a variable that was not set or not expanded: every play that sends it would share one \
         sandbox"
    )]
    Placeholder(String),
}

/// The maximum length of an identifier, in characters. In UTF-8 it has at most four times as many bytes, within the
/// 2048 bytes that DynamoDB allows for the hash key of a table or an index.
pub const MAX_TEXT: usize = 256;

/// The texts by which shells and templates show a variable without a value, in lower case.
const UNSET: [&str; 8] = [
    "null",
    "undefined",
    "none",
    "nil",
    "(null)",
    "<nil>",
    "<no value>",
    "[object object]",
];

/// The beginnings of an expression in a template. `[[` is Instruqt's.
const TEMPLATES: [&str; 2] = ["{{", "[["];

/// The maximum length of a reason, in characters.
pub const MAX_REASON: usize = 500;

/// Decodes UTF-8, or else Latin-1, which is how HTTP libraries that know no UTF-8 send a header. Trims white space.
fn printable(raw: &[u8]) -> Result<Cow<'_, str>, InvalidText> {
    let decoded = str::from_utf8(raw).map_or_else(
        |_| Cow::Owned(raw.iter().copied().map(char::from).collect::<String>()),
        Cow::Borrowed,
    );
    let text = match decoded {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    };
    check_printable(&text, MAX_TEXT)?;
    Ok(text)
}

/// Requires 1 to `max` printable characters.
pub(super) fn check_printable(text: &str, max: usize) -> Result<(), InvalidText> {
    if text.is_empty() {
        return Err(InvalidText::Empty);
    }
    if let Some(at) = text.chars().position(|char| !is_printable(char)) {
        return Err(InvalidText::NotPrintable { position: at + 1 });
    }
    let got = text.chars().count();
    if got > max {
        return Err(InvalidText::TooLong { got, max });
    }
    Ok(())
}

/// Returns a text of another system as one line of at most `max` printable characters.
#[must_use]
pub fn one_line(text: &str, max: usize) -> String {
    let words = text.split(|char: char| char.is_whitespace() || !is_printable(char));
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(max).collect()
}

/// Returns whether a character may stand in an identifier: neither a control character nor one that breaks a line,
/// changes the direction or meaning of the text around it, or has no width, in a log or on a page. Characters that join
/// others are printable: names and emoji contain them.
#[must_use]
pub fn is_printable(char: char) -> bool {
    !char.is_control()
        && !matches!(
            char,
            '\u{AD}' | '\u{61C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
        )
}

/// Rejects a placeholder: a text that stands for a variable without a value, or for one that was not expanded.
fn not_a_placeholder(text: &str) -> Result<(), InvalidText> {
    let is_unset = UNSET.iter().any(|unset| text.eq_ignore_ascii_case(unset));
    let is_variable = |rest: &str| {
        rest.starts_with(|char: char| char.is_ascii_alphabetic() || "_{(".contains(char))
    };
    let has_variable = text.split('$').skip(1).any(is_variable);
    let has_template = TEMPLATES.iter().any(|opening| text.contains(opening));
    if is_unset || has_variable || has_template {
        return Err(InvalidText::Placeholder(text.to_owned()));
    }
    Ok(())
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident $(, $check:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses input: 1 to 256 printable characters in UTF-8, or else in Latin-1. White space around them is
            /// ignored.
            ///
            /// # Errors
            /// [`InvalidText`].
            pub fn parse(raw: impl AsRef<[u8]>) -> Result<Self, InvalidText> {
                let text = printable(raw.as_ref())?;
                $($check(&text)?;)?
                Ok(Self(text.into()))
            }

            /// Accepts any stored text: another service, or another version, may have other rules for input.
            #[must_use]
            pub fn stored(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
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
    /// The id of a caller: one student's play of a lab. Only callers hold sandboxes. A placeholder is rejected, because
    /// a whole class would share it; in a key or a lab it does no harm, because the caller distinguishes the plays.
    CallerId, not_a_placeholder
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

/// The reason of an action, in the words of its author: 1 to 500 printable characters in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Reason(String);

impl Reason {
    /// Parses input. White space around it is ignored.
    ///
    /// # Errors
    /// [`InvalidText`].
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let text = text.trim();
        check_printable(text, MAX_REASON)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the reason that a job states in a text that is not empty. Unprintable characters become spaces, and a text
    /// that is too long is shortened.
    #[must_use]
    pub(crate) fn of_job(text: &str) -> Self {
        let printable = |char| if is_printable(char) { char } else { ' ' };
        Self(text.chars().map(printable).take(MAX_REASON).collect())
    }

    /// Returns the reason as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reason {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        Self::parse(&text)
    }
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
    fn reason_is_trimmed_bounded_and_in_one_line() {
        let read = |text: &str| serde_json::from_value::<Reason>(text.into());
        assert_eq!(read(" broken DNS ").unwrap().as_str(), "broken DNS");
        assert!(read(&"é".repeat(500)).is_ok());
        for (text, fault) in [
            (" ".to_owned(), "is empty"),
            ("é".repeat(501), "501 characters; at most 500"),
            ("a\nb".to_owned(), "control character at position 2"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn identifier_is_trimmed_and_bounded() {
        assert_eq!(CallerId::parse("  play-1\t").unwrap().as_str(), "play-1");
        assert_eq!(CallerId::parse(" "), Err(InvalidText::Empty));
        for text in ["x", "é", "\u{1F600}"] {
            assert!(CallerId::parse(text.repeat(256)).is_ok());
            assert_eq!(
                CallerId::parse(text.repeat(257)),
                Err(InvalidText::TooLong { got: 257, max: 256 })
            );
        }
    }

    #[test]
    fn identifier_is_any_printable_text() {
        for text in [
            "Jane Doe",
            "Cloud Security 101",
            "Zoë",
            "学生-7",
            "فاطمة",
            "\u{1F469}\u{200D}\u{1F4BB}",
            "a\u{A0}b",
        ] {
            assert_eq!(CallerId::parse(text).unwrap().as_str(), text);
        }
        // Latin-1, as sent by a client that knows no UTF-8.
        assert_eq!(CallerId::parse(b"Zo\xEB").unwrap().as_str(), "Zoë");
        for (raw, position) in [
            (b"a\tb".as_slice(), 2),
            (b"ab\x7f", 3),
            (b"\x85caf\xE9 \x85x", 6),
            ("a\u{202E}b".as_bytes(), 2),
            ("a\u{2028}b".as_bytes(), 2),
            ("\u{200B}".as_bytes(), 1),
            ("a\u{200F}b".as_bytes(), 2),
        ] {
            assert_eq!(
                CallerId::parse(raw),
                Err(InvalidText::NotPrintable { position })
            );
        }
    }

    #[test]
    fn caller_is_no_placeholder() {
        for text in [
            "null",
            "NULL",
            "undefined",
            "None",
            "nil",
            "(null)",
            "<no value>",
            "[object Object]",
            "${INSTRUQT_PARTICIPANT_ID}",
            "$INSTRUQT_PARTICIPANT_ID",
            "$_id",
            "play-$HOSTNAME",
            "$(hostname)",
            "{{ participant }}",
            "[[ Instruqt-Var key=\"ID\" hostname=\"shell\" ]]",
        ] {
            assert_eq!(
                CallerId::parse(text),
                Err(InvalidText::Placeholder(text.to_owned()))
            );
            assert!(IdempotencyKey::parse(text).is_ok() && LabId::parse(text).is_ok());
        }
        for text in [
            "nullify",
            "none-1",
            "Nil Armstrong",
            "$5",
            "5$",
            "a{b}",
            "[1]",
        ] {
            assert!(CallerId::parse(text).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_identifier_within_its_bounds_or_a_fault(raw in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..600),
            crate::arbitrary::text().prop_map(String::into_bytes),
        ]) {
            match SandboxId::parse(&raw) {
                Ok(id) => {
                    let text = id.as_str();
                    prop_assert_eq!(text.trim(), text);
                    prop_assert!((1..=MAX_TEXT).contains(&text.chars().count()));
                    prop_assert!(text.len() <= 1024, "within the bounds of DynamoDB's keys");
                    prop_assert!(!text.chars().any(char::is_control));
                    prop_assert_eq!(SandboxId::parse(text), Ok(id.clone()));
                }
                Err(fault) => prop_assert!(!fault.to_string().chars().any(char::is_control)),
            }
        }

        #[test]
        fn white_space_around_an_identifier_is_ignored(text in "[!-~]([ -~]{0,98}[!-~])?", space in "[ \t\r\n]{0,9}") {
            let id = SandboxId::parse(format!("{space}{text}{space}")).unwrap();
            prop_assert_eq!(id.as_str(), text);
        }

        #[test]
        fn header_in_latin_1_and_in_utf_8_is_the_same_caller(name in "[À-ÿ][a-z]{0,20}") {
            let latin_1: Vec<u8> = name.chars().map(|char| u8::try_from(char).unwrap()).collect();
            prop_assert_eq!(CallerId::parse(latin_1), CallerId::parse(name));
        }

        #[test]
        fn stored_text_is_taken_as_it_is(text in any::<String>()) {
            let caller = CallerId::stored(text.as_str());
            prop_assert_eq!(caller.as_str(), text);
        }
    }
}
