//! Unreadable items of the pool: a view of each for operators, and their number as counted by the last scan.

use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{
    PoolStore, StoreError,
    item::{self, Item, ItemFault, integer, number},
};
use crate::{clock::UnixSeconds, domain::UnreadableCount};

/// An item of the pool that is no valid sandbox, as operators see it. Jobs leave it as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadableItem {
    /// Its partition key, `SBX#{sandbox_id}`.
    pub key: String,
    /// The reason why it is unreadable.
    pub fault: String,
    /// Its attributes as JSON. Numbers are numbers, texts are texts, and binary values are texts in base64.
    pub attributes: Map<String, Value>,
}

impl UnreadableItem {
    pub(super) fn new(item: Item, fault: &ItemFault) -> Self {
        Self {
            key: item::partition_of(&item).cloned().unwrap_or_default(),
            fault: fault.to_string(),
            attributes: to_json(item),
        }
    }
}

fn to_json(attributes: Item) -> Map<String, Value> {
    attributes
        .into_iter()
        .map(|(name, value)| (name, value_to_json(value)))
        .collect()
}

fn value_to_json(value: AttributeValue) -> Value {
    fn list<T>(values: Vec<T>, convert: impl Fn(T) -> Value) -> Value {
        Value::Array(values.into_iter().map(convert).collect())
    }
    let base64 = |blob: aws_sdk_dynamodb::primitives::Blob| Value::String(STANDARD.encode(blob));
    match value {
        AttributeValue::S(text) => Value::String(text),
        AttributeValue::N(text) => number_to_json(text),
        AttributeValue::Bool(flag) => Value::Bool(flag),
        AttributeValue::B(blob) => base64(blob),
        AttributeValue::L(values) => list(values, value_to_json),
        AttributeValue::M(attributes) => Value::Object(to_json(attributes)),
        AttributeValue::Ss(texts) => list(texts, Value::String),
        AttributeValue::Ns(texts) => list(texts, number_to_json),
        AttributeValue::Bs(blobs) => list(blobs, base64),
        _ => Value::Null,
    }
}

/// Converts a number. One that JSON cannot represent exactly becomes a text.
fn number_to_json(text: String) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return Value::from(whole);
    }
    match text.parse::<f64>() {
        Ok(number) if number.to_string() == text => Value::from(number),
        _ => Value::String(text),
    }
}

fn count_key() -> Item {
    item::key("UNREADABLE".to_owned(), "UNREADABLE")
}

impl PoolStore {
    /// Records the number of unreadable items that a scan of the whole pool's table has found.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_unreadable(
        &self,
        count: usize,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut item = count_key();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        item.insert("unreadable".to_owned(), number(count));
        item.insert("counted_at".to_owned(), number(now.0));
        self.put_companion_item(item)
            .send()
            .await
            .map(drop)
            .map_err(|error| StoreError::from_sdk("PutItem", error))
    }

    /// Returns the number of unreadable items that the last such scan has found; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unreadable(&self) -> Result<Option<UnreadableCount>, StoreError> {
        let item = self.get_item(&self.table.companion, count_key()).await?;
        let integer = |name| integer(item.as_ref(), name);
        Ok(integer("unreadable")
            .zip(integer("counted_at"))
            .map(|(count, at)| UnreadableCount {
                count: u64::try_from(count).unwrap_or(0),
                at: UnixSeconds(at),
            }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::attribute;

    #[test]
    fn types_of_attributes_can_be_told_apart() {
        for (value, json) in [
            (AttributeValue::S("5".to_owned()), serde_json::json!("5")),
            (AttributeValue::N("5".to_owned()), serde_json::json!(5)),
            (AttributeValue::N("1.5".to_owned()), serde_json::json!(1.5)),
            (
                AttributeValue::N("9".repeat(30)),
                serde_json::json!("9".repeat(30)),
            ),
            (AttributeValue::Null(true), Value::Null),
            (
                AttributeValue::Ss(vec!["a".to_owned()]),
                serde_json::json!(["a"]),
            ),
        ] {
            assert_eq!(value_to_json(value), json);
        }
    }

    proptest! {
        #[test]
        fn any_attribute_has_a_json_form(value in attribute()) {
            prop_assert!(!value_to_json(value).to_string().is_empty());
        }
    }
}
