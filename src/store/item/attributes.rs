//! The attributes of stored items, read tolerantly.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{Item, ItemFault};
use crate::{clock::UnixSeconds, domain::MAX_REASON};

/// The attributes of a stored item. Only those that identify a sandbox and its state can make it unreadable; any other
/// may be of another type than expected, because another service may write it, and then counts as absent. NULL, which
/// boto3 writes for None, counts as absent too.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Attributes<'a>(&'a Item);

impl<'a> Attributes<'a> {
    pub(in crate::store) const fn of(item: &'a Item) -> Self {
        Self(item)
    }

    pub(in crate::store) fn get(self, name: &str) -> Option<&'a AttributeValue> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(in crate::store) fn text(self, name: &str) -> Option<&'a str> {
        self.get(name)?.as_s().ok().map(String::as_str)
    }

    pub(in crate::store) fn owned_text(self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// Returns the beginning of a text from an operator. A broker writes no longer ones, and records and other attributes
    /// that contain this one must not get too large for an item.
    pub(in crate::store) fn short_text(self, name: &str) -> Option<String> {
        Some(self.text(name)?.chars().take(MAX_REASON).collect())
    }

    /// Returns a whole number, which may be stored as text.
    pub(in crate::store) fn whole(self, name: &str) -> Option<i64> {
        match self.get(name)? {
            AttributeValue::N(text) | AttributeValue::S(text) => whole(text),
            _ => None,
        }
    }

    /// Returns a whole number that is stored as one. Writes that require an attribute to be as it was read compare
    /// numbers.
    pub(in crate::store) fn number(self, name: &str) -> Option<i64> {
        whole(self.get(name)?.as_n().ok()?)
    }

    /// Returns the first whole number that is not below a stored one. Writes that require that an attribute has not grown
    /// compare the stored number, also one with a fraction, or one beyond the range.
    pub(in crate::store) fn ceiling(self, name: &str) -> Option<i64> {
        self.whole(name).or_else(|| {
            let number: f64 = self.get(name)?.as_n().ok()?.parse().ok()?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a number beyond the range becomes its bound"
            )]
            let below = number.floor() as i64;
            Some(below.saturating_add(1))
        })
    }

    pub(in crate::store) fn time(self, name: &str) -> Option<UnixSeconds> {
        self.whole(name).map(UnixSeconds)
    }

    pub(in crate::store) fn required<T>(
        self,
        name: &'static str,
        value: Option<T>,
        kind: &str,
    ) -> Result<T, ItemFault> {
        value.ok_or_else(|| match self.get(name) {
            None => ItemFault::value(name, "is missing"),
            Some(_) => ItemFault::value(name, format_args!("is not a {kind}")),
        })
    }

    pub(in crate::store) fn required_text(self, name: &'static str) -> Result<&'a str, ItemFault> {
        self.required(name, self.text(name), "text")
    }
}

/// Parses a whole number. Python writes a whole Decimal with a fraction of zeros.
fn whole(text: &str) -> Option<i64> {
    let (whole, zeros) = text.split_once('.').unwrap_or((text, ""));
    let is_whole = zeros.bytes().all(|digit| digit == b'0');
    whole.parse().ok().filter(|_| is_whole)
}
