//! The comparison of CSP's list with the sandboxes and tombstones of the tables.
//!
//! An account is identified by its external id, by which it is deleted. It has at most one sandbox that can be
//! allocated, and none after it was used or deleted, even if CSP lists it under other ids.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    clock::UnixSeconds,
    csp::{AccountList, uuid_of},
    domain::{Account, Sandbox, SandboxId, Status},
    store::{SandboxPage, Tombstone, UnreadableSandbox},
};

/// The differences between CSP and the pool.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Listed for the first time.
    pub(super) new: Vec<Account>,
    /// Available, with other attributes in CSP.
    pub(super) changed: Vec<Account>,
    /// Stale, but listed by CSP again.
    pub(super) restored: Vec<Account>,
    /// Available, but no longer listed by CSP.
    pub(super) missing: Vec<SandboxId>,
    /// Available, although another sandbox has the same account, or had it before the account was deleted.
    pub(super) repeated: Vec<SandboxId>,
    /// Deleted, but still listed by CSP.
    pub(super) resurfaced: Vec<(Tombstone, Account)>,
    /// The number of distinct accounts in CSP's list.
    pub(super) listed: usize,
    /// The number of entries and sandboxes that repeat an account or an id.
    pub(super) duplicates: usize,
    /// The number of available sandboxes.
    pub(super) available: usize,
}

/// The changes that sync may make to a sandbox. Of several sandboxes of one account, the first in this order is its
/// sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// None, because it has, or had, a holder, is unreadable, or is not the sandbox of its account.
    Untouchable,
    /// Available: update it, or mark it stale.
    Available,
    /// Stale and never held: restore it.
    Restorable,
}

/// A sandbox of the pool.
#[derive(Debug)]
struct Known {
    account: Account,
    standing: Standing,
    is_listed: bool,
}

/// The comparison of a list with the tables, which are read page by page.
#[derive(Debug)]
pub(super) struct Comparison {
    list: AccountList,
    /// The external id under which CSP lists each id.
    listed_ids: HashMap<SandboxId, String>,
    sandboxes: HashMap<SandboxId, Known>,
    /// The sandbox of each account.
    owners: HashMap<String, SandboxId>,
    /// The latest tombstone of each account.
    tombstones: HashMap<String, Tombstone>,
    /// The ids of tombstones.
    deleted_ids: HashSet<String>,
    difference: Difference,
}

/// Returns the identity of an account; `None` if the external id is damaged.
fn identity(external_id: &str) -> Option<&str> {
    uuid_of(external_id).ok()
}

impl Comparison {
    pub(super) fn new(list: AccountList) -> Self {
        let listed_ids = list.accounts.iter().rev();
        Self {
            listed_ids: listed_ids
                .map(|account| (account.sandbox_id.clone(), account.external_id.clone()))
                .collect(),
            list,
            sandboxes: HashMap::new(),
            owners: HashMap::new(),
            tombstones: HashMap::new(),
            deleted_ids: HashSet::new(),
            difference: Difference::default(),
        }
    }

    /// Adds a page of the tables. Sandboxes have to be read before tombstones, so that a sandbox that is deleted
    /// meanwhile is not missed.
    pub(super) fn add(&mut self, page: SandboxPage) {
        for item in page.unreadable {
            self.add_unreadable(item);
        }
        for sandbox in page.sandboxes {
            self.add_sandbox(sandbox);
        }
        for tombstone in page.tombstones {
            self.add_tombstone(tombstone);
        }
    }

    fn add_sandbox(&mut self, sandbox: Sandbox) {
        let was_never_held = sandbox.expires_at.is_none() && sandbox.holder.is_none();
        let standing = match sandbox.status {
            Status::Available => Standing::Available,
            Status::Stale if was_never_held => Standing::Restorable,
            _ => Standing::Untouchable,
        };
        self.difference.available += usize::from(standing == Standing::Available);
        self.add_known(sandbox.account, standing);
    }

    /// Adds a sandbox that exists, so that its account is not inserted again, but cannot be changed.
    fn add_unreadable(&mut self, item: UnreadableSandbox) {
        // An invalid id is not in CSP's list.
        if let Ok(sandbox_id) = SandboxId::parse(item.id) {
            let account = Account {
                sandbox_id,
                name: String::new(),
                external_id: item.external_id.unwrap_or_default(),
                sfdc_account_id: None,
                created_at: None,
            };
            self.add_known(account, Standing::Untouchable);
        }
    }

    fn add_known(&mut self, account: Account, standing: Standing) {
        let id = account.sandbox_id.clone();
        let key = self.account_of(id.as_str(), &account.external_id);
        let is_listed = self.list.other_ids.contains(&id)
            || self.list.other_external_ids.contains(&account.external_id);
        let known = Known {
            account,
            standing,
            is_listed,
        };
        self.sandboxes.insert(id.clone(), known);
        let Some(key) = key else {
            return;
        };
        let Some(other) = self.owners.insert(key.clone(), id.clone()) else {
            return;
        };
        let loser = if self.rank(&id) < self.rank(&other) {
            other
        } else {
            self.owners.insert(key, other);
            id
        };
        self.difference.duplicates += 1;
        self.exclude(&loser);
    }

    /// Returns the identity of the account of an item. If its external id is damaged, the account is the one that CSP
    /// lists under its id.
    fn account_of(&self, id: &str, external_id: &str) -> Option<String> {
        identity(external_id)
            .or_else(|| identity(self.listed_ids.get(id)?))
            .map(ToOwned::to_owned)
    }

    /// Returns the order of the sandboxes of one account: those with a holder, then the one with the id that CSP lists.
    fn rank<'a>(&self, id: &'a SandboxId) -> (Option<Standing>, bool, &'a SandboxId) {
        let known = self.sandboxes.get(id);
        let is_listed =
            known.is_some_and(|known| self.listed_ids.get(id) == Some(&known.account.external_id));
        (known.map(|known| known.standing), !is_listed, id)
    }

    fn add_tombstone(&mut self, tombstone: Tombstone) {
        self.deleted_ids.insert(tombstone.sandbox_id.clone());
        let Some(key) = self.account_of(&tombstone.sandbox_id, &tombstone.external_id) else {
            return;
        };
        // A sandbox in another status is being deleted again.
        if let Some(owner) = self.owners.get(&key).cloned()
            && self.sandboxes[&owner].standing != Standing::Untouchable
        {
            self.difference.duplicates += 1;
            self.exclude(&owner);
        }
        let time = |one: &Tombstone| (one.deleted_at, one.sandbox_id.clone());
        match self.tombstones.get(&key) {
            Some(other) if time(other) > time(&tombstone) => {}
            _ => {
                self.tombstones.insert(key, tombstone);
            }
        }
    }

    /// Excludes a sandbox from allocation, because its account belongs, or belonged, to another one.
    fn exclude(&mut self, id: &SandboxId) {
        let Some(known) = self.sandboxes.get_mut(id) else {
            return;
        };
        tracing::warn!(
            sandbox_id = id.as_str(),
            external_id = known.account.external_id,
            "another sandbox has the same account"
        );
        if known.standing == Standing::Available {
            self.difference.repeated.push(id.clone());
        }
        known.standing = Standing::Untouchable;
    }

    /// Returns the differences, after all pages were added.
    pub(super) fn finish(mut self, now: UnixSeconds, retry_after: Duration) -> Difference {
        let mut accounts = std::mem::take(&mut self.list.accounts);
        // An account that is known comes before others with its id, and its known id before others.
        accounts.sort_by_cached_key(|account| {
            let key = identity(&account.external_id).unwrap_or_default();
            match self.owners.get(key) {
                Some(owner) if *owner == account.sandbox_id => 0,
                Some(_) => 1,
                None if self.tombstones.contains_key(key) => 1,
                None => 2,
            }
        });
        let (mut seen_ids, mut seen_accounts) = (HashSet::new(), HashSet::new());
        for account in accounts {
            // The list contains no damaged ids.
            let key = identity(&account.external_id)
                .unwrap_or_default()
                .to_owned();
            if seen_ids.contains(&account.sandbox_id) || seen_accounts.contains(&key) {
                self.difference.duplicates += 1;
                log_duplicate(&account);
                continue;
            }
            seen_ids.insert(account.sandbox_id.clone());
            seen_accounts.insert(key.clone());
            self.difference.listed += 1;
            self.add_account(&key, account, now, retry_after);
        }
        for (id, known) in self.sandboxes {
            if known.standing == Standing::Available && !known.is_listed {
                self.difference.missing.push(id);
            }
        }
        self.difference
    }

    fn add_account(
        &mut self,
        key: &str,
        account: Account,
        now: UnixSeconds,
        retry_after: Duration,
    ) {
        if let Some(owner) = self.owners.get(key).cloned() {
            if owner != account.sandbox_id {
                self.difference.duplicates += 1;
                log_duplicate(&account);
            }
            self.refresh(&owner, account);
        } else if let Some(tombstone) = self.tombstones.remove(key) {
            // CSP may list a deleted account for a while.
            let is_recent = UnixSeconds(tombstone.deleted_at)
                .if_credible(now)
                .is_some_and(|deleted_at| deleted_at + retry_after > now);
            if !is_recent && let Ok(sandbox_id) = SandboxId::parse(&tombstone.sandbox_id) {
                let account = Account {
                    sandbox_id,
                    ..account
                };
                self.difference.resurfaced.push((tombstone, account));
            }
        } else if let Some(known) = self.sandboxes.get(&account.sandbox_id) {
            if known.is_listed || known.standing == Standing::Untouchable {
                self.difference.duplicates += 1;
                log_duplicate(&account);
            } else {
                // CSP lists its id with another external id, and no longer with the known one.
                let owner = account.sandbox_id.clone();
                self.refresh(&owner, account);
            }
        } else if self.deleted_ids.contains(account.sandbox_id.as_str()) {
            self.difference.duplicates += 1;
            log_duplicate(&account);
        } else {
            self.difference.new.push(account);
        }
    }

    /// Brings the sandbox `id` in line with its account, which CSP may list under another id.
    fn refresh(&mut self, id: &SandboxId, account: Account) {
        let Some(known) = self.sandboxes.get_mut(id) else {
            return;
        };
        known.is_listed = true;
        let account = Account {
            sandbox_id: id.clone(),
            ..account
        };
        match known.standing {
            Standing::Available if differs(&known.account, &account) => {
                self.difference.changed.push(account);
            }
            Standing::Restorable => self.difference.restored.push(account),
            Standing::Available | Standing::Untouchable => {}
        }
    }
}

fn log_duplicate(account: &Account) {
    tracing::warn!(
        csp_id = account.sandbox_id.as_str(),
        external_id = account.external_id,
        "CSP account skipped: its id or its account is that of another sandbox"
    );
}

fn differs(known: &Account, listed: &Account) -> bool {
    (&known.name, &known.external_id, &known.sfdc_account_id)
        != (&listed.name, &listed.external_id, &listed.sfdc_account_id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::{CallerId, Holder, IdempotencyKey, Maintenance};

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
        let is_held = !matches!(status, Status::Available | Status::Stale);
        let caller = CallerId::parse("play-1").unwrap();
        Sandbox {
            account: account(id, external_id),
            status,
            holder: is_held.then(|| Holder {
                key: IdempotencyKey::from(&caller),
                caller,
                lab: None,
            }),
            allocated_at: UnixSeconds(if is_held { NOW.0 - 60 } else { 0 }),
            expires_at: is_held.then_some(NOW),
            is_inherited: false,
            lab_duration_hours: 4,
            deletion_requested_at: None,
            maintenance: Maintenance::default(),
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
        let mut comparison = Comparison::new(AccountList {
            accounts,
            ..AccountList::default()
        });
        comparison.add(page);
        comparison.finish(NOW, RETRY_AFTER)
    }

    fn page(sandboxes: Vec<Sandbox>) -> SandboxPage {
        SandboxPage {
            sandboxes,
            ..SandboxPage::default()
        }
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
            assert_eq!(ids(&difference.restored), restored, "{status:?}");
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
        assert_eq!(difference.repeated, [SandboxId::parse("0").unwrap()]);
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
        assert_eq!(ids(&difference.changed), ["1"]);
        assert!(difference.missing.is_empty());
        let difference = compare(vec![account("1", "b"), account("2", "a")], known());
        assert!(
            difference.changed.is_empty() && difference.new.is_empty(),
            "its own account is listed"
        );
    }

    #[test]
    fn sandbox_of_an_unusable_entry_is_not_missing() {
        let mut comparison = Comparison::new(AccountList {
            other_ids: HashSet::from([SandboxId::parse("1").unwrap()]),
            other_external_ids: HashSet::from(["identity/accounts/b".to_owned()]),
            ..AccountList::default()
        });
        comparison.add(page(
            ["a", "b", "c"]
                .into_iter()
                .zip(["1", "2", "3"])
                .map(|(external_id, id)| sandbox(id, external_id, Status::Available))
                .collect(),
        ));
        let difference = comparison.finish(NOW, RETRY_AFTER);
        assert_eq!(difference.missing, [SandboxId::parse("3").unwrap()]);
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
            ids(&difference.changed),
            ["1"],
            "its external id is repaired"
        );
        assert_eq!(difference.missing, [SandboxId::parse("2").unwrap()]);
        assert_eq!(difference.resurfaced.len(), 1);
    }

    /// Returns the sandboxes that may be allocated after the differences were written, with their accounts.
    fn allocatable(sandboxes: &[Sandbox], difference: &Difference) -> BTreeMap<String, String> {
        let available = sandboxes
            .iter()
            .filter(|sandbox| sandbox.status == Status::Available)
            .map(|sandbox| &sandbox.account);
        let mut allocatable: BTreeMap<_, _> = available
            .chain(&difference.changed)
            .chain(&difference.restored)
            .chain(&difference.new)
            .map(|account| (account.sandbox_id.to_string(), account.external_id.clone()))
            .collect();
        // The guard may keep those that are missing.
        for id in &difference.repeated {
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
        ) {
            let list: Vec<_> = list.iter().map(|(id, external_id)| account(id, external_id)).collect();
            let mut sandboxes: Vec<_> = sandboxes.iter()
                .map(|(id, (external_id, status))| sandbox(id, external_id, *status))
                .collect();
            let tombstones: Vec<_> = tombstones.iter()
                .map(|(id, (external_id, age))| tombstone(id, external_id, *age))
                .collect();
            let whole = |sandboxes: &[Sandbox]| SandboxPage { tombstones: tombstones.clone(), ..page(sandboxes.to_vec()) };
            let difference = compare(list.clone(), whole(&sandboxes));
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
            let again = compare(list, whole(&sandboxes));
            prop_assert_eq!(allocatable(&sandboxes, &again), after, "the order of the items does not matter");
        }
    }
}
