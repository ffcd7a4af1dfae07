//! A simulated CSP for development and tests: an HTTP server with the calls that the broker and labs make, which keeps
//! accounts and injects faults on request.

mod account_api;
mod accounts;
mod answer;
mod api_keys;
mod calls;
mod control;
mod creation;
mod faults;
mod filter;
mod generated;
mod join_tokens;
mod server;
mod services;
mod sessions;
mod settings;
mod users;

use std::{
    collections::{HashMap, HashSet},
    io, mem,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::http::StatusCode;
use secrecy::SecretString;
use tokio::time::Instant;

use self::{
    accounts::Accounts, api_keys::ApiKey, faults::ActiveFaults, join_tokens::JoinToken,
    sessions::Sessions,
};
pub use self::{
    accounts::SimulatedAccount,
    calls::{Call, Calls},
    creation::{AdminUser, CreatedAccount, NewAccount},
    faults::{Fault, FaultKind},
    server::SimulatorPort,
    settings::{AccountDelays, ListForm, Settings, SimulatedUser, SuccessStatus},
    users::AccountUser,
};
use crate::shared::lock;

#[derive(Debug)]
struct Inner {
    accounts: Accounts,
    users: Vec<AccountUser>,
    /// The passwords by the resource ids of their users.
    passwords: HashMap<String, SecretString>,
    api_keys: Vec<ApiKey>,
    join_tokens: Vec<JoinToken>,
    deleted_services: HashSet<String>,
    sessions: Sessions,
    settings: Settings,
    faults: ActiveFaults,
    calls: Calls,
    /// The number of answers with a [`SuccessStatus`].
    successes: u64,
    creation_requests: Recording,
    deletion_requests: Recording,
}

impl Inner {
    /// Returns the status code of the next answer to a creation or switch.
    fn success(&mut self) -> StatusCode {
        let number = self.successes;
        self.successes += 1;
        self.settings.success.of_answer(number)
    }
}

/// Requests of one kind with their times, once their recording has started.
#[derive(Debug, Default)]
struct Recording(Option<Vec<(Instant, String)>>);

impl Recording {
    fn record(&mut self, subject: String) {
        if let Some(requests) = &mut self.0 {
            requests.push((Instant::now(), subject));
        }
    }

    fn take(&mut self) -> Vec<(Instant, String)> {
        mem::take(self.0.get_or_insert_default())
    }
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
            users: Vec::new(),
            passwords: HashMap::new(),
            api_keys: Vec::new(),
            join_tokens: Vec::new(),
            deleted_services: HashSet::new(),
            sessions: Sessions::default(),
            settings: Settings::default(),
            faults: ActiveFaults::default(),
            calls: Calls::default(),
            successes: 0,
            creation_requests: Recording::default(),
            deletion_requests: Recording::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Returns the existing accounts, also those that are hidden or not listed yet.
    #[must_use]
    pub fn accounts(&self) -> Vec<SimulatedAccount> {
        self.lock().accounts.all().to_vec()
    }

    /// Returns the existing accounts of this name, also those that are hidden or not listed yet.
    #[must_use]
    pub fn accounts_named(&self, name: &str) -> Vec<SimulatedAccount> {
        let mut accounts = self.accounts();
        accounts.retain(|account| account.name == name);
        accounts
    }

    /// Creates `count` more accounts, which are listed and usable at once.
    ///
    /// # Errors
    /// The state cannot be saved.
    pub fn add_accounts(&self, count: u64) -> io::Result<()> {
        self.lock().accounts.add(count)
    }

    /// Creates an account as a call of the API would, but without its checks: it is listed and usable after the delays.
    ///
    /// # Errors
    /// The state cannot be saved.
    pub fn create_account(&self, request: NewAccount) -> io::Result<SimulatedAccount> {
        self.lock().accounts.create(request)
    }

    /// Returns the accounts ever created over the API or with [`Self::create_account`], also those that were deleted
    /// since, in the order of their creation.
    #[must_use]
    pub fn created_accounts(&self) -> Vec<CreatedAccount> {
        self.lock().accounts.created()
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

    /// Returns the requests to create an account since the last call, each with its time and the name, whether or not
    /// they were served. The first call starts the recording and returns none.
    #[must_use]
    pub fn take_creation_requests(&self) -> Vec<(Instant, String)> {
        self.lock().creation_requests.take()
    }

    /// Returns the requests to delete an account since the last call, each with its time and the resource id, whether
    /// or not they were served. The first call starts the recording and returns none.
    #[must_use]
    pub fn take_deletion_requests(&self) -> Vec<(Instant, String)> {
        self.lock().deletion_requests.take()
    }

    /// Lets `span` pass for the accounts and sessions, without waiting.
    ///
    /// # Errors
    /// The state cannot be saved.
    pub fn advance(&self, span: Duration) -> io::Result<()> {
        self.lock().accounts.advance(span)
    }

    /// Replaces the settings. The delays count for existing accounts too.
    pub fn configure(&self, settings: Settings) {
        self.lock().settings = settings;
    }

    /// Returns the settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.lock().settings.clone()
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
