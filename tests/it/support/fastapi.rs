//! The FastAPI service's view of the pool's table.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use sandbox_broker::store::Item;

const STATUSES: [&str; 6] = [
    "available",
    "allocated",
    "pending_deletion",
    "stale",
    "deletion_failed",
    "deleted",
];
/// The attributes that the service converts to integers, where they are set.
const INTEGERS: [&str; 9] = [
    "allocated_at",
    "lab_duration_hours",
    "deletion_requested_at",
    "deletion_retry_count",
    "last_synced",
    "created_at",
    "updated_at",
    "niosxaas_cleaned_at",
    "deleted_at",
];

/// Reads an item as the service's listing reads every item of its table. Returns its status.
///
/// # Panics
/// Where the service fails, with the name of the attribute.
pub fn read(item: &Item) -> &str {
    let text = |name: &str| {
        let value = item.get(name).and_then(|value| value.as_s().ok());
        value.unwrap_or_else(|| panic!("{name} of {item:?}"))
    };
    for name in ["sandbox_id", "name", "external_id"] {
        text(name);
    }
    for name in INTEGERS {
        let is_integer = item.get(name).is_none_or(|value| {
            value.is_null() || value.as_n().is_ok_and(|text| text.parse::<i64>().is_ok())
        });
        assert!(is_integer, "{name} of {item:?}");
    }
    let status = text("status");
    assert!(STATUSES.contains(&status.as_str()), "status of {item:?}");
    status
}

/// Classifies a NIOSXaaS record as the service's dashboard does. Returns `None` for any other item.
pub fn niosxaas_outcome(item: &Item) -> Option<&'static str> {
    if !item["PK"].as_s().unwrap().starts_with("NIOSXAAS#") {
        return None;
    }
    let is_skipped = item["niosxaas_cleanup_skipped"] == AttributeValue::Bool(true);
    let reason = item["niosxaas_cleanup_failed_reason"].as_s().unwrap();
    let is_failed = !reason.is_empty() && reason != "N/A";
    Some(match (is_skipped, is_failed) {
        (false, false) if item["niosxaas_cleaned_at"].is_n() => "cleaned",
        (true, false) => "skipped",
        (false, true) => "failed",
        _ => panic!("{item:?} counts twice or not at all"),
    })
}

/// Counts texts.
pub fn counted<'a>(texts: impl Iterator<Item = &'a str>) -> HashMap<&'a str, u64> {
    let mut counts = HashMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts
}
