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
    /// Waiting for a holder in this status, with other attributes in CSP.
    pub(super) changed: Vec<(Account, Status)>,
    /// In `provisioning`, although accounts are not checked.
    pub(super) provided: Vec<Account>,
    /// Stale, but listed by CSP again. With the status that they reach.
    pub(super) restored: Vec<(Account, Status)>,
    /// Waiting for a holder in this status, but no longer listed by CSP.
    pub(super) missing: Vec<(SandboxId, Status)>,
    /// Waiting for a holder in this status, although another sandbox has the same account, or had it before the account was
    /// deleted.
    pub(super) repeated: Vec<(SandboxId, Status)>,
    /// Quarantined and never held, where CSP has begun or ceased to list them.
    pub(super) relisted: Vec<Relisted>,
    /// The number of quarantined sandboxes that CSP does not list.
    pub(super) quarantined_missing: usize,
    /// Deleted, but still listed by CSP.
    pub(super) resurfaced: Vec<(Tombstone, Account)>,
    /// The number of distinct accounts in CSP's list.
    pub(super) listed: usize,
    /// The number of entries and sandboxes that repeat an account or an id.
    pub(super) duplicates: usize,
    /// The number of available sandboxes.
    pub(super) available: usize,
    /// The number of sandboxes in `provisioning`.
    pub(super) provisioning: usize,
}

/// A quarantined sandbox that CSP has begun or ceased to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relisted {
    pub(super) id: SandboxId,
    /// The status to which it was to return.
    pub(super) was: Status,
    /// The status to which it returns.
    pub(super) is: Status,
}

impl Relisted {
    /// Whether CSP lists it.
    pub(super) fn is_listed(&self) -> bool {
        self.is != Status::Stale
    }
}

/// The changes that sync may make to a sandbox. Of several sandboxes of one account, the first in this order is its
/// sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// None, because it has, or had, a holder, is unreadable, or is not the sandbox of its account.
    Untouchable,
    /// Quarantined and never held: only record whether CSP lists it.
    Quarantined,
    /// Available: update it, or mark it stale.
    Available,
    /// Waiting for a check of its account: as an available one.
    Provisioning,
    /// Stale and never held: restore it.
    Restorable,
}

/// A sandbox of the pool.
#[derive(Debug)]
struct Known {
    account: Account,
    standing: Standing,
    is_quarantined: bool,
    /// Its status or, in quarantine, the one to which it returns.
    waits_as: Status,
    /// Whether its account was ever found usable.
    was_usable: bool,
    is_listed: bool,
}

impl Known {
    fn of(sandbox: Sandbox) -> Self {
        let is_quarantined = sandbox.status == Status::Quarantined;
        let returns_to = sandbox.quarantine.from.filter(|from| {
            let waits = matches!(
                from,
                Status::Provisioning | Status::Available | Status::Stale
            );
            is_quarantined && waits
        });
        let standing = match sandbox.status {
            Status::Available => Standing::Available,
            Status::Provisioning => Standing::Provisioning,
            Status::Stale if !sandbox.was_held() => Standing::Restorable,
            Status::Quarantined if !sandbox.was_held() && returns_to.is_some() => {
                Standing::Quarantined
            }
            _ => Standing::Untouchable,
        };
        Self {
            standing,
            is_quarantined,
            waits_as: returns_to.unwrap_or(sandbox.status),
            was_usable: sandbox.readiness.usable_at.is_some(),
            is_listed: false,
            account: sandbox.account,
        }
    }

    /// Returns an item that cannot be read. It exists, so that its account is not inserted again, but cannot be changed.
    fn unreadable(account: Account) -> Self {
        Self {
            account,
            standing: Standing::Untouchable,
            is_quarantined: false,
            waits_as: Status::Stale,
            was_usable: false,
            is_listed: false,
        }
    }

    /// Returns the change of a quarantined sandbox that CSP does not list; `None` if it is known.
    fn unlisted(&self) -> Option<Relisted> {
        (self.waits_as != Status::Stale).then(|| Relisted {
            id: self.account.sandbox_id.clone(),
            was: self.waits_as,
            is: Status::Stale,
        })
    }
}

/// The comparison of a list with the tables, which are read page by page.
#[derive(Debug)]
pub(super) struct Comparison {
    list: AccountList,
    /// Whether a new account has to be checked before its sandbox is available.
    checks: bool,
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
    pub(super) fn new(list: AccountList, checks: bool) -> Self {
        let listed_ids = list.accounts.iter().rev();
        Self {
            listed_ids: listed_ids
                .map(|account| (account.sandbox_id.clone(), account.external_id.clone()))
                .collect(),
            list,
            checks,
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
        match sandbox.status {
            Status::Available => self.difference.available += 1,
            Status::Provisioning => self.difference.provisioning += 1,
            _ => {}
        }
        self.add_known(Known::of(sandbox));
    }

    fn add_unreadable(&mut self, item: UnreadableSandbox) {
        // An invalid id is not in CSP's list.
        if let Ok(sandbox_id) = SandboxId::parse(item.id) {
            self.add_known(Known::unreadable(Account {
                sandbox_id,
                name: String::new(),
                external_id: item.external_id.unwrap_or_default(),
                sfdc_account_id: None,
                created_at: None,
            }));
        }
    }

    fn add_known(&mut self, mut known: Known) {
        let id = known.account.sandbox_id.clone();
        let external_id = &known.account.external_id;
        let key = self.account_of(id.as_str(), external_id);
        known.is_listed =
            self.list.other_ids.contains(&id) || self.list.other_external_ids.contains(external_id);
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
        match known.standing {
            Standing::Available | Standing::Provisioning => {
                let repeated = (id.clone(), known.waits_as);
                self.difference.repeated.push(repeated);
            }
            // So that it does not become available at the end of its quarantine.
            Standing::Quarantined => self.difference.relisted.extend(known.unlisted()),
            _ => {}
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
            if known.is_listed {
                continue;
            }
            self.difference.quarantined_missing += usize::from(known.is_quarantined);
            match known.standing {
                Standing::Available | Standing::Provisioning => {
                    self.difference.missing.push((id, known.waits_as));
                }
                Standing::Quarantined => self.difference.relisted.extend(known.unlisted()),
                _ => {}
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
        } else if let Some(known) = self.sandboxes.get_mut(&account.sandbox_id) {
            if known.is_listed || known.standing == Standing::Untouchable {
                self.difference.duplicates += 1;
                log_duplicate(&account);
            } else if self.checks && known.standing == Standing::Available {
                // CSP lists its id with another account, which was never checked. The known account is missing, so that
                // the sandbox becomes stale. The next sync restores it for a check.
                tracing::warn!(
                    sandbox_id = account.sandbox_id.as_str(),
                    external_id = account.external_id,
                    "available sandbox has another account, which is not checked"
                );
            } else {
                // CSP lists its id with another external id, and no longer with the known one.
                if known.standing == Standing::Restorable {
                    known.was_usable = false;
                }
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
        // One whose account was never found usable is checked before it can be allocated.
        let listed_as = if self.checks && !known.was_usable {
            Status::Provisioning
        } else {
            Status::Available
        };
        match known.standing {
            Standing::Provisioning if !self.checks => self.difference.provided.push(account),
            Standing::Available | Standing::Provisioning if differs(&known.account, &account) => {
                self.difference.changed.push((account, known.waits_as));
            }
            Standing::Restorable => self.difference.restored.push((account, listed_as)),
            Standing::Quarantined if known.waits_as == Status::Stale => {
                self.difference.relisted.push(Relisted {
                    id: id.clone(),
                    was: Status::Stale,
                    is: listed_as,
                });
            }
            _ => {}
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
mod tests;
