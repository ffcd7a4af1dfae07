//! Sandbox items.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use super::{
    Item, ItemFault, SANDBOX_PREFIX, Tombstone, attributes::Attributes, lease::LeaseRow,
    quarantine::QuarantineRow, sandbox_key,
};
use crate::{
    clock::UnixSeconds,
    domain::{
        Account, CallerId, Holder, IdempotencyKey, JobName, LabId, Lease, Maintenance, Quarantine,
        Sandbox, SandboxId, Status, lab_duration,
    },
};

/// The `lab_duration_hours` that the FastAPI service writes to every item, and does not use itself.
const DEFAULT_LAB_DURATION_HOURS: u32 = 4;

/// The attributes of a sandbox item that the broker writes.
#[derive(Debug, Serialize)]
struct Row {
    sandbox_id: String,
    name: String,
    external_id: String,
    status: String,
    allocated_at: i64,
    lab_duration_hours: u32,
    deletion_retry_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated_to_track: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_requested_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    released_by: Option<String>,
    #[serde(flatten)]
    lease: LeaseRow,
    #[serde(flatten)]
    quarantine: QuarantineRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    sfdc_account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inserted_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_synced: Option<i64>,
}

impl Attributes<'_> {
    /// Returns the id in the primary key, which the attribute must repeat if it is present.
    fn sandbox_id(self) -> Result<SandboxId, ItemFault> {
        let id = self.required_text("PK")?.strip_prefix(SANDBOX_PREFIX);
        let id = id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| ItemFault::value("PK", "is not the key of a sandbox"))?;
        let repeated = match self.get("sandbox_id") {
            None => true,
            Some(AttributeValue::S(text) | AttributeValue::N(text)) => text == id,
            Some(_) => false,
        };
        if repeated {
            Ok(SandboxId::stored(id))
        } else {
            let fault = "does not match the item's primary key";
            Err(ItemFault::value("sandbox_id", fault))
        }
    }

    fn holder(self) -> Option<Holder> {
        let caller = CallerId::stored(self.text("allocated_to_track")?);
        let key = self
            .text("idempotency_key")
            .map_or_else(|| IdempotencyKey::from(&caller), IdempotencyKey::stored);
        let lab = self.text("track_name").filter(|lab| !lab.is_empty());
        Some(Holder {
            caller,
            key,
            lab: lab.map(LabId::stored),
        })
    }

    fn lease(self) -> Lease {
        let count = |name| {
            self.number(name)
                .and_then(|count| u32::try_from(count).ok())
        };
        let id = |name| self.text(name).map(SandboxId::stored);
        Lease {
            name_prefix: self.owned_text("name_prefix"),
            extensions: count("extensions").unwrap_or_default(),
            extended_at: self.time("extended_at"),
            replaces: id("replaces"),
            replaced_by: id("replaced_by"),
            replacement_reason: self.short_text("replacement_reason"),
            quota_slot: count("quota_slot"),
            released_at: self.time("released_at"),
        }
    }

    fn quarantine(self) -> Quarantine {
        Quarantine {
            by: self.short_text("quarantined_by"),
            at: self.time("quarantined_at"),
            reason: self.short_text("quarantine_reason"),
            // The write that ends it compares numbers.
            until: self.number("quarantined_until").map(UnixSeconds),
            from: self
                .text("quarantined_from")
                .and_then(|name| name.parse().ok()),
        }
    }

    /// Returns a reason. The FastAPI service writes a boolean instead of a text.
    fn reason(self, name: &str) -> Option<String> {
        match self.get(name)? {
            AttributeValue::S(text) => Some(text.clone()),
            AttributeValue::Bool(true) => Some("skipped".to_owned()),
            _ => None,
        }
    }
}

/// Converts a sandbox item. Any stored identifier is accepted, because the rules for identifiers hold for input only.
/// An allocation without an end is inherited, and lasts for `inherited_hours`.
///
/// # Errors
/// [`ItemFault`] if the item has no status, start of the allocation, name or account, or another id than its key.
pub fn read_sandbox(item: &Item, inherited_hours: u32) -> Result<Sandbox, ItemFault> {
    let attributes = Attributes::of(item);
    let sandbox_id = attributes.sandbox_id()?;
    let status: Status = attributes
        .required_text("status")?
        .parse()
        .map_err(|fault| ItemFault::value("status", fault))?;
    // An item without it is in no index, so no job finds it.
    let allocated_at = attributes.number("allocated_at");
    let allocated_at = attributes.required("allocated_at", allocated_at, "whole number")?;
    let was_allocated = allocated_at > 0;
    // The end of an earlier allocation would be before the start of this one.
    let stated_end = attributes
        .ceiling("expires_at")
        .filter(|end| was_allocated && *end > allocated_at);
    let is_inherited = was_allocated && stated_end.is_none();
    let lab_duration_hours = if is_inherited {
        inherited_hours
    } else {
        let hours = attributes.whole("lab_duration_hours");
        hours
            .and_then(|hours| u32::try_from(hours).ok())
            .unwrap_or(DEFAULT_LAB_DURATION_HOURS)
    };
    let allocated_at = UnixSeconds(allocated_at);
    let inherited_end = is_inherited.then(|| allocated_at + lab_duration(inherited_hours));
    let deletion_retry_count = attributes.number("deletion_retry_count");
    Ok(Sandbox {
        account: Account {
            sandbox_id,
            name: attributes.required_text("name")?.to_owned(),
            external_id: attributes.required_text("external_id")?.to_owned(),
            sfdc_account_id: attributes.owned_text("sfdc_account_id"),
            created_at: attributes.time("created_at"),
        },
        inserted_at: attributes.time("inserted_at"),
        status,
        holder: attributes.holder(),
        allocated_at,
        expires_at: stated_end.map(UnixSeconds).or(inherited_end),
        is_inherited,
        lab_duration_hours,
        deletion_requested_at: attributes.time("deletion_requested_at"),
        released_by: attributes.owned_text("released_by"),
        lease: attributes.lease(),
        readiness: attributes.readiness(),
        quarantine: attributes.quarantine(),
        maintenance: Maintenance {
            deletion_retry_count: deletion_retry_count
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or_default(),
            next_deletion_at: attributes.time("next_deletion_at"),
            deletion_error: attributes.owned_text("deletion_error"),
            last_synced: attributes.time("last_synced"),
            updated_at: attributes.number("updated_at").map(UnixSeconds),
            niosxaas_cleaned_at: attributes.time("niosxaas_cleaned_at"),
            niosxaas_cleanup_skipped: attributes.reason("niosxaas_cleanup_skipped"),
            niosxaas_cleanup_failed_reason: attributes.owned_text("niosxaas_cleanup_failed_reason"),
        },
    })
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
        expires_at: None,
        allocated_to_track: None,
        idempotency_key: None,
        track_name: None,
        deletion_requested_at: None,
        released_by: None,
        lease: LeaseRow::default(),
        quarantine: QuarantineRow::default(),
        sfdc_account_id: account.sfdc_account_id.clone(),
        created_at: account.created_at.map(|at| at.0),
        inserted_at: Some(now.0),
        updated_at: Some(now.0),
        last_synced: Some(now.0),
    }
}

fn sandbox_item(row: Row, id: &SandboxId) -> Result<Item, ItemFault> {
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(row)?;
    item.extend(sandbox_key(id));
    Ok(item)
}

/// Builds the item of a new sandbox, which is available, or `provisioning` if its account has to be checked first.
pub(in crate::store) fn new_sandbox(
    account: &Account,
    status: Status,
    lab_duration_hours: u32,
    now: UnixSeconds,
) -> Result<Item, ItemFault> {
    sandbox_item(
        row(account, status, lab_duration_hours, now),
        &account.sandbox_id,
    )
}

/// Builds the item of a resurfaced sandbox: deleted before, but listed by CSP again. It keeps its history, except for the
/// request for its first deletion: now sync requests another one.
pub(in crate::store) fn reinstated_sandbox(
    tombstone: &Tombstone,
    account: &Account,
    now: UnixSeconds,
) -> Result<Item, ItemFault> {
    let row = Row {
        allocated_at: tombstone.allocated_at,
        expires_at: tombstone.expires_at,
        allocated_to_track: tombstone.last_caller.clone(),
        idempotency_key: tombstone.last_key.clone(),
        track_name: tombstone.last_lab.clone(),
        deletion_requested_at: Some(now.0),
        released_by: Some(JobName::Sync.to_string()),
        lease: tombstone.lease.clone(),
        quarantine: tombstone.quarantine.clone(),
        inserted_at: tombstone.inserted_at,
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
    use proptest::prelude::*;

    use super::{
        super::{number, string, tombstone},
        *,
    };
    use crate::arbitrary::{attribute, corrupted};

    const INHERITED_HOURS: u32 = 48;

    #[expect(clippy::needless_pass_by_value, reason = "the tests are done with it")]
    fn read(item: Item) -> Result<Sandbox, ItemFault> {
        read_sandbox(&item, INHERITED_HOURS)
    }

    fn available() -> Item {
        let account = Account {
            sandbox_id: SandboxId::parse("2009521").unwrap(),
            name: "lab-adventure-0087".into(),
            external_id: "identity/accounts/3f".into(),
            sfdc_account_id: None,
            created_at: Some(UnixSeconds(1_743_094_427)),
        };
        new_sandbox(&account, Status::Available, 4, UnixSeconds(1_774_000_000)).unwrap()
    }

    #[test]
    fn new_sandbox_reads_back() {
        let sandbox = read(available()).unwrap();
        assert_eq!(sandbox.id().as_str(), "2009521");
        assert_eq!(sandbox.status, Status::Available);
        assert_eq!(sandbox.expires_at, None);
        assert_eq!(sandbox.inserted_at, Some(UnixSeconds(1_774_000_000)));
        assert_eq!(sandbox.quarantine, Quarantine::default());
        assert_eq!(sandbox.account.created_at, Some(UnixSeconds(1_743_094_427)));
    }

    #[test]
    fn null_attribute_counts_as_absent() {
        let mut item = available();
        for name in [
            "sfdc_account_id",
            "allocated_to_track",
            "lab_duration_hours",
            "deletion_retry_count",
            "expires_at",
        ] {
            item.insert(name.to_owned(), AttributeValue::Null(true));
        }
        let sandbox = read(item).unwrap();
        assert_eq!(
            (sandbox.allocated_at, sandbox.lab_duration_hours),
            (UnixSeconds(0), 4)
        );
    }

    #[test]
    fn invalid_item_is_a_fault_that_names_the_attribute() {
        for (name, value) in [
            ("PK", string("SBX#")),
            ("status", string("lost")),
            ("sandbox_id", string("a b")),
            ("name", number(1)),
            ("external_id", AttributeValue::Bool(true)),
            ("allocated_at", string("1774000000")),
            ("allocated_at", AttributeValue::N("1774000000.5".to_owned())),
        ] {
            let mut item = available();
            item.insert(name.to_owned(), value);
            let fault = read(item).unwrap_err().to_string();
            assert!(fault.starts_with(name), "{name}: {fault}");
        }
        for name in ["PK", "status", "name", "external_id", "allocated_at"] {
            let mut item = available();
            item.remove(name);
            let fault = read(item).unwrap_err().to_string();
            assert_eq!(fault, format!("{name}: is missing"));
        }
    }

    #[test]
    fn attribute_with_a_clear_meaning_is_read_although_its_type_differs() {
        let mut item = used();
        for (name, value) in [
            ("sandbox_id", number(2_009_521)),
            ("allocated_at", AttributeValue::N("1774000000.0".to_owned())),
            ("expires_at", string("1774003600")),
            ("created_at", AttributeValue::N("1743094427.00".to_owned())),
            ("lab_duration_hours", string("4")),
            ("niosxaas_cleanup_skipped", AttributeValue::Bool(true)),
        ] {
            item.insert(name.to_owned(), value);
        }
        item.remove("idempotency_key");
        let sandbox = read(item).unwrap();
        assert_eq!(sandbox.id().as_str(), "2009521");
        assert_eq!(sandbox.allocated_at, UnixSeconds(1_774_000_000));
        assert_eq!(sandbox.expires_at, Some(UnixSeconds(1_774_003_600)));
        assert_eq!(sandbox.account.created_at, Some(UnixSeconds(1_743_094_427)));
        assert_eq!(sandbox.holder.unwrap().key.as_str(), "play-1");
        let skipped = sandbox.maintenance.niosxaas_cleanup_skipped;
        assert_eq!(skipped.as_deref(), Some("skipped"));
    }

    #[test]
    fn allocation_without_a_credible_end_is_inherited() {
        let start = 1_774_000_000;
        let inherited = start + 48 * 3600;
        let fraction = |text: &str| AttributeValue::N(text.to_owned());
        for (stated, end) in [
            (None, inherited),
            (Some(AttributeValue::Null(true)), inherited),
            (Some(string("soon")), inherited),
            // The end of an earlier allocation.
            (Some(number(start - 1)), inherited),
            (Some(number(start + 60)), start + 60),
            // Writes compare the stored number, so the end is not below it.
            (Some(fraction("1774000060.5")), start + 61),
            (Some(fraction("1774000060.0")), start + 60),
            (
                Some(fraction("1774000059.99999999999999999999")),
                start + 61,
            ),
            (Some(fraction("1e+20")), i64::MAX),
            (Some(fraction("-1e+20")), inherited),
        ] {
            let mut item = used();
            item.remove("expires_at");
            item.extend(stated.map(|end| ("expires_at".to_owned(), end)));
            let sandbox = read(item).unwrap();
            assert_eq!(sandbox.expires_at, Some(UnixSeconds(end)));
            assert_eq!(sandbox.is_inherited, end == inherited);
            let hours = if sandbox.is_inherited { 48 } else { 4 };
            assert_eq!(sandbox.lab_duration_hours, hours);
        }
    }

    #[test]
    fn allocated_sandbox_without_a_holder_can_expire() {
        let mut item = used();
        item.remove("allocated_to_track");
        let sandbox = read(item).unwrap();
        assert_eq!((sandbox.status, sandbox.holder), (Status::Allocated, None));
        assert!(sandbox.expires_at.is_some());
    }

    #[test]
    fn quarantine_reads_back() {
        let mut item = available();
        for (name, value) in [
            ("status", string("quarantined")),
            ("quarantined_by", string("jane")),
            ("quarantined_at", number(1_774_000_010)),
            ("quarantine_reason", string("licence expired")),
            ("quarantined_until", number(1_774_003_600)),
            ("quarantined_from", string("stale")),
        ] {
            item.insert(name.to_owned(), value);
        }
        let sandbox = read(item).unwrap();
        assert_eq!(sandbox.status, Status::Quarantined);
        assert!(!sandbox.was_held());
        let expected = Quarantine {
            by: Some("jane".to_owned()),
            at: Some(UnixSeconds(1_774_000_010)),
            reason: Some("licence expired".to_owned()),
            until: Some(UnixSeconds(1_774_003_600)),
            from: Some(Status::Stale),
        };
        assert_eq!(sandbox.quarantine, expected);
    }

    #[test]
    fn tombstone_of_an_earlier_version_is_read() {
        let mut item = tombstone(&read(used()).unwrap(), UnixSeconds(1), UnixSeconds(2)).unwrap();
        for name in [
            "name",
            "created_at",
            "inserted_at",
            "deletion_requested_at",
            "deletion_retry_count",
        ] {
            assert!(item.remove(name).is_some(), "{name}");
        }
        let read: Tombstone = serde_dynamo::aws_sdk_dynamodb_1::from_item(item).unwrap();
        assert_eq!(
            (read.name.as_deref(), read.quarantine()),
            (None, Quarantine::default())
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
            ("expires_at", number(1_774_014_400)),
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
            if let Ok(sandbox) = read(item.clone()) {
                prop_assert_eq!(item["PK"].as_s().unwrap(), &format!("{SANDBOX_PREFIX}{}", sandbox.id()));
                prop_assert_eq!(sandbox.expires_at.is_some(), sandbox.allocated_at.0 > 0);
                prop_assert!(sandbox.expires_at.is_none_or(|end| end > sandbox.allocated_at));
                // No arithmetic on the stored numbers overflows.
                let grace = std::time::Duration::MAX;
                let _ = sandbox.is_overdue(UnixSeconds(i64::MAX), grace);
            }
        }

        #[test]
        fn informative_attribute_never_makes_a_sandbox_unreadable(value in attribute(), name in proptest::sample::select(vec![
            "track_name", "deletion_requested_at", "sfdc_account_id", "created_at", "updated_at", "last_synced",
            "next_deletion_at", "deletion_error", "deletion_retry_count", "niosxaas_cleaned_at",
            "niosxaas_cleanup_skipped", "niosxaas_cleanup_failed_reason", "expires_at", "lab_duration_hours",
            "allocated_to_track", "idempotency_key", "released_by", "released_at", "quarantined_by",
            "quarantined_at", "quarantine_reason", "quarantined_until", "quarantined_from", "inserted_at", "unknown",
        ])) {
            let mut item = used();
            item.insert(name.to_owned(), value);
            prop_assert!(read(item).is_ok());
        }

        #[test]
        fn any_stored_holder_is_read(caller in ".{1,400}", key in ".{1,400}", lab in ".{1,400}") {
            let mut item = used();
            for (name, text) in [("allocated_to_track", &caller), ("idempotency_key", &key), ("track_name", &lab)] {
                item.insert(name.to_owned(), string(text));
            }
            let holder = read(item).unwrap().holder.unwrap();
            prop_assert_eq!((holder.caller.as_str(), holder.key.as_str()), (caller.as_str(), key.as_str()));
            prop_assert_eq!(holder.lab, Some(LabId::stored(lab)));
        }

        #[test]
        fn any_new_sandbox_reads_back(account in account(), hours in 1_u32..=720, now in any::<i64>()) {
            let sandbox = read(new_sandbox(&account, Status::Available, hours, UnixSeconds(now)).unwrap()).unwrap();
            prop_assert_eq!(&sandbox.account, &account);
            prop_assert_eq!((sandbox.status, sandbox.lab_duration_hours), (Status::Available, hours));
            prop_assert_eq!((sandbox.holder, sandbox.allocated_at.0), (None, 0));
        }

        #[test]
        fn reinstated_sandbox_keeps_its_last_holder(
            account in account(), caller in "[!-~]{1,256}", key in "[!-~]{1,256}", lab in proptest::option::of("[!-~]{1,256}"),
            allocated_at in 1..i64::MAX - 60, now in any::<i64>(),
        ) {
            let holder = Holder {
                caller: CallerId::stored(caller),
                key: IdempotencyKey::stored(key),
                lab: lab.map(LabId::stored),
            };
            let mut sandbox = read(available()).unwrap();
            sandbox.account = account.clone();
            sandbox.holder = Some(holder.clone());
            sandbox.allocated_at = UnixSeconds(allocated_at);
            sandbox.expires_at = Some(UnixSeconds(allocated_at.saturating_add(60)));
            sandbox.released_by = Some("jane".to_owned());
            sandbox.lease.released_at = Some(UnixSeconds(now));
            sandbox.quarantine = Quarantine {
                by: Some("jane".to_owned()),
                at: Some(UnixSeconds(now)),
                reason: Some("broken".to_owned()),
                until: None,
                from: Some(Status::Allocated),
            };
            let item = tombstone(&sandbox, UnixSeconds(now), UnixSeconds(now)).unwrap();
            let tombstone: Tombstone = serde_dynamo::aws_sdk_dynamodb_1::from_item(item).unwrap();
            prop_assert_eq!(tombstone.deleted_at, now);
            let back = read(reinstated_sandbox(&tombstone, &account, UnixSeconds(now)).unwrap()).unwrap();
            prop_assert_eq!(back.holder, Some(holder));
            prop_assert_eq!((back.status, back.allocated_at.0), (Status::PendingDeletion, allocated_at));
            prop_assert_eq!(back.expires_at, sandbox.expires_at);
            // This deletion is requested by sync.
            prop_assert_eq!(back.released_by.as_deref(), Some("sync"));
            prop_assert_eq!(
                (back.inserted_at, back.quarantine, back.lease),
                (sandbox.inserted_at, sandbox.quarantine, sandbox.lease)
            );
        }

        #[test]
        fn any_tombstone_is_readable_or_a_fault(item in corrupted(
            tombstone(&read(used()).unwrap(), UnixSeconds(1), UnixSeconds(2)).unwrap()
        )) {
            let _: Result<Tombstone, _> = serde_dynamo::aws_sdk_dynamodb_1::from_item(item);
        }
    }
}
