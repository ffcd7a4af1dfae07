//! The output of the commands over the API: tables for people, JSON for programs.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use serde_json::Value;

use crate::domain::one_line;

/// The longest text in a cell of a table, in characters.
const MAX_CELL: usize = 500;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences, for people.
    #[default]
    Table,
    /// The broker's JSON, one document, for programs.
    Json,
}

/// A table without borders.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// Creates a table with the titles of its columns.
    #[must_use]
    pub fn new(titles: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(titles);
        Self(table)
    }

    /// Adds a row. Control characters of its texts are removed: they could change the terminal.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl fmt::Display>) {
        let cells = cells
            .into_iter()
            .map(|cell| one_line(&cell.to_string(), MAX_CELL));
        self.0.add_row(cells.collect::<Vec<_>>());
    }

    /// Prints the table to stdout.
    pub fn print(&self) {
        for line in self.0.lines() {
            super::print(line.trim_end());
        }
    }
}

/// Prints a document of the API.
pub fn print_json(document: &Value) {
    super::print(format_args!("{document:#}"));
}

/// Prints a remark to stderr, which is no part of the result.
pub fn notice(text: impl fmt::Display) {
    super::print_error(one_line(&text.to_string(), usize::MAX));
}

/// Asks on the terminal for a confirmation. `yes` confirms in advance.
///
/// # Errors
/// A sentence that says how to confirm, if there is no terminal or the answer is no.
pub fn confirm(question: &str, yes: bool) -> Result<(), String> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err("add --yes to confirm: there is no terminal to ask on".to_owned());
    }
    let _ = write!(io::stderr(), "{} [y/N] ", one_line(question, usize::MAX));
    let mut answer = String::new();
    let _ = io::stdin().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err("nothing was changed".to_owned())
    }
}
