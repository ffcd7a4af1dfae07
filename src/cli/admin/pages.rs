//! Listings of several pages, written as they arrive.
//!
//! As JSON a listing is one document, which ends after the last page. So an export that fails before cannot be parsed.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::session::Session;
use crate::{
    cli::{
        error::CommandError,
        output::{Table, escape_controls, notice},
    },
    client::{Answer, Call, ClientError},
};

/// The most entries that the API returns on a page.
const PAGE: u64 = 500;

/// A listing of the API.
pub(super) struct Listing {
    /// The call of the first page, without limit and cursor.
    pub(super) call: Call,
    /// The field with the entries.
    pub(super) entries: &'static str,
    /// The field with further entries, which do not count towards the limit.
    pub(super) others: Option<&'static str>,
    /// The most entries to list.
    pub(super) limit: Option<u64>,
}

impl Listing {
    /// Writes all entries. `rows` adds those of a page to the table, and is not called for JSON.
    ///
    /// # Errors
    /// [`CommandError::Incomplete`] if a page after the first one failed.
    pub(super) async fn write<P: DeserializeOwned>(
        &self,
        session: &Session,
        mut table: Table,
        mut rows: impl FnMut(&mut Table, P),
    ) -> Result<(), CommandError> {
        let mut document = JsonDocument::default();
        let mut printed = 0;
        let mut cursor = None;
        let mut pages = Pages::default();
        loop {
            let page = self.page(session, printed, cursor.as_deref()).await;
            let answer = match page.and_then(|answer| pages.add(answer)) {
                Ok(answer) => answer,
                Err(error) if printed > 0 => {
                    let error = Box::new(error);
                    return Err(CommandError::Incomplete { printed, error });
                }
                Err(error) => return Err(error.into()),
            };
            if session.is_json() {
                document.add(&answer.json()?, self.entries, self.others)?;
            } else {
                rows(&mut table, answer.json()?);
                table.write()?;
            }
            let end: PageEnd = answer.json()?;
            printed = end.count.saturating_add(printed);
            cursor = end.cursor;
            if cursor.is_none() || self.limit.is_some_and(|limit| printed >= limit) {
                break;
            }
        }
        if session.is_json() {
            document.end(printed, self.others, cursor.as_deref())?;
        } else if cursor.is_some() {
            notice(format_args!(
                "there may be more than these {printed}: raise --limit"
            ));
        } else if printed == 0 {
            notice(format_args!("no {} found", self.entries));
        }
        Ok(())
    }

    async fn page(
        &self,
        session: &Session,
        printed: u64,
        cursor: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let left = self.limit.map_or(PAGE, |limit| limit - printed);
        let call = self.call.clone().query("limit", Some(left.min(PAGE)));
        session.send(&call.query("cursor", cursor)).await
    }
}

/// The pages of a listing so far.
#[derive(Default)]
pub(super) struct Pages {
    /// Their cursors.
    cursors: BTreeSet<String>,
}

/// The cursor of a page.
#[derive(Deserialize)]
struct PageCursor {
    cursor: Option<String>,
}

impl Pages {
    /// Adds a page.
    ///
    /// # Errors
    /// [`ClientError::NotABroker`] if it leads back to a page before: the listing would never end.
    pub(super) fn add(&mut self, page: Answer) -> Result<Answer, ClientError> {
        let PageCursor { cursor } = page.json()?;
        if cursor.is_none_or(|cursor| self.cursors.insert(cursor)) {
            Ok(page)
        } else {
            Err(page.not_a_broker("a page of the list leads back to one before"))
        }
    }
}

/// The fields of a page after its entries.
#[derive(Deserialize)]
struct PageEnd {
    count: u64,
    cursor: Option<String>,
}

/// The JSON document of a listing, which is written page by page, each entry on a line.
#[derive(Default)]
struct JsonDocument {
    is_begun: bool,
    has_entries: bool,
    others: Vec<Value>,
}

impl JsonDocument {
    /// Writes the entries of a page, and retains the further ones for the end.
    fn add(&mut self, page: &Value, entries: &str, others: Option<&str>) -> io::Result<()> {
        let mut text = String::new();
        if !self.is_begun {
            text = format!("{{\"{entries}\": [");
            self.is_begun = true;
        }
        for entry in page[entries].as_array().into_iter().flatten() {
            text.push_str(if self.has_entries { ",\n" } else { "\n" });
            text.push_str(&entry.to_string());
            self.has_entries = true;
        }
        if let Some(others) = others {
            let others = page[others].as_array();
            self.others.extend(others.into_iter().flatten().cloned());
        }
        write(&text)
    }

    /// Writes the end of the document.
    fn end(&self, count: u64, others: Option<&str>, cursor: Option<&str>) -> io::Result<()> {
        let others = others.map_or_else(String::new, |name| {
            format!("\"{name}\": {}, ", Value::from(self.others.clone()))
        });
        let cursor = Value::from(cursor);
        write(&format!(
            "\n], \"count\": {count}, {others}\"cursor\": {cursor}}}\n"
        ))
    }
}

fn write(json: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(escape_controls(json).as_bytes())?;
    stdout.flush()
}
