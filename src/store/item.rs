//! Items of both tables: their primary keys, and their conversion to and from domain types.

mod attributes;
mod claim;
mod lease;
mod niosxaas;
mod quarantine;
mod readiness;
mod sandbox;
mod tombstone;

use std::{collections::HashMap, fmt::Display};

use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use thiserror::Error;

pub(super) use self::{
    attributes::Attributes,
    claim::{claim_item, claim_ttl},
    niosxaas::{as_sandbox, niosxaas_record, read_niosxaas_record, upgraded_niosxaas_record},
    quarantine::QUARANTINE_ATTRIBUTES,
    readiness::CHECK_ATTRIBUTES,
    sandbox::{new_sandbox, reinstated_sandbox},
    tombstone::tombstone,
};
pub use self::{
    claim::{AllocationRef, StoredClaim},
    sandbox::read_sandbox,
    tombstone::Tombstone,
};
use crate::domain::{CallerId, IdempotencyKey, SandboxId};

/// One item, as the SDK represents it.
pub type Item = HashMap<String, AttributeValue>;

pub(super) const SANDBOX_PREFIX: &str = "SBX#";
pub(super) const SANDBOX_SORT: &str = "META";
/// The number of partitions of the tombstones. Inserting a sandbox and deleting it take two write units each on its
/// tombstone, and a partition takes 1,000 a second: with four, tombstones are not the first limit of the tables.
pub(super) const TOMBSTONE_PARTITIONS: u8 = 4;
pub(super) const NIOSXAAS_PREFIX: &str = "NIOSXAAS#";
pub(super) const NIOSXAAS_SORT: &str = "CLEANUP";

/// The reason why a stored item is not a valid sandbox, or why a sandbox cannot be stored.
#[derive(Debug, Error)]
pub enum ItemFault {
    /// The attributes cannot be converted to an item.
    #[error(transparent)]
    Shape(#[from] serde_dynamo::Error),
    /// The value of an attribute is invalid.
    #[error("{attribute}: {fault}")]
    Value {
        /// The attribute's name.
        attribute: &'static str,
        /// The reason why its value is invalid.
        fault: String,
    },
}

impl ItemFault {
    pub(super) fn value(attribute: &'static str, fault: impl Display) -> Self {
        Self::Value {
            attribute,
            fault: fault.to_string(),
        }
    }
}

/// Builds a primary key.
pub(super) fn key(partition: String, sort: &str) -> Item {
    HashMap::from([
        ("PK".to_owned(), AttributeValue::S(partition)),
        ("SK".to_owned(), AttributeValue::S(sort.to_owned())),
    ])
}

/// Returns the primary key of a sandbox.
pub(super) fn sandbox_key(id: &SandboxId) -> Item {
    key(format!("{SANDBOX_PREFIX}{id}"), SANDBOX_SORT)
}

/// Returns the primary key of the tombstone of a sandbox.
#[must_use]
pub fn tombstone_key(id: &SandboxId) -> Item {
    let number = Sha256::digest(id.as_str())[0] % TOMBSTONE_PARTITIONS;
    key(tombstone_partition(number), id.as_str())
}

/// Returns the key of a partition of tombstones, with a number below [`TOMBSTONE_PARTITIONS`].
pub(super) fn tombstone_partition(number: u8) -> String {
    format!("TOMBSTONES#{number}")
}

/// Returns the primary key of the claim of a (caller, key) pair. The pair is hashed to bound the length of the key.
/// The zero byte between the two texts, which no header can contain, keeps different pairs apart.
pub(super) fn claim_key(caller: &CallerId, idempotency_key: &IdempotencyKey) -> Item {
    let digest = Sha256::new()
        .chain_update(caller.as_str())
        .chain_update([0])
        .chain_update(idempotency_key.as_str())
        .finalize();
    key(format!("CLAIM#{}", URL_SAFE_NO_PAD.encode(digest)), "CLAIM")
}

/// Returns the primary key of the schema item.
pub(super) fn schema_key() -> Item {
    key("SCHEMA".to_owned(), "SCHEMA")
}

/// Returns the partition key of an item.
pub(super) fn partition_of(item: &Item) -> Option<&String> {
    item.get("PK")?.as_s().ok()
}

/// Builds an attribute value of type string.
pub(super) fn string(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Builds an attribute value of type number.
pub(super) fn number(value: impl Into<i64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// Returns an attribute that is a whole number.
pub(super) fn integer(item: Option<&Item>, name: &str) -> Option<i64> {
    item?.get(name)?.as_n().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_different_pairs_have_different_keys() {
        let key_of = |caller: &str, key: &str| {
            claim_key(
                &CallerId::parse(caller).unwrap(),
                &IdempotencyKey::parse(key).unwrap(),
            )["PK"]
                .clone()
        };
        assert_ne!(key_of("ab", "c"), key_of("a", "bc"));
        assert_eq!(key_of("ab", "c"), key_of("ab", "c"));
    }
}
