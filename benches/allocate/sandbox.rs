//! Sandboxes as functions of their numbers.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

pub fn sandbox_id(number: usize) -> String {
    format!("sandbox-{number:08}")
}

pub fn name(number: usize) -> String {
    format!("lab-adventure-{number:08}")
}

pub fn external_id(number: usize) -> String {
    format!("identity/accounts/00000000-0000-4000-8000-{number:012}")
}

/// The item of an available sandbox, with every attribute that a sync writes.
pub fn sandbox_item(number: usize) -> HashMap<String, AttributeValue> {
    let string = |value: String| AttributeValue::S(value);
    let number_of = |value: i64| AttributeValue::N(value.to_string());
    [
        ("PK", string(format!("SBX#{}", sandbox_id(number)))),
        ("SK", string("META".to_owned())),
        ("sandbox_id", string(sandbox_id(number))),
        ("name", string(name(number))),
        ("external_id", string(external_id(number))),
        ("status", string("available".to_owned())),
        ("allocated_at", number_of(0)),
        ("lab_duration_hours", number_of(4)),
        ("deletion_retry_count", number_of(0)),
        ("created_at", number_of(1_795_000_000)),
        ("updated_at", number_of(1_795_000_000)),
        ("last_synced", number_of(1_795_000_000)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
