//! The output of the commands over the API: human-readable tables, or JSON for programs.
//!
//! Texts of the API are shown without control characters, which could manipulate the terminal.

mod progress;
mod prompt;
mod style;
mod table;
pub mod time;

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write as _},
};

use clap::ValueEnum;
use rustix::termios::tcgetwinsize;
use serde_json::Value;

pub use self::{
    progress::Progress,
    prompt::{confirm, confirm_preview},
    style::{Cell, Style},
    table::Table,
};
use super::print_error;
use crate::domain::{is_printable, one_line};

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Human-readable tables and sentences.
    #[default]
    Table,
    /// The JSON of the broker's API, for programs.
    Json,
}

/// Returns the columns and rows of the terminal that stdout is; `None` if stdout is no terminal, or one without a size.
#[must_use]
pub fn terminal_size() -> Option<(usize, usize)> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = tcgetwinsize(stdout).ok()?;
    (size.ws_col > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

/// Returns the width of the terminal that stdout is, in columns; `None` as in [`terminal_size`].
#[must_use]
pub fn terminal_width() -> Option<usize> {
    terminal_size().map(|(columns, _)| columns)
}

/// Writes lines, which may contain colours, to stdout. The colours are removed unless it is a terminal that shows them.
///
/// # Errors
/// The error of stdout.
pub fn write_lines(lines: &[String]) -> io::Result<()> {
    let mut text = lines.join("\n");
    if !lines.is_empty() {
        text.push('\n');
    }
    let mut stdout = anstream::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes one line of plain text to stdout.
///
/// # Errors
/// The error of stdout.
pub fn write_line(text: impl fmt::Display) -> io::Result<()> {
    write_lines(&[printable(&text.to_string())])
}

/// Writes a text of several lines to stdout: without control characters to a terminal, unchanged to a file or a pipe.
///
/// # Errors
/// The error of stdout.
pub fn write_text(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    if stdout.is_terminal() {
        let lines: Vec<_> = text.lines().map(printable).collect();
        return write_lines(&lines);
    }
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a document of the API to stdout.
///
/// # Errors
/// The error of stdout.
pub fn write_json(document: &Value) -> io::Result<()> {
    let text = escape_controls(&format!("{document:#}\n"));
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints a remark, which is no part of the result, to stderr as one line.
pub fn notice(text: impl fmt::Display) {
    let text = one_line(&text.to_string(), usize::MAX);
    progress::suspended(|| print_error(text));
}

/// Replaces control characters, which could manipulate the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let replaced = |char| if is_printable(char) { char } else { '\u{FFFD}' };
    text.chars().map(replaced).collect()
}

/// Escapes the control characters in serialized JSON. The serializer has escaped only those below U+0020.
#[must_use]
pub fn escape_controls(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        if char == '\n' || is_printable(char) {
            escaped.push(char);
        } else {
            // All of them are in the basic multilingual plane, so each is one unit of UTF-16. Writing to a text cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(char));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn escaped_document_has_no_control_characters_and_the_same_content(text in any::<String>(), name in any::<String>()) {
            let document = json!({ name: [text] });
            let escaped = escape_controls(&format!("{document:#}"));
            prop_assert!(escaped.chars().all(|char| char == '\n' || is_printable(char)), "{escaped:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), document);
        }

        #[test]
        fn printable_text_has_no_control_characters_and_the_same_length(text in any::<String>()) {
            let line = printable(&text);
            prop_assert!(line.chars().all(is_printable));
            prop_assert_eq!(line.chars().count(), text.chars().count());
        }
    }
}
