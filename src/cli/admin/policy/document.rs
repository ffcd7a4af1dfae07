//! A policy document in a file, and its difference from the version in force.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use clap::builder::styling::{AnsiColor, Color};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Check, Fault, Session};
use crate::{
    cli::{
        error::CommandError,
        output::{self, Cell, Style, write_lines},
    },
    client::{Answer, Body, Call, ClientError},
};

/// The media type of TOML.
pub(super) const TOML: &str = "application/toml";
const JSON: &str = "application/json";

/// A policy document as text.
pub(super) struct Document {
    text: String,
    media_type: &'static str,
}

/// A value that differs between two versions.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    path: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Document {
    /// Reads a document from a file, or from stdin if the path is `-`.
    ///
    /// # Errors
    /// [`CommandError::Usage`] if it cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        let text = if path == Path::new("-") {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            fs::read_to_string(path)
        };
        let text = text.map_err(|error| {
            CommandError::Usage(format!("cannot read {}: {error}", path.display()))
        })?;
        Ok(Self {
            media_type: media_type(&text),
            text,
        })
    }

    /// Returns the document as the body of a call.
    pub(super) fn body(&self) -> Body {
        Body::Text {
            media_type: self.media_type,
            text: self.text.clone(),
        }
    }

    /// Returns the changes that the document would make.
    ///
    /// # Errors
    /// [`CommandError::Failed`] if it has faults, which are then written to stdout, one a line.
    pub(super) async fn check(&self, session: &Session) -> Result<(Answer, Check), CommandError> {
        let call = Call::post(["admin", "policy", "check"]).body(self.body());
        let error = match session.send(&call).await {
            Ok(answer) => {
                let check = answer.json()?;
                return Ok((answer, check));
            }
            Err(error) => error,
        };
        let ClientError::Rejected { detail, .. } = &error else {
            return Err(error.into());
        };
        let faults = Fault::all(detail);
        if faults.is_empty() {
            return Err(error.into());
        }
        // The document has faults, also if nobody reads them.
        if session.is_json() {
            let _ = output::write_json(&json!({ "faults": detail["faults"] }));
        }
        for Fault { path, got, takes } in faults.iter().filter(|_| !session.is_json()) {
            let _ = output::write_line(format_args!("{path}: got {got}, takes {takes}"));
        }
        let number = faults.len();
        let noun = if number == 1 { "fault" } else { "faults" };
        Err(CommandError::Failed(format!(
            "the document has {number} {noun}; nothing was changed"
        )))
    }
}

/// Returns the media type of a document: TOML never begins with a brace.
fn media_type(text: &str) -> &'static str {
    let text = text.trim_start_matches('\u{FEFF}').trim_start();
    if text.starts_with('{') { JSON } else { TOML }
}

/// Writes changes, one a line: `+` for a value that is added, `-` for one that is removed, `~` for one that changes.
///
/// # Errors
/// The error of stdout.
pub(super) fn write_changes(changes: &[Change]) -> io::Result<()> {
    // Lines are not cut to the terminal: an operator decides on the complete values.
    let lines: Vec<_> = changes
        .iter()
        .map(|change| change.cell().line(None))
        .collect();
    write_lines(&lines)
}

impl Change {
    fn cell(&self) -> Cell {
        let path = &self.path;
        let (text, colour) = match (&self.before, &self.after) {
            (None, Some(after)) => (format!("+ {path}: {after}"), AnsiColor::Green),
            (Some(before), None) => (format!("- {path}: {before}"), AnsiColor::Red),
            (Some(before), Some(after)) => {
                (format!("~ {path}: {before} -> {after}"), AnsiColor::Yellow)
            }
            (None, None) => (format!("~ {path}"), AnsiColor::Yellow),
        };
        Cell::new(&text, Style::new().fg_color(Some(Color::Ansi(colour))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_follows_from_the_first_character() {
        for text in ["{}", "\n  { \"lab\": [] }", "\u{FEFF}{}"] {
            assert_eq!(media_type(text), JSON, "{text}");
        }
        for text in ["", "[defaults]", "# {\n", "a = {}"] {
            assert_eq!(media_type(text), TOML, "{text}");
        }
    }
}
