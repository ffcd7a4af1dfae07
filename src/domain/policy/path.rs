//! The path of a value in a policy document.

use std::fmt;

/// The characters of a text from a document that a path or a fault shows.
const SHOWN: usize = 60;

/// The path of a value, such as `lab[2].max_held`. Costs nothing until it is shown.
#[derive(Clone, Copy)]
pub(super) enum FieldPath<'a> {
    /// The document itself.
    Document,
    /// A field of the object at a path.
    Field(&'a FieldPath<'a>, &'a str),
    /// An entry of the list at a path.
    Entry(&'a FieldPath<'a>, usize),
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => f.write_str("the document"),
            Self::Field(Self::Document, name) => f.write_str(&key(name)),
            Self::Field(parent, name) => write!(f, "{parent}.{}", key(name)),
            Self::Entry(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Returns a key as a path shows it: in quotes unless it is a plain word.
pub(super) fn key(name: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_-".contains(char);
    if name.is_empty() || name.len() > SHOWN || !name.chars().all(is_plain) {
        return quoted(name);
    }
    name.to_owned()
}

/// Returns the beginning of a text in quotes, on one line and without characters that cannot be seen.
pub(super) fn quoted(text: &str) -> String {
    let beginning = beginning(text);
    let escaped = format!("{beginning:?}");
    let shown = self::beginning(&escaped);
    if beginning.len() < text.len() || shown.len() < escaped.len() {
        return format!("{}…", shown.trim_end_matches('"'));
    }
    escaped
}

/// Returns the first characters of a text.
pub(super) fn beginning(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN).map(|(at, _)| at);
    &text[..end.unwrap_or(text.len())]
}
