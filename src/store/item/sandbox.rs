//! Sandbox items.

use std::fmt::Display;

use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use super::{Item, ItemFault, SANDBOX_PREFIX, Tombstone, partition_of, sandbox_key};
use crate::{
    clock::UnixSeconds,
    domain::{
        Account, CallerId, Holder, IdempotencyKey, LabId, Maintenance, Sandbox, SandboxId, Status,
    },
};

/// The FastAPI service's `LAB_DURATION_HOURS`, for items it wrote without a duration.
const DEFAULT_LAB_DURATION_HOURS: u32 = 4;

/// The attributes of a sandbox item. Attributes that are only informative are read leniently: an unexpected value,
/// which another service may write, does not make the sandbox unreadable.
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
    niosxaas_cleanup_skipped: Option<Reason>,
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    niosxaas_cleanup_failed_reason: Option<String>,
}

/// A reason. The FastAPI service writes a boolean instead of a text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Reason {
    Text(String),
    Flag(bool),
}

impl Reason {
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(true) => Some("skipped".to_owned()),
            Self::Flag(false) => None,
        }
    }
}

/// A value that may be of another type than expected.
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

/// Converts a sandbox item.
///
/// # Errors
/// [`ItemFault`] if the item is not a valid sandbox; callers skip such items.
pub fn read_sandbox(item: Item) -> Result<Sandbox, ItemFault> {
    // boto3 writes None as NULL, which serde rejects for attributes with a default.
    let present: Item = item
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    let partition = partition_of(&present).cloned();
    let row: Row = serde_dynamo::aws_sdk_dynamodb_1::from_item(present)?;
    if partition.is_some_and(|key| key.strip_prefix(SANDBOX_PREFIX) != Some(&row.sandbox_id)) {
        return Err(ItemFault::value(
            "sandbox_id",
            "does not match the item's primary key",
        ));
    }
    let status: Status = parsed("status", row.status.parse())?;
    let holder = match row.allocated_to_track {
        Some(caller) => Some(read_holder(&caller, row.idempotency_key, row.track_name)?),
        None if status == Status::Allocated => {
            return Err(ItemFault::value(
                "allocated_to_track",
                "is missing from an allocated sandbox",
            ));
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
            niosxaas_cleanup_skipped: row.niosxaas_cleanup_skipped.and_then(Reason::into_text),
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
    // The lab is informative: an id that the API would reject does not make the sandbox unreadable.
    let lab = lab.and_then(|lab| LabId::parse(lab).ok());
    Ok(Holder { caller, key, lab })
}

fn parsed<T, E: Display>(attribute: &'static str, value: Result<T, E>) -> Result<T, ItemFault> {
    value.map_err(|fault| ItemFault::value(attribute, fault))
}

/// Returns the row of a sandbox that was never allocated.
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

/// Builds the item of a new, available sandbox.
pub(in crate::store) fn new_sandbox(
    account: &Account,
    lab_duration_hours: u32,
    now: UnixSeconds,
) -> Result<Item, ItemFault> {
    sandbox_item(
        row(account, Status::Available, lab_duration_hours, now),
        &account.sandbox_id,
    )
}

/// Builds the item of a resurfaced sandbox: deleted before, but listed by CSP again. It keeps its last holder.
pub(in crate::store) fn reinstated_sandbox(
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

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use proptest::prelude::*;

    use super::{
        super::{number, string, tombstone},
        *,
    };
    use crate::arbitrary::{attribute, corrupted};

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
    fn new_sandbox_reads_back() {
        let sandbox = read_sandbox(available()).unwrap();
        assert_eq!(sandbox.id().as_str(), "2009521");
        assert_eq!(sandbox.status, Status::Available);
        assert_eq!(sandbox.expires_at(), None);
        assert_eq!(sandbox.account.created_at, Some(UnixSeconds(1_743_094_427)));
    }

    #[test]
    fn null_attribute_counts_as_absent() {
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
    fn invalid_item_is_a_fault_that_names_the_attribute() {
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
        fn any_item_is_a_consistent_sandbox_or_a_fault(item in corrupted(used())) {
            if let Ok(sandbox) = read_sandbox(item.clone()) {
                prop_assert!(sandbox.status != Status::Allocated || sandbox.holder.is_some());
                if let Some(key) = item.get("PK").and_then(|key| key.as_s().ok()) {
                    prop_assert_eq!(key, &format!("{SANDBOX_PREFIX}{}", sandbox.id()));
                }
                // No arithmetic on the stored numbers overflows.
                let grace = std::time::Duration::MAX;
                let _ = sandbox.is_overdue(UnixSeconds(i64::MAX), grace);
            }
        }

        #[test]
        fn informative_attribute_never_makes_a_sandbox_unreadable(value in attribute(), name in proptest::sample::select(vec![
            "track_name", "deletion_requested_at", "sfdc_account_id", "created_at", "updated_at", "last_synced",
            "next_deletion_at", "deletion_error", "deletion_retry_count", "niosxaas_cleaned_at",
            "niosxaas_cleanup_skipped", "niosxaas_cleanup_failed_reason", "unknown",
        ])) {
            let mut item = used();
            item.insert(name.to_owned(), value);
            prop_assert!(read_sandbox(item).is_ok());
        }

        #[test]
        fn any_new_sandbox_reads_back(account in account(), hours in 1_u32..=720, now in any::<i64>()) {
            let sandbox = read_sandbox(new_sandbox(&account, hours, UnixSeconds(now)).unwrap()).unwrap();
            prop_assert_eq!(&sandbox.account, &account);
            prop_assert_eq!((sandbox.status, sandbox.lab_duration_hours), (Status::Available, hours));
            prop_assert_eq!((sandbox.holder, sandbox.allocated_at.0), (None, 0));
        }

        #[test]
        fn reinstated_sandbox_keeps_its_last_holder(
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
            let back = read_sandbox(reinstated_sandbox(&tombstone, &account, UnixSeconds(now)).unwrap()).unwrap();
            prop_assert_eq!(back.holder, Some(holder));
            prop_assert_eq!((back.status, back.allocated_at.0), (Status::PendingDeletion, allocated_at));
        }

        #[test]
        fn any_tombstone_is_readable_or_a_fault(item in corrupted(
            tombstone(&read_sandbox(used()).unwrap(), UnixSeconds(1), UnixSeconds(2)).unwrap()
        )) {
            let _: Result<Tombstone, _> = serde_dynamo::aws_sdk_dynamodb_1::from_item(item);
        }
    }
}
