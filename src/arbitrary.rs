//! Proptest strategies for hostile input, used by unit tests of code that parses input.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use axum::http::HeaderValue;
use proptest::{collection, prelude::*};
use serde_json::Value;

type Item = std::collections::HashMap<String, AttributeValue>;

/// Any text: empty, short, very long, ASCII or not.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => any::<String>(),
        6 => "[ -~]{0,40}",
        6 => "[!-~]{1,300}",
        1 => Just("x".repeat(20_000)),
        1 => Just("\u{1F600}".repeat(2_000)),
    ]
}

/// Any value that an HTTP header can carry.
pub(crate) fn header_value() -> impl Strategy<Value = HeaderValue> {
    let bytes = prop_oneof![
        6 => collection::vec(any::<u8>(), 0..400),
        6 => "[ -~\\t]{0,400}".prop_map(String::into_bytes),
        1 => Just(vec![b','; 60_000]),
    ];
    bytes.prop_filter_map("not a header value", |bytes| {
        HeaderValue::from_bytes(&bytes).ok()
    })
}

/// Any number in text form, in range or not.
pub(crate) fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        (-5_i64..5).prop_map(|number| number.to_string()),
        "[-+]?[0-9]{0,40}(\\.[0-9]{0,5})?(e[0-9]{1,4})?",
    ]
}

/// Any number that DynamoDB accepts.
fn stored_number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-5_i64..5).prop_map(|number| number.to_string()),
        "-?[1-9][0-9]{0,37}",
        "-?[0-9]\\.[0-9]{1,30}(E[-+]?[1-9][0-9]?)?",
    ]
}

/// Any JSON value.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            collection::hash_map(".{0,12}", inner, 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Any DynamoDB attribute value.
pub(crate) fn attribute() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        text().prop_map(AttributeValue::S),
        stored_number().prop_map(AttributeValue::N),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null(true)),
        collection::vec(any::<u8>(), 0..20).prop_map(|bytes| AttributeValue::B(Blob::new(bytes))),
        collection::vec(text(), 1..3).prop_map(AttributeValue::Ss),
        collection::vec(stored_number(), 1..3).prop_map(AttributeValue::Ns),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(AttributeValue::L),
            collection::hash_map(".{0,8}", inner, 0..4).prop_map(AttributeValue::M),
        ]
    })
}

/// `item` with up to three of its attributes removed or replaced by arbitrary values.
pub(crate) fn corrupted(item: Item) -> impl Strategy<Value = Item> {
    let mut names: Vec<_> = item.keys().cloned().collect();
    names.sort();
    let change = (
        proptest::sample::select(names),
        proptest::option::weighted(0.8, attribute()),
    );
    collection::vec(change, 0..4).prop_map(move |changes| {
        let mut item = item.clone();
        for (name, value) in changes {
            match value {
                Some(value) => item.insert(name, value),
                None => item.remove(&name),
            };
        }
        item
    })
}
