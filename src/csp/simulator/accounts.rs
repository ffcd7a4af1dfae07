//! The simulator's accounts, and the file that keeps them over a restart.
//!
//! An account is a function of the seed and its number, so the file only holds how many were created and which were
//! deleted.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::private_files;

/// The prefix of resource ids.
pub(super) const ID_PREFIX: &str = "identity/accounts/";

/// The maximum number of accounts in a file; a larger one is not valid.
const MAX_ACCOUNTS: u64 = 10_000_000;
const FIRST_CSP_ID: u64 = 2_000_001;
const ADJECTIVES: [&str; 8] = [
    "lab", "demo", "cloud", "edge", "core", "test", "field", "north",
];
const NOUNS: [&str; 8] = [
    "adventure",
    "harbor",
    "meadow",
    "summit",
    "canyon",
    "orchard",
    "lagoon",
    "prairie",
];

/// An account of the simulator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SimulatedAccount {
    /// Its resource id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its numeric id, which becomes the sandbox's id.
    pub csp_id: u64,
    account_type: &'static str,
    state: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sfdc_account_id: Option<String>,
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
        let saved = Saved {
            seed,
            created: count,
            deleted: BTreeSet::new(),
        };
        Self::from_saved(saved, None)
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved {
                seed,
                created: count,
                deleted: BTreeSet::new(),
            },
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
            .map(|number| account(saved.seed, number))
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

    /// Returns the `csp_id` of the visible account with this UUID.
    pub(super) fn find(&self, uuid: &str) -> Option<u64> {
        self.visible()
            .find(|account| account.id.strip_prefix(ID_PREFIX) == Some(uuid))
            .map(|account| account.csp_id)
    }

    /// Creates `count` more accounts.
    pub(super) fn add(&mut self, count: u64) -> io::Result<()> {
        let created = self.saved.created;
        self.existing
            .extend((created..created + count).map(|number| account(self.saved.seed, number)));
        self.saved.created += count;
        self.save()
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

/// Generates account `number` of the simulator with this seed.
fn account(seed: u64, number: u64) -> SimulatedAccount {
    let mut rng = SmallRng::seed_from_u64(
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(number),
    );
    let uuid = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
    let adjective = ADJECTIVES[rng.random_range(0..ADJECTIVES.len())];
    let noun = NOUNS[rng.random_range(0..NOUNS.len())];
    SimulatedAccount {
        id: format!("{ID_PREFIX}{uuid}"),
        name: format!("{adjective}-{noun}-{number:04}"),
        csp_id: FIRST_CSP_ID + number,
        account_type: "sandbox",
        state: "active",
        created_at: format!(
            "2026-01-{:02}T{:02}:53:47.605459Z",
            1 + number % 28,
            number % 24
        ),
        sfdc_account_id: number
            .is_multiple_of(3)
            .then(|| format!("001SIM{number:09}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_generates_the_same_accounts() {
        let accounts = |count, seed| Accounts::new(count, seed).existing;
        assert_eq!(accounts(50, 7), accounts(50, 7));
        assert_ne!(accounts(50, 7), accounts(50, 8));
        let name = &accounts(100, 7)[87].name;
        assert!(
            name.ends_with("-0087") && name.split('-').count() == 3,
            "{name}"
        );
    }

    #[test]
    fn deleted_account_stays_deleted_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("csp.json");
        let mut before = Accounts::open(&file, 10, 7).unwrap();
        let deleted = before.all()[3].csp_id;
        assert!(before.delete(deleted).unwrap());
        before.add(2).unwrap();
        let after = Accounts::open(&file, 10, 7).unwrap();
        assert_eq!(after.all(), before.all());
        assert_eq!(after.all().len(), 11);
    }
}
