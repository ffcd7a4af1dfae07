//! The items of the table, to and from the words of the domain.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    clock::UnixSeconds,
    domain::{
        Account, CallerId, Holder, IdempotencyKey, LabId, Maintenance, NiosxaasOutcome,
        NiosxaasRecord, NiosxaasVerdict, Sandbox, SandboxId, Status,
    },
};

/// One item as the SDK has it.
pub type Item = HashMap<String, AttributeValue>;

/// The FastAPI service's `LAB_DURATION_HOURS`, for items it wrote without one.
const DEFAULT_LAB_DURATION_HOURS: u32 = 4;

pub(super) const SANDBOX_PREFIX: &str = "SBX#";
pub(super) const SANDBOX_SORT: &str = "META";
pub(super) const NIOSXAAS_PREFIX: &str = "NIOSXAAS#";
pub(super) const NIOSXAAS_SORT: &str = "CLEANUP";

/// Why a stored item is no sandbox.
#[derive(Debug, Error)]
pub enum ItemFault {
    /// An attribute is missing or of another type.
    #[error(transparent)]
    Shape(#[from] serde_dynamo::Error),
    /// An attribute's value makes no sense.
    #[error("{attribute}: {fault}")]
    Value {
        /// The attribute's name.
        attribute: &'static str,
        /// What is wrong with it.
        fault: String,
    },
}

/// A sandbox item, attribute by attribute. What only informs people is read if it can be, so that no other service's
/// way of writing it loses the sandbox.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    sandbox_id: String,
    name: String,
    external_id: String,
    status: String,
    #[serde(default)]
    allocated_at: i64,
    #[serde(default = "default_lab_duration_hours")]
    lab_duration_hours: u32,
    #[serde(default, deserialize_with = "lenient_or_default")]
    deletion_retry_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated_to_track: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    track_name: Option<String>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    deletion_requested_at: Option<i64>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    sfdc_account_id: Option<String>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    created_at: Option<i64>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    updated_at: Option<i64>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    last_synced: Option<i64>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    next_deletion_at: Option<i64>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    deletion_error: Option<String>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    niosxaas_cleaned_at: Option<i64>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    niosxaas_cleanup_skipped: Option<Text>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    niosxaas_cleanup_failed_reason: Option<String>,
}

/// A text, or a flag where the FastAPI service writes one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Flag(bool),
}

impl Text {
    fn into_reason(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(true) => Some("skipped".to_owned()),
            Self::Flag(false) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Readable(T),
    Other(IgnoredAny),
}

fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Readable(value) => Some(value),
        Lenient::Other(IgnoredAny) => None,
    })
}

fn lenient_or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    lenient(deserializer).map(Option::unwrap_or_default)
}

const fn default_lab_duration_hours() -> u32 {
    DEFAULT_LAB_DURATION_HOURS
}

/// The primary key of a sandbox.
pub(super) fn sandbox_key(id: &SandboxId) -> Item {
    key(format!("{SANDBOX_PREFIX}{id}"), SANDBOX_SORT)
}

/// The primary key of the tombstone of a sandbox.
pub(super) fn tombstone_key(id: &SandboxId) -> Item {
    key(format!("GONE#{id}"), "GONE")
}

/// The primary key of the claim of a (caller, key) pair. Hashed, so that its length is bounded and no pair can be
/// written as another: the separator cannot occur in either.
pub(super) fn claim_key(caller: &CallerId, key_text: &IdempotencyKey) -> Item {
    let digest = Sha256::new()
        .chain_update(caller.as_str())
        .chain_update([0])
        .chain_update(key_text.as_str())
        .finalize();
    key(format!("CLAIM#{}", URL_SAFE_NO_PAD.encode(digest)), "CLAIM")
}

/// The primary key of the schema item.
pub(super) fn schema_key() -> Item {
    key("SCHEMA".to_owned(), "SCHEMA")
}

/// A primary key.
pub(super) fn key(partition: String, sort: &str) -> Item {
    HashMap::from([
        ("PK".to_owned(), AttributeValue::S(partition)),
        ("SK".to_owned(), AttributeValue::S(sort.to_owned())),
    ])
}

/// Reads a sandbox item.
///
/// # Errors
/// [`ItemFault`] if the item cannot be a sandbox; the caller skips it.
pub fn read_sandbox(item: Item) -> Result<Sandbox, ItemFault> {
    // boto3 writes None as NULL, which serde would refuse for an attribute with a default.
    let present: Item = item
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    let key = present.get("PK").and_then(|key| key.as_s().ok()).cloned();
    let row: Row = serde_dynamo::aws_sdk_dynamodb_1::from_item(present)?;
    if key.is_some_and(|key| key.strip_prefix(SANDBOX_PREFIX) != Some(&row.sandbox_id)) {
        let fault = "is another one than the item's key says".to_owned();
        return Err(ItemFault::Value {
            attribute: "sandbox_id",
            fault,
        });
    }
    let status: Status = parsed("status", row.status.parse())?;
    let holder = match row.allocated_to_track {
        Some(caller) => Some(read_holder(&caller, row.idempotency_key, row.track_name)?),
        None if status == Status::Allocated => {
            return Err(ItemFault::Value {
                attribute: "allocated_to_track",
                fault: "is missing from an allocated sandbox".to_owned(),
            });
        }
        None => None,
    };
    Ok(Sandbox {
        account: Account {
            sandbox_id: parsed("sandbox_id", SandboxId::parse(row.sandbox_id))?,
            name: row.name,
            external_id: row.external_id,
            sfdc_account_id: row.sfdc_account_id,
            created_at: row.created_at.map(UnixSeconds),
        },
        status,
        holder,
        allocated_at: UnixSeconds(row.allocated_at),
        lab_duration_hours: row.lab_duration_hours,
        deletion_requested_at: row.deletion_requested_at.map(UnixSeconds),
        maintenance: Maintenance {
            deletion_retry_count: row.deletion_retry_count,
            next_deletion_at: row.next_deletion_at.map(UnixSeconds),
            deletion_error: row.deletion_error,
            last_synced: row.last_synced.map(UnixSeconds),
            updated_at: row.updated_at.map(UnixSeconds),
            niosxaas_cleaned_at: row.niosxaas_cleaned_at.map(UnixSeconds),
            niosxaas_cleanup_skipped: row.niosxaas_cleanup_skipped.and_then(Text::into_reason),
            niosxaas_cleanup_failed_reason: row.niosxaas_cleanup_failed_reason,
        },
    })
}

fn read_holder(
    caller: &str,
    key: Option<String>,
    lab: Option<String>,
) -> Result<Holder, ItemFault> {
    let caller: CallerId = parsed("allocated_to_track", CallerId::parse(caller))?;
    let key = match key {
        Some(key) => parsed("idempotency_key", IdempotencyKey::parse(key))?,
        None => IdempotencyKey::from(&caller),
    };
    // A lab's name decides nothing, so one that the API would refuse is no reason to lose the sandbox.
    let lab = lab.and_then(|lab| LabId::parse(lab).ok());
    Ok(Holder { caller, key, lab })
}

fn parsed<T, E: std::fmt::Display>(
    attribute: &'static str,
    value: Result<T, E>,
) -> Result<T, ItemFault> {
    value.map_err(|fault| ItemFault::Value {
        attribute,
        fault: fault.to_string(),
    })
}

/// A row of an account that nobody has held.
fn row(account: &Account, status: Status, lab_duration_hours: u32, now: UnixSeconds) -> Row {
    Row {
        sandbox_id: account.sandbox_id.to_string(),
        name: account.name.clone(),
        external_id: account.external_id.clone(),
        status: status.to_string(),
        allocated_at: 0,
        lab_duration_hours,
        deletion_retry_count: 0,
        allocated_to_track: None,
        idempotency_key: None,
        track_name: None,
        deletion_requested_at: None,
        sfdc_account_id: account.sfdc_account_id.clone(),
        created_at: account.created_at.map(|at| at.0),
        updated_at: Some(now.0),
        last_synced: Some(now.0),
        next_deletion_at: None,
        deletion_error: None,
        niosxaas_cleaned_at: None,
        niosxaas_cleanup_skipped: None,
        niosxaas_cleanup_failed_reason: None,
    }
}

fn sandbox_item(row: Row, id: &SandboxId) -> Result<Item, ItemFault> {
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(row)?;
    item.extend(sandbox_key(id));
    Ok(item)
}

/// The item of a new, available sandbox.
pub(super) fn new_sandbox(
    account: &Account,
    lab_duration_hours: u32,
    now: UnixSeconds,
) -> Result<Item, ItemFault> {
    sandbox_item(
        row(account, Status::Available, lab_duration_hours, now),
        &account.sandbox_id,
    )
}

/// What is kept of a used sandbox after its deletion, so that it cannot come back as a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The sandbox.
    pub sandbox_id: String,
    /// When it was deleted, in Unix seconds.
    pub deleted_at: i64,
    external_id: String,
    allocated_at: i64,
    lab_duration_hours: u32,
    // Not under the names that the indexes go by: only sandboxes are in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_caller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_lab: Option<String>,
    ttl: i64,
}

/// The tombstone of a sandbox.
pub(super) fn tombstone(
    sandbox: &Sandbox,
    now: UnixSeconds,
    until: UnixSeconds,
) -> Result<Item, ItemFault> {
    let holder = sandbox.holder.as_ref();
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(Tombstone {
        sandbox_id: sandbox.id().to_string(),
        deleted_at: now.0,
        external_id: sandbox.account.external_id.clone(),
        allocated_at: sandbox.allocated_at.0,
        lab_duration_hours: sandbox.lab_duration_hours,
        last_caller: holder.map(|holder| holder.caller.to_string()),
        last_key: holder.map(|holder| holder.key.to_string()),
        last_lab: holder
            .and_then(|holder| holder.lab.as_ref())
            .map(LabId::to_string),
        ttl: until.0,
    })?;
    item.extend(tombstone_key(sandbox.id()));
    Ok(item)
}

/// The item of a deleted sandbox that CSP still lists.
pub(super) fn reinstated(
    tombstone: &Tombstone,
    account: &Account,
    now: UnixSeconds,
) -> Result<Item, ItemFault> {
    let row = Row {
        allocated_at: tombstone.allocated_at,
        allocated_to_track: tombstone.last_caller.clone(),
        idempotency_key: tombstone.last_key.clone(),
        track_name: tombstone.last_lab.clone(),
        deletion_requested_at: Some(now.0),
        ..row(
            account,
            Status::PendingDeletion,
            tombstone.lab_duration_hours,
            now,
        )
    };
    sandbox_item(row, &account.sandbox_id)
}

/// The record of what became of an account's NIOSXaaS services.
pub(super) fn niosxaas_record(
    id: &SandboxId,
    outcome: &NiosxaasOutcome,
    now: UnixSeconds,
    until: UnixSeconds,
) -> Item {
    let mut item = key(format!("{NIOSXAAS_PREFIX}{id}"), NIOSXAAS_SORT);
    let (name, detail) = match outcome {
        NiosxaasOutcome::Cleaned { services } => ("cleaned", services.to_string()),
        NiosxaasOutcome::Skipped { reason } => ("skipped", reason.clone()),
        NiosxaasOutcome::Failed { reason } => ("failed", reason.clone()),
    };
    item.extend([
        ("sandbox_id".to_owned(), string(id.as_str())),
        ("outcome".to_owned(), string(name)),
        ("detail".to_owned(), string(detail)),
        ("deleted_at".to_owned(), number(now.0)),
        ("ttl".to_owned(), number(until.0)),
    ]);
    item
}

/// A NIOSXaaS record, attribute by attribute.
#[derive(Debug, Deserialize)]
struct NiosxaasRow {
    sandbox_id: String,
    outcome: NiosxaasVerdict,
    #[serde(default)]
    detail: String,
    deleted_at: UnixSeconds,
}

/// Reads a record, or logs why it is none.
pub(super) fn read_niosxaas_record(item: Item) -> Option<NiosxaasRecord> {
    match serde_dynamo::aws_sdk_dynamodb_1::from_item::<NiosxaasRow>(item) {
        Ok(row) => Some(NiosxaasRecord {
            sandbox_id: row.sandbox_id,
            outcome: row.outcome,
            detail: row.detail,
            at: row.deleted_at,
        }),
        Err(fault) => {
            tracing::warn!(%fault, "skipped a NIOSXaaS record that cannot be read");
            None
        }
    }
}

/// A claim: which sandbox a (caller, key) pair was given, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimTarget {
    /// The sandbox.
    pub sandbox_id: String,
    /// The `allocated_at` of that allocation, in Unix seconds.
    pub allocated_at: i64,
}

pub(super) fn string(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl Into<i64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{attribute, spoilt};

    fn available() -> Item {
        let account = Account {
            sandbox_id: SandboxId::parse("2009521").unwrap(),
            name: "lab-adventure-0087".into(),
            external_id: "identity/accounts/3f".into(),
            sfdc_account_id: None,
            created_at: Some(UnixSeconds(1_743_094_427)),
        };
        new_sandbox(&account, 4, UnixSeconds(1_774_000_000)).unwrap()
    }

    #[test]
    fn a_new_sandbox_reads_back() {
        let sandbox = read_sandbox(available()).unwrap();
        assert_eq!(sandbox.id().as_str(), "2009521");
        assert_eq!(sandbox.status, Status::Available);
        assert_eq!(sandbox.expires_at(), None);
        assert_eq!(sandbox.account.created_at, Some(UnixSeconds(1_743_094_427)));
    }

    #[test]
    fn a_null_attribute_counts_as_absent() {
        let mut item = available();
        for name in [
            "sfdc_account_id",
            "allocated_to_track",
            "allocated_at",
            "lab_duration_hours",
        ] {
            item.insert(name.to_owned(), AttributeValue::Null(true));
        }
        let sandbox = read_sandbox(item).unwrap();
        assert_eq!(
            (sandbox.allocated_at, sandbox.lab_duration_hours),
            (UnixSeconds(0), 4)
        );
    }

    #[test]
    fn an_item_that_is_no_sandbox_is_a_fault_that_names_the_attribute() {
        for (name, value) in [
            ("status", string("lost")),
            ("status", string("allocated")),
            ("sandbox_id", string("a b")),
            ("name", number(1)),
            ("allocated_at", string("yesterday")),
        ] {
            let mut item = available();
            item.insert(name.to_owned(), value);
            assert!(read_sandbox(item).is_err(), "{name}");
        }
        let mut item = available();
        item.remove("external_id");
        assert!(
            read_sandbox(item)
                .unwrap_err()
                .to_string()
                .contains("external_id")
        );
    }

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

    fn account() -> impl Strategy<Value = Account> {
        let sfdc = proptest::option::of("[!-~]{1,20}");
        let created_at = proptest::option::of(any::<i64>().prop_map(UnixSeconds));
        (
            "[!-~]{1,256}",
            "[^\\s].{0,40}",
            "[!-~]{1,99}",
            sfdc,
            created_at,
        )
            .prop_map(
                |(id, name, external_id, sfdc_account_id, created_at)| Account {
                    sandbox_id: SandboxId::parse(id).unwrap(),
                    name,
                    external_id,
                    sfdc_account_id,
                    created_at,
                },
            )
    }

    fn used() -> Item {
        let mut item = available();
        for (name, value) in [
            ("status", string("allocated")),
            ("allocated_to_track", string("play-1")),
            ("idempotency_key", string("key-1")),
            ("track_name", string("lab-1")),
            ("allocated_at", number(1_774_000_000)),
            ("deletion_requested_at", number(1_774_000_001)),
            ("next_deletion_at", number(1_774_000_002)),
            ("niosxaas_cleanup_skipped", string("why")),
        ] {
            item.insert(name.to_owned(), value);
        }
        item
    }

    proptest! {
        #[test]
        fn any_item_is_a_sandbox_within_its_bounds_or_a_fault(item in spoilt(used())) {
            if let Ok(sandbox) = read_sandbox(item.clone()) {
                prop_assert!(sandbox.status != Status::Allocated || sandbox.holder.is_some());
                if let Some(key) = item.get("PK").and_then(|key| key.as_s().ok()) {
                    prop_assert_eq!(key, &format!("{SANDBOX_PREFIX}{}", sandbox.id()));
                }
                // Whatever the numbers are, no arithmetic on them fails.
                let grace = std::time::Duration::MAX;
                let _ = sandbox.is_overdue(UnixSeconds(i64::MAX), grace);
            }
        }

        #[test]
        fn what_only_informs_never_loses_a_sandbox(value in attribute(), name in proptest::sample::select(vec![
            "track_name", "deletion_requested_at", "sfdc_account_id", "created_at", "updated_at", "last_synced",
            "next_deletion_at", "deletion_error", "deletion_retry_count", "niosxaas_cleaned_at",
            "niosxaas_cleanup_skipped", "niosxaas_cleanup_failed_reason", "unheard_of",
        ])) {
            let mut item = used();
            item.insert(name.to_owned(), value);
            prop_assert!(read_sandbox(item).is_ok());
        }

        #[test]
        fn any_account_reads_back(account in account(), hours in 1_u32..=720, now in any::<i64>()) {
            let sandbox = read_sandbox(new_sandbox(&account, hours, UnixSeconds(now)).unwrap()).unwrap();
            prop_assert_eq!(&sandbox.account, &account);
            prop_assert_eq!((sandbox.status, sandbox.lab_duration_hours), (Status::Available, hours));
            prop_assert_eq!((sandbox.holder, sandbox.allocated_at.0), (None, 0));
        }

        #[test]
        fn any_holder_is_known_again_after_a_deletion(
            account in account(), caller in "[!-~]{1,256}", key in "[!-~]{1,256}", lab in proptest::option::of("[!-~]{1,256}"),
            allocated_at in 1..i64::MAX, now in any::<i64>(),
        ) {
            let holder = Holder {
                caller: CallerId::parse(caller).unwrap(),
                key: IdempotencyKey::parse(key).unwrap(),
                lab: lab.map(|lab| LabId::parse(lab).unwrap()),
            };
            let mut sandbox = read_sandbox(available()).unwrap();
            sandbox.account = account.clone();
            sandbox.holder = Some(holder.clone());
            sandbox.allocated_at = UnixSeconds(allocated_at);
            let item = tombstone(&sandbox, UnixSeconds(now), UnixSeconds(now)).unwrap();
            let tombstone: Tombstone = serde_dynamo::aws_sdk_dynamodb_1::from_item(item).unwrap();
            prop_assert_eq!(tombstone.deleted_at, now);
            let back = read_sandbox(reinstated(&tombstone, &account, UnixSeconds(now)).unwrap()).unwrap();
            prop_assert_eq!(back.holder, Some(holder));
            prop_assert_eq!((back.status, back.allocated_at.0), (Status::PendingDeletion, allocated_at));
        }

        #[test]
        fn any_tombstone_is_read_or_a_fault(item in spoilt(
            tombstone(&read_sandbox(used()).unwrap(), UnixSeconds(1), UnixSeconds(2)).unwrap()
        )) {
            let _: Result<Tombstone, _> = serde_dynamo::aws_sdk_dynamodb_1::from_item(item);
        }
    }
}
