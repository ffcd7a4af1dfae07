//! Claims, which map (caller, key) pairs to sandboxes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Item, claim_key, number, partition_of, string};
use crate::{
    clock::UnixSeconds,
    domain::{Holder, Sandbox, SandboxId},
};

/// How long a claim outlives its allocation before the table's TTL may remove it. Only if expiry does not run for this
/// long can the holder of a sandbox lose its claim and be allocated a second one.
const CLAIM_RETENTION: Duration = Duration::from_hours(7 * 24);

/// A reference to one allocation of a sandbox, as claims and the slots of quotas have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationRef {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// The `allocated_at` of the allocation, in Unix seconds.
    pub allocated_at: i64,
}

impl AllocationRef {
    /// Returns the reference to the allocation of `sandbox`.
    #[must_use]
    pub fn of(sandbox: &Sandbox) -> Self {
        Self {
            sandbox_id: sandbox.id().to_string(),
            allocated_at: sandbox.allocated_at.0,
        }
    }
}

/// The stored claim of a (caller, key) pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredClaim {
    /// No item.
    None,
    /// A valid claim.
    Readable(AllocationRef),
    /// An item that is not a valid claim.
    Unreadable,
}

impl StoredClaim {
    /// Converts a claim item. An unreadable one is logged.
    pub(in crate::store) fn read(item: Option<Item>) -> Self {
        let Some(item) = item else { return Self::None };
        let key = partition_of(&item).cloned();
        serde_dynamo::aws_sdk_dynamodb_1::from_item(item).map_or_else(
            |fault| {
                tracing::error!(key, %fault, "unreadable claim will be overwritten");
                Self::Unreadable
            },
            Self::Readable,
        )
    }

    /// Returns whether it refers to the allocation of `sandbox`.
    #[must_use]
    pub fn points_to(&self, sandbox: &Sandbox) -> bool {
        matches!(self, Self::Readable(target) if *target == AllocationRef::of(sandbox))
    }
}

/// Builds the claim of an allocation from `at` until `expires_at`, the end of its grace period.
pub(in crate::store) fn claim_item(
    sandbox: &SandboxId,
    holder: &Holder,
    at: UnixSeconds,
    expires_at: UnixSeconds,
) -> Item {
    let mut claim = claim_key(&holder.caller, &holder.key);
    claim.extend([
        ("caller".to_owned(), string(holder.caller.as_str())),
        ("key".to_owned(), string(holder.key.as_str())),
        ("sandbox_id".to_owned(), string(sandbox.as_str())),
        ("allocated_at".to_owned(), number(at.0)),
        ("expires_at".to_owned(), number(expires_at.0)),
        ("ttl".to_owned(), number(claim_ttl(expires_at).0)),
    ]);
    claim
}

/// Returns when the table's TTL removes the claim of an allocation until `expires_at`, the end of its grace period.
pub(in crate::store) fn claim_ttl(expires_at: UnixSeconds) -> UnixSeconds {
    expires_at + CLAIM_RETENTION
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::corrupted,
        domain::{CallerId, IdempotencyKey},
    };

    proptest! {
        #[test]
        fn any_claim_reads_back(
            sandbox in "[!-~]{1,256}", caller in "[!-~]{1,256}", key in "[!-~]{1,256}", at in any::<i64>(),
        ) {
            let sandbox = SandboxId::parse(sandbox).unwrap();
            let item = claim_item(&sandbox, &holder(&caller, &key), UnixSeconds(at), UnixSeconds(2));
            let target = AllocationRef { sandbox_id: sandbox.to_string(), allocated_at: at };
            prop_assert_eq!(StoredClaim::read(Some(item)), StoredClaim::Readable(target));
        }

        #[test]
        fn any_item_is_a_valid_claim_or_unreadable(item in corrupted(claim_item(
            &SandboxId::parse("1").unwrap(), &holder("play-1", "key-1"), UnixSeconds(1), UnixSeconds(2)
        ))) {
            let is_claim = item.get("sandbox_id").is_some_and(AttributeValue::is_s)
                && item.get("allocated_at").and_then(|at| at.as_n().ok()).is_some_and(|at| at.parse::<i64>().is_ok());
            prop_assert_eq!(matches!(StoredClaim::read(Some(item)), StoredClaim::Readable(_)), is_claim);
        }
    }

    fn holder(caller: &str, key: &str) -> Holder {
        Holder {
            caller: CallerId::stored(caller),
            key: IdempotencyKey::stored(key),
            lab: None,
        }
    }
}
