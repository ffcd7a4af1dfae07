//! Cursors of listings: opaque texts that encode where the next page starts.

use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use super::item::{Item, SANDBOX_PREFIX, SANDBOX_SORT};
use crate::domain::Status;

/// Encodes the values of a cursor as a text that is safe in a URL.
pub(super) fn encode(values: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::json!(values).to_string())
}

/// Decodes the values of a cursor. Returns `None` if the text is no cursor with such values.
pub(super) fn decode<T: DeserializeOwned>(cursor: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Returns whether DynamoDB takes `text` as a sort key.
pub(super) fn is_sort_key(text: &str) -> bool {
    (1..=1024).contains(&text.len())
}

/// A position in a listing of one status, or of all sandboxes: the key of the last sandbox before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    key: Item,
    status: Option<Status>,
}

/// Returns the attributes of a position, in their order in a cursor.
const fn names(status: Option<Status>) -> &'static [&'static str] {
    if status.is_some() {
        &["PK", "SK", "status", "allocated_at"]
    } else {
        &["PK", "SK"]
    }
}

impl Position {
    /// Returns the position after `item`; `None` if the item lacks an attribute of the key.
    pub(super) fn of(item: &Item, status: Option<Status>) -> Option<Self> {
        let key = names(status)
            .iter()
            .map(|name| Some(((*name).to_owned(), item.get(*name)?.clone())))
            .collect::<Option<_>>()?;
        Some(Self { key, status })
    }

    /// Returns the key for `ExclusiveStartKey`.
    pub(super) fn into_key(self) -> Item {
        self.key
    }

    /// Decodes a cursor. Returns `None` if it is not a cursor of a listing of `status`.
    #[must_use]
    pub fn from_cursor(cursor: &str, status: Option<Status>) -> Option<Self> {
        Self::from_values(&decode::<Vec<String>>(cursor)?, status)
    }

    /// Encodes the position as a text that is safe in a URL.
    #[must_use]
    pub fn to_cursor(&self) -> String {
        let values: Vec<_> = names(self.status)
            .iter()
            .filter_map(|name| match self.key.get(*name)? {
                AttributeValue::S(text) | AttributeValue::N(text) => Some(text),
                _ => None,
            })
            .collect();
        encode(&values)
    }

    fn from_values(values: &[String], status: Option<Status>) -> Option<Self> {
        let names = names(status);
        let key: Item = names
            .iter()
            .zip(values)
            .map(|(name, value)| {
                let value = match *name {
                    "allocated_at" if !is_decimal(value) => return None,
                    "allocated_at" => AttributeValue::N(value.clone()),
                    _ => AttributeValue::S(value.clone()),
                };
                Some(((*name).to_owned(), value))
            })
            .collect::<Option<_>>()?;
        let (partition, sort) = (values.first()?, values.get(1)?);
        // DynamoDB's bounds of key attributes, in bytes.
        let is_key = (1..=2048).contains(&partition.len()) && is_sort_key(sort);
        let is_sandbox =
            status.is_none() || (partition.starts_with(SANDBOX_PREFIX) && sort == SANDBOX_SORT);
        let is_of_status =
            status.is_none_or(|status| values.get(2).map(String::as_str) == Some(status.as_str()));
        (values.len() == names.len() && is_key && is_sandbox && is_of_status)
            .then_some(Self { key, status })
    }
}

/// Returns whether DynamoDB takes `text` as a number. An unreadable item may have any number as `allocated_at`, and the
/// next page may start after it.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits.len() <= 38 && is_digits(whole) && is_digits(fraction)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cursor_decodes_for_its_own_listing_only() {
        let values = ["SBX#1", "META", "stale", "0"].map(str::to_owned);
        let position = Position::from_values(&values, Some(Status::Stale)).unwrap();
        let cursor = position.to_cursor();
        let read = |status| Position::from_cursor(&cursor, status);
        assert_eq!(read(Some(Status::Stale)), Some(position));
        assert_eq!(read(Some(Status::Available)), None);
        assert_eq!(read(None), None);
    }

    #[test]
    fn invalid_cursor_is_rejected() {
        let of = |values: &[&str]| URL_SAFE_NO_PAD.encode(serde_json::json!(values).to_string());
        let status = Some(Status::Stale);
        for cursor in [
            String::from("!"),
            String::from("e30"),
            of(&[]),
            of(&["SBX#1", "META", "stale"]),
            of(&["SBX#1", "META", "stale", "soon"]),
            of(&["SCHEMA", "SCHEMA", "stale", "0"]),
            of(&["SBX#1", "META", "stale", "0", "more"]),
        ] {
            assert_eq!(Position::from_cursor(&cursor, status), None, "{cursor}");
        }
        let too_long = "a".repeat(3000);
        for values in [["", ""], ["SBX#1", ""], ["", "META"], [&too_long, "META"]] {
            assert_eq!(
                Position::from_cursor(&of(&values), None),
                None,
                "{values:?}"
            );
        }
    }

    fn status() -> impl Strategy<Value = Option<Status>> {
        proptest::option::of(proptest::sample::select(Status::ALL.to_vec()))
    }

    proptest! {
        #[test]
        fn any_text_is_a_complete_cursor_or_is_rejected(
            text in prop_oneof![
                crate::arbitrary::text(),
                proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
                crate::arbitrary::json().prop_map(|json| URL_SAFE_NO_PAD.encode(json.to_string())),
                Just(URL_SAFE_NO_PAD.encode("[".repeat(100_000))),
            ],
            status in status(),
        ) {
            if let Some(position) = Position::from_cursor(&text, status) {
                prop_assert_eq!(position.key.len(), if status.is_some() { 4 } else { 2 });
            }
        }

        #[test]
        fn any_position_decodes_from_its_cursor(
            id in "[!-~]{1,256}",
            status in status(),
            allocated_at in "-?[0-9]{1,19}(\\.[0-9]{1,9})?",
        ) {
            let mut values = vec![format!("SBX#{id}"), "META".to_owned()];
            values.extend(status.map(|status| status.to_string()));
            values.extend(status.map(|_| allocated_at.clone()));
            let position = Position::from_values(&values, status).unwrap();
            let cursor = position.to_cursor();
            prop_assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(Position::from_cursor(&cursor, status), Some(position));
        }

        #[test]
        fn accepted_cursor_is_a_key_within_the_bounds_of_dynamodb(
            values in proptest::collection::vec(prop_oneof![".{0,3000}", Just("META".to_owned()), "SBX#[a-z]{1,9}"], 0..5),
            status in status(),
        ) {
            let cursor = URL_SAFE_NO_PAD.encode(serde_json::json!(values).to_string());
            if let Some(position) = Position::from_cursor(&cursor, status) {
                let length = |name: &str| position.key[name].as_s().unwrap().len();
                prop_assert!((1..=2048).contains(&length("PK")) && (1..=1024).contains(&length("SK")));
            }
        }
    }
}
