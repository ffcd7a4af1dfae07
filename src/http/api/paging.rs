//! The parameters of listings that are read page by page.

use crate::http::error::{ApiError, ErrorCode};

/// The number of entries on a page, unless the request states one.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

/// Checks the number of entries on a page.
///
/// # Errors
/// [`ErrorCode::InvalidParameter`].
pub(super) fn page_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(ApiError::new(
            ErrorCode::InvalidParameter,
            format!("limit must be a number from 1 to {MAX_LIMIT}."),
        )),
    }
}

/// Returns the position in a cursor; `None` for the first page.
///
/// # Errors
/// [`ErrorCode::InvalidCursor`] if `decode` finds no position of this listing in it.
pub(super) fn page_start<P>(
    cursor: Option<String>,
    decode: impl FnOnce(&str) -> Option<P>,
) -> Result<Option<P>, ApiError> {
    non_empty(cursor)
        .map(|cursor| decode(&cursor).ok_or_else(|| ErrorCode::InvalidCursor.into()))
        .transpose()
}

/// Returns a parameter that is not empty: a form sends an empty one for a field without text.
pub(super) fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
