use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{CallerId, Holder, IdempotencyKey, Quarantine};

const NOW: UnixSeconds = UnixSeconds(1_774_000_000);
const RETRY_AFTER: Duration = Duration::from_hours(1);

fn account(id: &str, external_id: &str) -> Account {
    Account {
        sandbox_id: SandboxId::parse(id).unwrap(),
        name: format!("name of {external_id}"),
        external_id: format!("identity/accounts/{external_id}"),
        sfdc_account_id: None,
        created_at: None,
    }
}

fn sandbox(id: &str, external_id: &str, status: Status) -> Sandbox {
    let is_held = !matches!(
        status,
        Status::Provisioning | Status::Available | Status::Stale
    );
    let caller = CallerId::parse("play-1").unwrap();
    Sandbox {
        status,
        holder: is_held.then(|| Holder {
            key: IdempotencyKey::from(&caller),
            caller,
            lab: None,
        }),
        allocated_at: UnixSeconds(if is_held { NOW.0 - 60 } else { 0 }),
        expires_at: is_held.then_some(NOW),
        ..Sandbox::available(account(id, external_id))
    }
}

/// Returns a sandbox in quarantine that never had a holder.
fn quarantined(id: &str, external_id: &str, from: Status) -> Sandbox {
    Sandbox {
        status: Status::Quarantined,
        quarantine: Quarantine {
            from: Some(from),
            ..Quarantine::default()
        },
        ..sandbox(id, external_id, Status::Available)
    }
}

fn tombstone(id: &str, external_id: &str, age: i64) -> Tombstone {
    serde_json::from_value(json!({
        "sandbox_id": id, "external_id": format!("identity/accounts/{external_id}"),
        "deleted_at": NOW.0 - age, "allocated_at": 1, "lab_duration_hours": 4, "ttl": 2
    }))
    .unwrap()
}

fn compare(accounts: Vec<Account>, page: SandboxPage) -> Difference {
    compare_with_checks(false, accounts, page)
}

fn compare_with_checks(checks: bool, accounts: Vec<Account>, page: SandboxPage) -> Difference {
    let list = AccountList {
        accounts,
        ..AccountList::default()
    };
    let mut comparison = Comparison::new(list, checks);
    comparison.add(page);
    comparison.finish(NOW, RETRY_AFTER)
}

fn page(sandboxes: Vec<Sandbox>) -> SandboxPage {
    SandboxPage {
        sandboxes,
        ..SandboxPage::default()
    }
}

/// Returns the accounts of changes.
fn of(changes: &[(Account, Status)]) -> Vec<Account> {
    changes.iter().map(|(account, _)| account.clone()).collect()
}

/// Returns an available sandbox as one that is missing or repeated.
fn available(id: &str) -> (SandboxId, Status) {
    (SandboxId::parse(id).unwrap(), Status::Available)
}

fn relisted(id: &str, was: Status, is: Status) -> Relisted {
    let id = SandboxId::parse(id).unwrap();
    Relisted { id, was, is }
}

fn ids(accounts: &[Account]) -> Vec<&str> {
    accounts
        .iter()
        .map(|account| account.sandbox_id.as_str())
        .collect()
}

#[test]
fn account_listed_under_two_ids_is_one_sandbox() {
    let difference = compare(vec![account("1", "a"), account("2", "a")], page(vec![]));
    assert_eq!(
        (ids(&difference.new), difference.duplicates),
        (vec!["1"], 1)
    );
    let difference = compare(
        vec![account("1", "a"), account("2", "a")],
        page(vec![sandbox("2", "a", Status::Available)]),
    );
    assert!(
        difference.new.is_empty()
            && difference.missing.is_empty()
            && difference.repeated.is_empty()
    );
    assert_eq!((difference.listed, difference.duplicates), (1, 1));
}

#[test]
fn renumbered_account_keeps_its_sandbox() {
    for status in [
        Status::Available,
        Status::Stale,
        Status::Allocated,
        Status::PendingDeletion,
        Status::DeletionFailed,
    ] {
        let known = page(vec![sandbox("0", "a", status)]);
        let difference = compare(vec![account("7", "a")], known);
        assert!(
            difference.new.is_empty() && difference.missing.is_empty(),
            "{status:?}"
        );
        let restored: &[&str] = if status == Status::Stale { &["0"] } else { &[] };
        assert_eq!(ids(&of(&difference.restored)), restored, "{status:?}");
    }
}

#[test]
fn quarantined_sandbox_keeps_its_account_to_itself() {
    let of_list = |listed: &[(&str, &str)], known: Vec<Sandbox>| {
        let listed = listed
            .iter()
            .map(|(id, external_id)| account(id, external_id));
        compare(listed.collect(), page(known))
    };
    let aside = || quarantined("1", "a", Status::Available);
    for listed in [[("1", "a")], [("7", "a")], [("1", "b")]] {
        let difference = of_list(&listed, vec![aside()]);
        assert!(
            difference.new.is_empty() && difference.changed.is_empty(),
            "{listed:?}"
        );
        assert!(difference.relisted.is_empty(), "{listed:?}");
        assert_eq!(difference.quarantined_missing, 0, "{listed:?}");
    }
    let other = sandbox("7", "a", Status::Available);
    let difference = of_list(&[("7", "a")], vec![aside(), other.clone()]);
    assert_eq!(difference.repeated, [available("7")]);
    assert!(difference.relisted.is_empty());
    // Not available at its end if its account has a holder, or was deleted.
    let expected = [relisted("1", Status::Available, Status::Stale)];
    let difference = of_list(
        &[("7", "a")],
        vec![aside(), sandbox("7", "a", Status::Allocated)],
    );
    assert_eq!(difference.relisted, expected);
    let buried = SandboxPage {
        tombstones: vec![tombstone("9", "a", 60)],
        ..page(vec![aside()])
    };
    assert_eq!(compare(vec![account("1", "a")], buried).relisted, expected);
}

#[test]
fn listing_of_a_quarantined_sandbox_is_recorded_where_it_changed() {
    use Status::{Available, Provisioning, Stale};
    let relisted = |checks, listed: Vec<Account>, known: Sandbox| {
        let difference = compare_with_checks(checks, listed, page(vec![known]));
        assert!(difference.missing.is_empty() && difference.restored.is_empty());
        assert!(difference.provided.is_empty() && difference.changed.is_empty());
        let changes = difference.relisted.into_iter();
        let changes = changes.map(|change| (change.was, change.is));
        (changes.collect::<Vec<_>>(), difference.quarantined_missing)
    };
    let listed = || vec![account("1", "a")];
    for checks in [false, true] {
        let entry = if checks { Provisioning } else { Available };
        for (from, is_listed, expected) in [
            (Available, true, vec![]),
            (Available, false, vec![(Available, Stale)]),
            (Provisioning, true, vec![]),
            (Provisioning, false, vec![(Provisioning, Stale)]),
            (Stale, true, vec![(Stale, entry)]),
            (Stale, false, vec![]),
        ] {
            let accounts = if is_listed { listed() } else { vec![] };
            let expected = (expected, usize::from(!is_listed));
            assert_eq!(
                relisted(checks, accounts, quarantined("1", "a", from)),
                expected,
                "{from} {is_listed} {checks}"
            );
        }
    }
    let mut usable = quarantined("1", "a", Stale);
    usable.readiness.usable_at = Some(NOW);
    assert_eq!(
        relisted(true, listed(), usable),
        (vec![(Stale, Available)], 0)
    );
    let held = sandbox("1", "a", Status::Quarantined);
    assert_eq!(relisted(true, vec![], held), (vec![], 1));
}

#[test]
fn provisioning_sandbox_follows_the_list_as_an_available_one() {
    let known = || page(vec![sandbox("1", "a", Status::Provisioning)]);
    let difference = compare_with_checks(true, vec![account("1", "a")], known());
    assert!(difference.changed.is_empty() && difference.provided.is_empty());
    assert_eq!((difference.provisioning, difference.available), (1, 0));
    let provisioning = |id| (SandboxId::parse(id).unwrap(), Status::Provisioning);
    let difference = compare_with_checks(true, vec![], known());
    assert_eq!(difference.missing, [provisioning("1")]);
    let renamed = Account {
        name: "renamed".to_owned(),
        ..account("1", "a")
    };
    let difference = compare_with_checks(true, vec![renamed.clone()], known());
    assert_eq!(difference.changed, [(renamed, Status::Provisioning)]);
    // Of two sandboxes of an account the available one stays.
    let both = page(vec![
        sandbox("1", "a", Status::Provisioning),
        sandbox("2", "a", Status::Available),
    ]);
    let difference = compare_with_checks(true, vec![account("1", "a")], both);
    assert_eq!(difference.repeated, [provisioning("1")]);
}

#[test]
fn provisioning_sandbox_becomes_available_if_accounts_are_not_checked() {
    let known = || page(vec![sandbox("1", "a", Status::Provisioning)]);
    let renamed = Account {
        name: "renamed".to_owned(),
        ..account("1", "a")
    };
    for listed in [account("1", "a"), renamed] {
        let difference = compare(vec![listed.clone()], known());
        assert_eq!(difference.provided, [listed]);
        assert!(difference.changed.is_empty());
    }
    let difference = compare(vec![], known());
    assert!(difference.provided.is_empty());
    assert_eq!(difference.missing.len(), 1);
}

#[test]
fn stale_sandbox_is_checked_again_unless_its_account_was_usable() {
    for (checks, was_usable, expected) in [
        (false, false, Status::Available),
        (true, true, Status::Available),
        (true, false, Status::Provisioning),
    ] {
        let mut stale = sandbox("1", "a", Status::Stale);
        stale.readiness.usable_at = was_usable.then_some(NOW);
        let listed = vec![account("1", "a")];
        let difference = compare_with_checks(checks, listed, page(vec![stale]));
        let statuses = difference.restored.iter().map(|(_, status)| *status);
        assert!(statuses.eq([expected]), "{checks} {was_usable}");
    }
}

#[test]
fn renumbered_account_is_deleted_again_under_its_known_id() {
    for (age, resurfaced) in [(60, 0), (7200, 1)] {
        let difference = compare(
            vec![account("7", "a")],
            SandboxPage {
                tombstones: vec![tombstone("1", "a", age)],
                ..SandboxPage::default()
            },
        );
        assert!(difference.new.is_empty());
        assert_eq!(difference.resurfaced.len(), resurfaced);
        for (_, account) in &difference.resurfaced {
            assert_eq!(account.sandbox_id.as_str(), "1");
        }
    }
}

#[test]
fn of_two_sandboxes_of_an_account_only_one_stays_available() {
    let known = || {
        vec![
            sandbox("0", "a", Status::Available),
            sandbox("7", "a", Status::Available),
        ]
    };
    let difference = compare(vec![account("7", "a")], page(known()));
    assert_eq!(difference.repeated, [available("0")]);
    let used = sandbox("1", "a", Status::PendingDeletion);
    let difference = compare(
        vec![account("7", "a")],
        page(known().into_iter().chain([used]).collect()),
    );
    assert_eq!(difference.repeated.len(), 2);
    let difference = compare(
        vec![account("7", "a")],
        SandboxPage {
            tombstones: vec![tombstone("1", "a", 60)],
            ..page(known())
        },
    );
    assert_eq!(difference.repeated.len(), 2);
}

#[test]
fn id_of_a_deleted_or_held_sandbox_is_not_given_to_another_account() {
    let difference = compare(
        vec![account("1", "b"), account("2", "b2")],
        SandboxPage {
            tombstones: vec![tombstone("1", "a", 7200)],
            ..page(vec![sandbox("2", "a2", Status::Allocated)])
        },
    );
    assert!(
        difference.new.is_empty()
            && difference.resurfaced.is_empty()
            && difference.changed.is_empty()
    );
    assert_eq!(difference.duplicates, 2);
}

#[test]
fn available_sandbox_follows_its_id_to_another_account() {
    let known = || page(vec![sandbox("1", "a", Status::Available)]);
    let difference = compare(vec![account("1", "b")], known());
    assert_eq!(ids(&of(&difference.changed)), ["1"]);
    assert!(difference.missing.is_empty());
    let difference = compare(vec![account("1", "b"), account("2", "a")], known());
    assert!(
        difference.changed.is_empty() && difference.new.is_empty(),
        "its own account is listed"
    );
}

#[test]
fn another_account_of_an_available_sandbox_is_checked_before_it_can_be_allocated() {
    let other = || vec![account("1", "b")];
    let known = |status| {
        let mut known = sandbox("1", "a", status);
        known.readiness.usable_at = Some(NOW);
        page(vec![known])
    };
    let difference = compare_with_checks(true, other(), known(Status::Available));
    assert_eq!(difference.missing, [available("1")]);
    assert!(difference.changed.is_empty() && difference.new.is_empty());
    let difference = compare_with_checks(true, other(), known(Status::Stale));
    assert_eq!(
        difference.restored,
        [(account("1", "b"), Status::Provisioning)]
    );
    let difference = compare_with_checks(false, other(), known(Status::Stale));
    assert_eq!(
        difference.restored,
        [(account("1", "b"), Status::Available)]
    );
}

#[test]
fn sandbox_of_an_unusable_entry_is_not_missing() {
    let list = AccountList {
        other_ids: HashSet::from([SandboxId::parse("1").unwrap()]),
        other_external_ids: HashSet::from(["identity/accounts/b".to_owned()]),
        ..AccountList::default()
    };
    let mut comparison = Comparison::new(list, false);
    comparison.add(page(
        ["a", "b", "c"]
            .into_iter()
            .zip(["1", "2", "3"])
            .map(|(external_id, id)| sandbox(id, external_id, Status::Available))
            .collect(),
    ));
    let difference = comparison.finish(NOW, RETRY_AFTER);
    assert_eq!(difference.missing, [available("3")]);
}

#[test]
fn account_of_an_unreadable_sandbox_has_no_other() {
    for (external_id, listed) in [(Some("identity/accounts/a"), "7"), (None, "1")] {
        let unreadable = UnreadableSandbox {
            id: "1".to_owned(),
            external_id: external_id.map(ToOwned::to_owned),
        };
        let known = |sandboxes| SandboxPage {
            unreadable: vec![unreadable.clone()],
            ..page(sandboxes)
        };
        let difference = compare(vec![account(listed, "a")], known(vec![]));
        assert!(difference.new.is_empty(), "{external_id:?}");
        let other = sandbox("7", "a", Status::Available);
        let difference = compare(vec![account(listed, "a")], known(vec![other]));
        assert_eq!(difference.repeated.len(), 1, "{external_id:?}");
    }
}

#[test]
fn damaged_external_id_identifies_no_account() {
    let damaged = |id, status| Sandbox {
        account: Account {
            external_id: String::new(),
            ..account(id, "a")
        },
        ..sandbox(id, "a", status)
    };
    let mut damaged_tombstone = tombstone("3", "c", 7200);
    damaged_tombstone.external_id.clear();
    let difference = compare(
        vec![account("1", "a"), account("3", "c")],
        SandboxPage {
            tombstones: vec![damaged_tombstone],
            ..page(vec![
                damaged("1", Status::Available),
                damaged("2", Status::Available),
            ])
        },
    );
    assert!(difference.repeated.is_empty() && difference.new.is_empty());
    assert_eq!(
        ids(&of(&difference.changed)),
        ["1"],
        "its external id is repaired"
    );
    assert_eq!(difference.missing, [available("2")]);
    assert_eq!(difference.resurfaced.len(), 1);
}

/// Returns the sandboxes that may be allocated after the differences were written, and after every account was found
/// usable, with their accounts.
fn allocatable(sandboxes: &[Sandbox], difference: &Difference) -> BTreeMap<String, String> {
    let waiting = sandboxes
        .iter()
        .filter(|sandbox| matches!(sandbox.status, Status::Available | Status::Provisioning))
        .map(|sandbox| &sandbox.account);
    let changed = difference.changed.iter().chain(&difference.restored);
    let mut allocatable: BTreeMap<_, _> = waiting
        .chain(changed.map(|(account, _)| account))
        .chain(&difference.provided)
        .chain(&difference.new)
        .map(|account| (account.sandbox_id.to_string(), account.external_id.clone()))
        .collect();
    // The guard may keep those that are missing.
    for (id, _) in &difference.repeated {
        allocatable.remove(id.as_str());
    }
    allocatable
}

proptest! {
    #[test]
    fn account_has_one_allocatable_sandbox_and_none_after_it_was_used(
        list in proptest::collection::vec(("[0-5]", "[a-e]"), 0..8),
        sandboxes in proptest::collection::hash_map("[0-7]", ("[a-e]", proptest::sample::select(Status::ALL.to_vec())), 0..8),
        tombstones in proptest::collection::hash_map("[0-7]", ("[a-e]", 0_i64..7200), 0..3),
        checks in any::<bool>(),
    ) {
        let list: Vec<_> = list.iter().map(|(id, external_id)| account(id, external_id)).collect();
        let mut sandboxes: Vec<_> = sandboxes.iter()
            .map(|(id, (external_id, status))| match status {
                Status::Quarantined => quarantined(id, external_id, Status::Available),
                _ => sandbox(id, external_id, *status),
            })
            .collect();
        let tombstones: Vec<_> = tombstones.iter()
            .map(|(id, (external_id, age))| tombstone(id, external_id, *age))
            .collect();
        let whole = |sandboxes: &[Sandbox]| SandboxPage { tombstones: tombstones.clone(), ..page(sandboxes.to_vec()) };
        let difference = compare_with_checks(checks, list.clone(), whole(&sandboxes));
        let after = allocatable(&sandboxes, &difference);
        let accounts: HashSet<_> = after.values().collect();
        prop_assert_eq!(accounts.len(), after.len(), "one account has two sandboxes: {:?}", after);
        let used = sandboxes.iter()
            .filter(|sandbox| sandbox.holder.is_some())
            .map(|sandbox| (sandbox.id().as_str(), &sandbox.account.external_id))
            .chain(tombstones.iter().map(|tombstone| (tombstone.sandbox_id.as_str(), &tombstone.external_id)));
        for (id, external_id) in used {
            prop_assert!(!accounts.contains(external_id), "{} was used", external_id);
            let is_known = sandboxes.iter().any(|sandbox| sandbox.id().as_str() == id && sandbox.holder.is_none());
            prop_assert!(is_known || !after.contains_key(id), "{} was used", id);
        }
        sandboxes.reverse();
        let again = compare_with_checks(checks, list, whole(&sandboxes));
        prop_assert_eq!(allocatable(&sandboxes, &again), after, "the order of the items does not matter");
    }
}
