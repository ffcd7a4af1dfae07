//! A simulated CSP for development and tests: an HTTP server with the calls that the broker makes, which keeps accounts
//! and injects faults on request.

mod accounts;
mod answer;
mod faults;
mod server;
mod services;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use serde::Serialize;
use tokio::time::Instant;

use self::{accounts::Accounts, faults::ActiveFaults, services::Services};
pub use self::{
    accounts::SimulatedAccount,
    faults::{Call, Fault, FaultKind},
    server::SimulatorPort,
};
use crate::shared::lock;

/// The numbers of calls that the simulator received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Lists of accounts.
    pub list: u64,
    /// Deletions of accounts.
    pub delete: u64,
    /// NIOSXaaS calls.
    pub niosxaas: u64,
    /// NIOSXaaS sign-ins, which are counted in `niosxaas` too.
    pub sign_ins: u64,
    /// Calls of any kind to which a fault applied.
    pub faulty: u64,
}

#[derive(Debug)]
struct Inner {
    accounts: Accounts,
    services: Services,
    faults: ActiveFaults,
    calls: Calls,
    /// Requests to delete an account, once their recording has started.
    deletion_requests: Option<Vec<(Instant, String)>>,
}

/// The simulator. Clones are cheap and share the state.
#[derive(Clone, Debug)]
pub struct Simulator(Arc<Mutex<Inner>>);

impl Simulator {
    /// Creates a simulator with `accounts` accounts.
    #[must_use]
    pub fn new(accounts: u64, seed: u64) -> Self {
        Self::with_accounts(Accounts::new(accounts, seed))
    }

    /// Opens the simulator saved in `file`, or creates one with `accounts` accounts that is saved there.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not the state of a simulator.
    pub fn open(file: &Path, accounts: u64, seed: u64) -> io::Result<Self> {
        Accounts::open(file, accounts, seed).map(Self::with_accounts)
    }

    fn with_accounts(accounts: Accounts) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            accounts,
            services: Services::default(),
            faults: ActiveFaults::default(),
            calls: Calls::default(),
            deletion_requests: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Returns the existing accounts.
    #[must_use]
    pub fn accounts(&self) -> Vec<SimulatedAccount> {
        self.lock().accounts.all().to_vec()
    }

    /// Creates `count` more accounts.
    ///
    /// # Errors
    /// The state cannot be saved.
    pub fn add_accounts(&self, count: u64) -> io::Result<()> {
        self.lock().accounts.add(count)
    }

    /// Deletes an account, bypassing the API. Returns whether it existed.
    ///
    /// # Errors
    /// The state cannot be saved.
    pub fn remove_account(&self, csp_id: u64) -> io::Result<bool> {
        self.lock().accounts.delete(csp_id)
    }

    /// Hides an account as if it were deleted, or shows it again. Not saved.
    pub fn hide(&self, csp_id: u64, is_hidden: bool) {
        self.lock().accounts.hide(csp_id, is_hidden);
    }

    /// Renames an account. Returns whether it exists. Not saved.
    #[must_use]
    pub fn rename(&self, csp_id: u64, name: &str) -> bool {
        self.lock().accounts.rename(csp_id, name)
    }

    /// Returns the requests to delete an account since the last call, each with its time and the resource id, whether
    /// or not they were served. The first call starts the recording and returns none.
    #[must_use]
    pub fn take_deletion_requests(&self) -> Vec<(Instant, String)> {
        self.lock()
            .deletion_requests
            .replace(Vec::new())
            .unwrap_or_default()
    }

    /// Activates `faults`, and ends those that were active.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.replace(faults);
    }

    /// Returns the numbers of calls received.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.lock().calls
    }
}
