//! A CSP to develop and test against: a real HTTP server with the calls that the broker makes, which keeps its
//! accounts, and misbehaves on request.
//!
//! Accounts are a function of the seed and their number, so its whole state is how many it made and which are gone.

mod services;

use std::{
    collections::{BTreeSet, VecDeque},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path as UrlPath, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{delete, get},
};
use futures_util::stream;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use self::services::Services;

/// The path below which the simulator serves the CSP API, as the real one does.
pub const API_PATH: &str = "/v2";

/// More than any machine holds in memory.
const MOST_ACCOUNTS: u64 = 10_000_000;
const ID_PREFIX: &str = "identity/accounts/";
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
/// Longer than any client waits.
const HANG: Duration = Duration::from_hours(1);

/// One way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FaultKind {
    /// Answer this status with a JSON error.
    Status {
        /// The status code, 400 to 599.
        code: u16,
    },
    /// Answer 429.
    RateLimit {
        /// The `Retry-After` header, in seconds; none if absent.
        retry_after_sec: Option<u64>,
    },
    /// Answer 200 with a web page, as a login wall in front of CSP does.
    Html,
    /// Answer 200 with this JSON.
    Answer {
        /// What it says, such as a list of accounts that nobody made.
        body: Value,
    },
    /// Answer properly, but late.
    Slow {
        /// How late, in milliseconds.
        delay_ms: u64,
    },
    /// Do what was asked, but never answer.
    Hang,
    /// Do what was asked, but drop the connection in the middle of the answer.
    Reset,
    /// Answer a deletion as if it were done, but go on listing the account.
    Forget,
    /// List every account twice.
    Duplicates,
    /// Mix broken entries into the list.
    Broken,
    /// List nothing.
    Empty,
    /// List only every second account.
    Halved,
}

/// Which calls a fault applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// All.
    #[default]
    Any,
    /// `GET /current_user/accounts`.
    List,
    /// `DELETE /sandbox/accounts/<uuid>`.
    Delete,
    /// The calls of NIOSXaaS: sign in, switch, list, delete.
    Niosxaas,
}

/// A fault that is in force until its count is used up or it is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The calls it applies to.
    #[serde(default)]
    pub on: Call,
    /// What happens instead.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// For how many calls; absent for all of them.
    pub times: Option<u64>,
    /// In bursts: of every so many calls that it applies to, only the first `burst` go wrong.
    #[serde(default)]
    pub every: Option<u64>,
    /// See `every`; 1 if absent.
    #[serde(default)]
    pub burst: Option<u64>,
}

impl Fault {
    /// A fault of every call.
    #[must_use]
    pub const fn always(kind: FaultKind) -> Self {
        Self {
            on: Call::Any,
            kind,
            times: None,
            every: None,
            burst: None,
        }
    }
}

/// An account of the simulator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SimulatedAccount {
    /// Its resource id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its number.
    pub csp_id: u64,
    account_type: &'static str,
    state: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sfdc_account_id: Option<String>,
}

/// What survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    seed: u64,
    /// How many accounts were ever made.
    made: u64,
    /// Those that were deleted.
    deleted: BTreeSet<u64>,
}

/// How often the simulator was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Account lists asked for.
    pub list: u64,
    /// Deletions asked for.
    pub delete: u64,
    /// Calls of NIOSXaaS.
    pub niosxaas: u64,
    /// Sign-ins to NIOSXaaS among them.
    pub sign_ins: u64,
    /// Calls of any kind that a fault was applied to.
    pub faulty: u64,
}

#[derive(Debug)]
struct Inner {
    saved: Saved,
    accounts: Vec<SimulatedAccount>,
    faults: VecDeque<(Fault, u64)>,
    calls: Calls,
    file: Option<PathBuf>,
    services: Services,
    /// Accounts that are there, but that CSP knows nothing of for now.
    hidden: BTreeSet<u64>,
    orders: Option<Vec<(Instant, String)>>,
}

/// The simulator; cheap to clone, all clones are the same CSP.
#[derive(Clone, Debug)]
pub struct Simulator(Arc<Mutex<Inner>>);

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

impl Simulator {
    /// A CSP with `accounts` accounts.
    #[must_use]
    pub fn new(accounts: u64, seed: u64) -> Self {
        Self::from_saved(
            Saved {
                seed,
                made: accounts,
                deleted: BTreeSet::new(),
            },
            None,
        )
    }

    /// The CSP saved in `file`, or a new one that is saved there.
    ///
    /// # Errors
    /// If the file cannot be read or is no saved simulator.
    pub fn open(file: &Path, accounts: u64, seed: u64) -> io::Result<Self> {
        let saved = match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|fault| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is no simulator state: {fault}", file.display()),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved {
                seed,
                made: accounts,
                deleted: BTreeSet::new(),
            },
            Err(error) => return Err(error),
        };
        if saved.made > MOST_ACCOUNTS {
            let message = format!(
                "{} speaks of more than {MOST_ACCOUNTS} accounts",
                file.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let simulator = Self::from_saved(saved, Some(file.to_owned()));
        simulator.lock().save()?;
        Ok(simulator)
    }

    fn from_saved(saved: Saved, file: Option<PathBuf>) -> Self {
        let accounts = (0..saved.made)
            .filter(|number| !saved.deleted.contains(number))
            .map(|number| account(saved.seed, number))
            .collect();
        let (faults, calls, services) = (VecDeque::new(), Calls::default(), Services::default());
        Self(Arc::new(Mutex::new(Inner {
            saved,
            accounts,
            faults,
            calls,
            file,
            services,
            hidden: BTreeSet::new(),
            orders: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The accounts there are.
    #[must_use]
    pub fn accounts(&self) -> Vec<SimulatedAccount> {
        self.lock().accounts.clone()
    }

    /// Makes accounts.
    ///
    /// # Errors
    /// If the state cannot be saved.
    pub fn add_accounts(&self, count: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let made = inner.saved.made;
        let seed = inner.saved.seed;
        inner
            .accounts
            .extend((made..made + count).map(|number| account(seed, number)));
        inner.saved.made += count;
        inner.save()
    }

    /// Deletes an account without being asked through the API.
    ///
    /// # Errors
    /// If the state cannot be saved.
    pub fn remove_account(&self, csp_id: u64) -> io::Result<bool> {
        let mut inner = self.lock();
        let found = inner
            .accounts
            .iter()
            .position(|account| account.csp_id == csp_id);
        found.map_or(Ok(false), |at| inner.delete(at).map(|()| true))
    }

    /// Lets an account vanish as if it were deleted, or come back; until the simulator ends.
    pub fn hide(&self, csp_id: u64, is_hidden: bool) {
        let mut inner = self.lock();
        if is_hidden {
            inner.hidden.insert(csp_id);
        } else {
            inner.hidden.remove(&csp_id);
        }
    }

    /// Calls an account something else, until the simulator ends. Whether there is such an account.
    #[must_use]
    pub fn rename(&self, csp_id: u64, name: &str) -> bool {
        let mut inner = self.lock();
        let account = inner
            .accounts
            .iter_mut()
            .find(|account| account.csp_id == csp_id);
        account
            .map(|account| name.clone_into(&mut account.name))
            .is_some()
    }

    /// The orders to delete an account that came since the last time, each with its moment and the account's resource id,
    /// whether or not they were carried out. The first time there are none.
    #[must_use]
    pub fn take_deletion_requests(&self) -> Vec<(Instant, String)> {
        self.lock().orders.replace(Vec::new()).unwrap_or_default()
    }

    /// Puts `faults` in force, in place of those that were.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults = faults.into_iter().map(|fault| (fault, 0)).collect();
    }

    /// How often it was called.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.lock().calls
    }

    /// Serves on `listener` until `stop`. Beside the CSP API under `/v2` there are `GET` and `POST`
    /// `/simulator/accounts`, and `GET` and `PUT` `/simulator/faults`.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let api = Router::new()
            .route("/current_user/accounts", get(list))
            .route("/sandbox/accounts/{uuid}", delete(delete_one))
            .layer(middleware::from_fn_with_state(self.clone(), gate));
        let control = Router::new()
            .route("/accounts", get(show_accounts).post(make_accounts))
            .route("/faults", get(show_faults).put(set_faults))
            .route("/calls", get(show_calls));
        let router = Router::new()
            .nest(API_PATH, api)
            .merge(services::routes(&self))
            .nest("/simulator", control)
            .with_state(self);
        // A hung request would hold a graceful shutdown for as long as it hangs.
        let serve = axum::serve(listener, router);
        tokio::select! {
            result = serve => result,
            () = stop.cancelled() => Ok(()),
        }
    }

    /// Counts a call and lets it go wrong as told.
    async fn inject_or_serve(&self, call: Call, mut request: Request, next: Next) -> Response {
        let fault = {
            let mut inner = self.lock();
            match call {
                Call::Delete => inner.calls.delete += 1,
                Call::Niosxaas => inner.calls.niosxaas += 1,
                Call::List | Call::Any => inner.calls.list += 1,
            }
            inner.next_fault(call)
        };
        match fault {
            None => next.run(request).await,
            Some(FaultKind::Status { code }) => error(
                StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                "simulated",
            ),
            Some(FaultKind::RateLimit { retry_after_sec }) => {
                let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "simulated");
                if let Some(seconds) = retry_after_sec {
                    answer
                        .headers_mut()
                        .insert(header::RETRY_AFTER, seconds.into());
                }
                answer
            }
            Some(FaultKind::Html) => {
                Html("<!doctype html><title>Sign in</title><p>Please sign in.").into_response()
            }
            Some(FaultKind::Answer { body }) => Json(body).into_response(),
            Some(FaultKind::Forget) => StatusCode::NO_CONTENT.into_response(),
            Some(FaultKind::Slow { delay_ms }) => {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                next.run(request).await
            }
            Some(FaultKind::Hang) => {
                let answer = next.run(request).await;
                tokio::time::sleep(HANG).await;
                answer
            }
            Some(FaultKind::Reset) => {
                next.run(request).await;
                let broken: [Result<Bytes, io::Error>; 2] = [
                    Ok(Bytes::from_static(b"{")),
                    Err(io::Error::new(io::ErrorKind::ConnectionReset, "simulated")),
                ];
                Response::new(Body::from_stream(stream::iter(broken)))
            }
            Some(
                of_the_list @ (FaultKind::Duplicates
                | FaultKind::Broken
                | FaultKind::Empty
                | FaultKind::Halved),
            ) => {
                request.extensions_mut().insert(of_the_list);
                next.run(request).await
            }
        }
    }

    /// Listens on `address`; returns the base URL for `CSP_BASE_URL` and the listener.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<(String, TcpListener)> {
        let listener = TcpListener::bind(address).await?;
        Ok((
            format!("http://{}{API_PATH}", listener.local_addr()?),
            listener,
        ))
    }
}

impl Inner {
    fn is_hidden(&self, account: &SimulatedAccount) -> bool {
        self.hidden.contains(&account.csp_id)
    }

    fn delete(&mut self, at: usize) -> io::Result<()> {
        let gone = self.accounts.remove(at);
        self.saved.deleted.insert(gone.csp_id - FIRST_CSP_ID);
        self.save()
    }

    /// Written beside and renamed, so that a crash leaves the old state or the new one.
    fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let fresh = file.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(&self.saved)?)?;
        fs::rename(fresh, file)
    }

    fn next_fault(&mut self, call: Call) -> Option<FaultKind> {
        for (fault, seen) in &mut self.faults {
            if fault.on != Call::Any && fault.on != call {
                continue;
            }
            let in_burst = fault
                .every
                .is_none_or(|every| *seen % every.max(1) < fault.burst.unwrap_or(1));
            *seen += 1;
            if !in_burst || fault.times == Some(0) {
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            self.calls.faulty += 1;
            return Some(fault.kind.clone());
        }
        None
    }
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": [{"message": message}]}))).into_response()
}

/// Checks the token of a CSP call, and lets it go wrong as told.
async fn gate(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if token
        .and_then(|value| value.strip_prefix("Token "))
        .is_none_or(|token| token.trim().is_empty())
    {
        return error(
            StatusCode::UNAUTHORIZED,
            "the Authorization header must be 'Token <API token>'",
        );
    }
    let call = if request.method() == Method::DELETE {
        let uuid = request.uri().path().rsplit('/').next().unwrap_or_default();
        if let Some(orders) = &mut simulator.lock().orders {
            orders.push((Instant::now(), format!("{ID_PREFIX}{uuid}")));
        }
        Call::Delete
    } else {
        Call::List
    };
    simulator.inject_or_serve(call, request, next).await
}

async fn list(State(simulator): State<Simulator>, request: Request) -> Json<Value> {
    let accounts: Vec<Value> = {
        let inner = simulator.lock();
        let shown = inner
            .accounts
            .iter()
            .filter(|account| !inner.is_hidden(account));
        shown.map(|account| json!(account)).collect()
    };
    let results = match request.extensions().get() {
        Some(FaultKind::Duplicates) => accounts
            .iter()
            .flat_map(|account| [account.clone(), account.clone()])
            .collect(),
        Some(FaultKind::Broken) => {
            let mut mixed = vec![
                json!(null),
                json!("nonsense"),
                json!({"csp_id": {}}),
                json!({"name": "no id"}),
            ];
            mixed.extend(accounts);
            if let Some(last) = mixed.last_mut() {
                last["name"] = json!(null);
            }
            mixed
        }
        Some(FaultKind::Empty) => Vec::new(),
        Some(FaultKind::Halved) => accounts.into_iter().step_by(2).collect(),
        _ => accounts,
    };
    Json(json!({ "results": results }))
}

async fn delete_one(
    State(simulator): State<Simulator>,
    UrlPath(uuid): UrlPath<String>,
) -> Response {
    let mut inner = simulator.lock();
    let found = inner.accounts.iter().position(|account| {
        account.id.ends_with(&uuid) && !uuid.is_empty() && !inner.is_hidden(account)
    });
    match found.map(|at| inner.delete(at)) {
        None => error(StatusCode::NOT_FOUND, "no such account"),
        Some(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Some(Err(fault)) => error(StatusCode::INTERNAL_SERVER_ERROR, &fault.to_string()),
    }
}

async fn show_accounts(State(simulator): State<Simulator>) -> Json<Vec<SimulatedAccount>> {
    Json(simulator.accounts())
}

#[derive(Deserialize)]
struct MakeAccounts {
    count: u64,
}

async fn make_accounts(
    State(simulator): State<Simulator>,
    Json(make): Json<MakeAccounts>,
) -> Response {
    match simulator.add_accounts(make.count.min(1_000_000)) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(fault) => error(StatusCode::INTERNAL_SERVER_ERROR, &fault.to_string()),
    }
}

async fn show_faults(State(simulator): State<Simulator>) -> Json<Vec<Fault>> {
    Json(
        simulator
            .lock()
            .faults
            .iter()
            .map(|(fault, _)| fault.clone())
            .collect(),
    )
}

async fn set_faults(
    State(simulator): State<Simulator>,
    Json(faults): Json<Vec<Fault>>,
) -> StatusCode {
    simulator.inject(faults);
    StatusCode::NO_CONTENT
}

async fn show_calls(State(simulator): State<Simulator>) -> Json<Calls> {
    Json(simulator.calls())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_accounts() {
        assert_eq!(
            Simulator::new(50, 7).accounts(),
            Simulator::new(50, 7).accounts()
        );
        assert_ne!(
            Simulator::new(50, 7).accounts(),
            Simulator::new(50, 8).accounts()
        );
        let name = &Simulator::new(100, 7).accounts()[87].name;
        assert!(
            name.ends_with("-0087") && name.split('-').count() == 3,
            "{name}"
        );
    }

    #[test]
    fn what_is_deleted_stays_deleted_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("csp.json");
        let before = Simulator::open(&file, 10, 7).unwrap();
        let gone = before.accounts()[3].csp_id;
        assert!(before.remove_account(gone).unwrap());
        before.add_accounts(2).unwrap();
        let after = Simulator::open(&file, 10, 7).unwrap();
        assert_eq!(after.accounts(), before.accounts());
        assert_eq!(after.accounts().len(), 11);
    }

    #[tokio::test]
    async fn what_is_hidden_is_not_listed_and_not_deleted_until_it_is_shown() {
        let simulator = Simulator::new(2, 7);
        let account = simulator.accounts()[0].clone();
        let uuid = account.id.rsplit('/').next().unwrap().to_owned();
        let listed = async || {
            let Json(list) = list(State(simulator.clone()), Request::default()).await;
            list["results"].clone()
        };
        let delete = async || delete_one(State(simulator.clone()), UrlPath(uuid.clone())).await;
        assert!(simulator.rename(account.csp_id, "renamed"));
        assert_eq!(listed().await[0]["name"], "renamed");
        simulator.hide(account.csp_id, true);
        assert_eq!(listed().await.as_array().unwrap().len(), 1);
        assert_eq!(delete().await.status(), StatusCode::NOT_FOUND);
        simulator.hide(account.csp_id, false);
        assert_eq!(listed().await.as_array().unwrap().len(), 2);
        assert_eq!(delete().await.status(), StatusCode::NO_CONTENT);
        assert!(!simulator.rename(account.csp_id, "gone"));
    }

    #[test]
    fn a_burst_goes_wrong_at_its_beginning_only() {
        let simulator = Simulator::new(0, 7);
        let burst = Fault {
            every: Some(5),
            burst: Some(2),
            ..Fault::always(FaultKind::Html)
        };
        simulator.inject([burst]);
        let went_wrong: Vec<_> = (0..10)
            .map(|_| simulator.lock().next_fault(Call::List).is_some())
            .collect();
        assert_eq!(
            went_wrong,
            [
                true, true, false, false, false, true, true, false, false, false
            ]
        );
    }

    #[test]
    fn a_counted_fault_ends() {
        let simulator = Simulator::new(0, 7);
        simulator.inject([Fault {
            on: Call::List,
            times: Some(1),
            ..Fault::always(FaultKind::Hang)
        }]);
        assert_eq!(simulator.lock().next_fault(Call::Delete), None);
        assert_eq!(
            simulator.lock().next_fault(Call::List),
            Some(FaultKind::Hang)
        );
        assert_eq!(simulator.lock().next_fault(Call::List), None);
    }
}
