//! Lists of CSP, read to their last page.

use serde_json::value::RawValue;

use super::{CspError, json::Page};

/// The number of pages after which a list is considered endless.
const MAX_PAGES: u32 = 1000;

/// The entries of a list.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The entries on all pages, as they are in the answers.
    pub(super) entries: Vec<Box<RawValue>>,
    /// Why entries are missing, if the list is known to be incomplete.
    pub(super) incomplete: Option<String>,
}

/// Reads a list to its end. `read` requests a page by its query, which is empty for the first.
///
/// # Errors
/// Those of `read`.
pub(super) async fn read_all<F: Future<Output = Result<Page, CspError>>>(
    read: impl Fn(String) -> F,
) -> Result<Entries, CspError> {
    read_pages(MAX_PAGES, read).await
}

/// Reads a list, but at most `max_pages` pages of it: a longer list is incomplete. `read` requests a page by its query,
/// which is empty for the first.
///
/// # Errors
/// Those of `read`.
pub(super) async fn read_pages<F: Future<Output = Result<Page, CspError>>>(
    max_pages: u32,
    read: impl Fn(String) -> F,
) -> Result<Entries, CspError> {
    let first = read(String::new()).await?;
    let mut entries = first.entries;
    let limit = entries.len();
    let total = first.total.unwrap_or(limit);
    let mut incomplete = None;
    for _ in 1..max_pages {
        let count = entries.len();
        if count == 0 || count >= total {
            break;
        }
        let page = match read(format!("?_limit={limit}&_offset={count}")).await {
            // CSP answers the plain request, so it does not know the parameters.
            Err(CspError::Rejected { .. }) => break,
            page => page?,
        };
        let is_first = text_of_first(&page.entries) == text_of_first(&entries);
        if page.entries.is_empty() || is_first {
            break;
        }
        entries.extend(page.entries);
        if page.total.is_some_and(|now| now != total) {
            incomplete = Some("the number of entries changed while CSP listed them".to_owned());
        }
    }
    if entries.len() < total {
        incomplete = Some(format!("CSP lists {} of {total} entries", entries.len()));
    }
    Ok(Entries {
        entries,
        incomplete,
    })
}

fn text_of_first(entries: &[Box<RawValue>]) -> Option<&str> {
    entries.first().map(|entry| entry.get())
}
