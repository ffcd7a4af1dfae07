//! The simulator's accounts, and the file that keeps them over a restart.
//!
//! An account is a function of the seed and its number, so the file only holds how many were created, which were
//! deleted, and the requests that created accounts over the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    CreatedAccount, NewAccount, Settings,
    generated::{FIRST_CSP_ID, account},
};
use crate::{
    clock::{Clock, SystemClock},
    private_files,
};

/// The maximum number of accounts in a file; a larger one is not valid.
const MAX_ACCOUNTS: u64 = 10_000_000;

/// An account of the simulator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SimulatedAccount {
    /// Its resource id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its numeric id, which becomes the sandbox's id.
    pub csp_id: u64,
    pub(super) account_type: &'static str,
    pub(super) state: String,
    pub(super) created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sfdc_account_id: Option<String>,
    /// When it was created over the API, in milliseconds since 1970; `None` for any other account.
    #[serde(skip)]
    pub(super) created_ms: Option<i64>,
}

/// A saved creation over the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Creation {
    at_ms: i64,
    #[serde(flatten)]
    request: NewAccount,
}

/// The saved state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    seed: u64,
    /// The number of accounts ever created.
    #[serde(rename = "made")]
    created: u64,
    /// The numbers of the deleted accounts.
    deleted: BTreeSet<u64>,
    /// The accounts created over the API, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    creations: BTreeMap<u64, Creation>,
    /// How far the simulator's time is ahead of the clock, in milliseconds.
    #[serde(default)]
    ahead_ms: i64,
}

/// The existing accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    saved: Saved,
    existing: Vec<SimulatedAccount>,
    file: Option<PathBuf>,
    /// The ids of accounts that exist but are neither listed nor deleted.
    hidden: BTreeSet<u64>,
}

impl Accounts {
    /// Creates `count` accounts.
    pub(super) fn new(count: u64, seed: u64) -> Self {
        Self::from_saved(Saved::new(count, seed), None)
    }

    /// Reads the accounts from `file`, or creates `count` accounts and saves them there.
    pub(super) fn open(file: &Path, count: u64, seed: u64) -> io::Result<Self> {
        let invalid = |fault: String| {
            let message = format!("{} is not a simulator state: {fault}", file.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        private_files::make_private_if_exists(file)?;
        let saved: Saved = match fs::read(file) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|fault| invalid(fault.to_string()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::new(count, seed),
            Err(error) => return Err(error),
        };
        if saved.created > MAX_ACCOUNTS {
            return Err(invalid(format!("it has more than {MAX_ACCOUNTS} accounts")));
        }
        let accounts = Self::from_saved(saved, Some(file.to_owned()));
        accounts.save()?;
        Ok(accounts)
    }

    fn from_saved(saved: Saved, file: Option<PathBuf>) -> Self {
        let existing = (0..saved.created)
            .filter(|number| !saved.deleted.contains(number))
            .map(|number| saved.account(number))
            .collect();
        Self {
            saved,
            existing,
            file,
            hidden: BTreeSet::new(),
        }
    }

    /// Writes the state to its file. A crash leaves either the old state or the new one.
    fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        private_files::replace(file, &serde_json::to_vec(&self.saved)?)
    }

    /// Returns the simulator's time, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        SystemClock.now_ms().saturating_add(self.saved.ahead_ms)
    }

    /// Lets `span` pass.
    pub(super) fn advance(&mut self, span: Duration) -> io::Result<()> {
        self.saved.ahead_ms = self.saved.ahead_ms.saturating_add(milliseconds(span));
        self.save()
    }

    /// Returns every existing account, also the hidden ones.
    pub(super) fn all(&self) -> &[SimulatedAccount] {
        &self.existing
    }

    /// Returns the accounts that are not hidden.
    pub(super) fn visible(&self) -> impl Iterator<Item = &SimulatedAccount> {
        self.existing
            .iter()
            .filter(|account| !self.hidden.contains(&account.csp_id))
    }

    /// Returns the visible accounts that CSP lists already.
    pub(super) fn listed(&self, settings: &Settings) -> impl Iterator<Item = &SimulatedAccount> {
        self.visible()
            .filter(|account| self.has_age(account, settings.listing_delay_of(&account.name)))
    }

    /// Returns whether an account has groups already.
    pub(super) fn is_usable(&self, account: &SimulatedAccount, settings: &Settings) -> bool {
        self.has_age(account, settings.usable_delay_of(&account.name))
    }

    /// Returns whether `age` has passed since the creation of an account over the API; true for any other account. A
    /// clock that is set back makes no account younger than new.
    fn has_age(&self, account: &SimulatedAccount, age: Duration) -> bool {
        account
            .created_ms
            .is_none_or(|at| self.now_ms().saturating_sub(at).max(0) >= milliseconds(age))
    }

    /// Returns the visible account with this resource id.
    pub(super) fn find(&self, id: &str) -> Option<&SimulatedAccount> {
        self.visible().find(|account| account.id == id)
    }

    /// Creates `count` more accounts.
    pub(super) fn add(&mut self, count: u64) -> io::Result<()> {
        let created = self.saved.created;
        self.saved.created += count;
        let more = (created..self.saved.created).map(|number| self.saved.account(number));
        self.existing.extend(more);
        self.save()
    }

    /// Creates an account as a client of the API asks for it.
    pub(super) fn create(&mut self, request: NewAccount) -> io::Result<SimulatedAccount> {
        let (number, at_ms) = (self.saved.created, self.now_ms());
        self.saved
            .creations
            .insert(number, Creation { at_ms, request });
        self.saved.created += 1;
        let account = self.saved.account(number);
        self.existing.push(account.clone());
        self.save().map(|()| account)
    }

    /// Returns the accounts ever created over the API, in the order of their creation.
    pub(super) fn created(&self) -> Vec<CreatedAccount> {
        let creations = self.saved.creations.iter();
        creations
            .map(|(&number, creation)| {
                let account = account(self.saved.seed, number);
                CreatedAccount {
                    id: account.id,
                    csp_id: account.csp_id,
                    created_ms: creation.at_ms,
                    is_deleted: self.saved.deleted.contains(&number),
                    request: creation.request.clone(),
                }
            })
            .collect()
    }

    /// Deletes an account. Returns whether it existed.
    pub(super) fn delete(&mut self, csp_id: u64) -> io::Result<bool> {
        let Some(index) = self
            .existing
            .iter()
            .position(|account| account.csp_id == csp_id)
        else {
            return Ok(false);
        };
        let deleted = self.existing.remove(index);
        self.saved.deleted.insert(deleted.csp_id - FIRST_CSP_ID);
        self.save().map(|()| true)
    }

    /// Hides an account, or shows it again.
    pub(super) fn hide(&mut self, csp_id: u64, is_hidden: bool) {
        if is_hidden {
            self.hidden.insert(csp_id);
        } else {
            self.hidden.remove(&csp_id);
        }
    }

    /// Renames an account. Returns whether it exists.
    pub(super) fn rename(&mut self, csp_id: u64, name: &str) -> bool {
        self.existing
            .iter_mut()
            .find(|account| account.csp_id == csp_id)
            .map(|account| name.clone_into(&mut account.name))
            .is_some()
    }
}

impl Saved {
    fn new(count: u64, seed: u64) -> Self {
        Self {
            seed,
            created: count,
            ..Self::default()
        }
    }

    /// Returns account `number`.
    fn account(&self, number: u64) -> SimulatedAccount {
        let generated = account(self.seed, number);
        let Some(Creation { at_ms, request }) = self.creations.get(&number) else {
            return generated;
        };
        SimulatedAccount {
            name: request.name.clone(),
            state: request.state.clone(),
            created_at: jiff::Timestamp::from_millisecond(*at_ms)
                .unwrap_or_default()
                .to_string(),
            sfdc_account_id: None,
            created_ms: Some(*at_ms),
            ..generated
        }
    }
}

fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_and_deleted_accounts_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("csp.json");
        let mut before = Accounts::open(&file, 10, 7).unwrap();
        assert!(before.delete(before.all()[3].csp_id).unwrap());
        before.add(2).unwrap();
        let lost = before.create(NewAccount::named("lab-1")).unwrap();
        before.create(NewAccount::named("lab-\"2\"")).unwrap();
        before.add(1).unwrap();
        assert!(before.delete(lost.csp_id).unwrap());
        before.advance(Duration::from_hours(1)).unwrap();

        let after = Accounts::open(&file, 10, 7).unwrap();
        assert_eq!(after.all(), before.all());
        assert_eq!(after.all().len(), 13);
        assert_eq!(after.created(), before.created());
        let created: Vec<_> = after
            .created()
            .into_iter()
            .map(|account| (account.request.name, account.is_deleted))
            .collect();
        let expected = [("lab-1", true), ("lab-\"2\"", false)];
        assert_eq!(
            created,
            expected.map(|(name, is_deleted)| (name.to_owned(), is_deleted))
        );
        let long = Settings {
            listing_delay: Duration::from_mins(59),
            ..Settings::default()
        };
        assert_eq!(
            after.listed(&long).count(),
            13,
            "the time that passed is saved"
        );
    }

    #[test]
    fn state_of_an_earlier_build_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("csp.json");
        fs::write(&file, r#"{"seed": 7, "made": 5, "deleted": [2]}"#).unwrap();
        let accounts = Accounts::open(&file, 100, 1).unwrap();
        let expected: Vec<_> = [0, 1, 3, 4].map(|number| account(7, number)).into();
        assert_eq!(accounts.all(), expected);
        assert_eq!(accounts.created(), []);
    }

    #[test]
    fn delays_count_from_the_creation_over_the_api() {
        let mut accounts = Accounts::new(1, 7);
        let settings = Settings {
            listing_delay: Duration::from_mins(2),
            usable_delay: Duration::from_mins(5),
            ..Settings::default()
        };
        let created = accounts.create(NewAccount::named("lab-1")).unwrap();
        for (minutes, listed, is_usable) in [(0, 1, false), (2, 2, false), (3, 2, true)] {
            accounts.advance(Duration::from_mins(minutes)).unwrap();
            assert_eq!(accounts.listed(&settings).count(), listed);
            assert_eq!(accounts.is_usable(&created, &settings), is_usable);
        }
        let at_once = Accounts::new(1, 7);
        assert!(at_once.is_usable(&at_once.all()[0], &settings));
    }
}
