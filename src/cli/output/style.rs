//! Cells, which are texts with a style, and the styles of statuses and states.

pub use clap::builder::styling::Style;
use clap::builder::styling::{AnsiColor, Color};

use crate::domain::{Status, one_line};

/// A text of one line with a style.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Cell {
    /// Creates a cell. Control characters of its text are removed.
    #[must_use]
    pub fn new(text: &str, style: Style) -> Self {
        Self {
            text: one_line(text, usize::MAX),
            style,
        }
    }

    /// Creates the cell of a status or state, in its colour.
    #[must_use]
    pub fn status(name: &str) -> Self {
        Self::new(name, status_style(name))
    }

    /// Creates a cell in bold.
    #[must_use]
    pub fn bold(text: &str) -> Self {
        Self::new(text, Style::new().bold())
    }

    /// Creates the cell of a condition that needs attention.
    #[must_use]
    pub fn warning(text: &str) -> Self {
        Self::new(text, colour(AnsiColor::Red).bold())
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Style::new())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.unwrap_or_default().into()
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        number.to_string().into()
    }
}

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// Returns the style of a status of a sandbox, or of the state of a run, a job, a pool or a token.
fn status_style(name: &str) -> Style {
    let Ok(status) = name.parse::<Status>() else {
        return state_style(name);
    };
    match status {
        Status::Available => colour(AnsiColor::Green),
        Status::Allocated => colour(AnsiColor::Cyan),
        Status::Provisioning | Status::PendingDeletion => colour(AnsiColor::Yellow),
        Status::DeletionFailed => colour(AnsiColor::Red),
        Status::Stale | Status::Quarantined => colour(AnsiColor::Magenta),
    }
}

fn state_style(name: &str) -> Style {
    match name {
        "succeeded" | "full" | "live" => colour(AnsiColor::Green),
        "running" | "filling" => colour(AnsiColor::Cyan),
        "paused" | "interrupted" | "at_maximum" => colour(AnsiColor::Yellow),
        "failed" | "overdue" | "late" | "stopped" | "unreadable" => colour(AnsiColor::Red),
        "off" | "revoked" | "expired" | "watched" => Style::new().dimmed(),
        _ => Style::new(),
    }
}
