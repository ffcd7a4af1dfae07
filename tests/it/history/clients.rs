//! Many clients, who retry, give back what they have and what they have not, and lose patience.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::{
    event::{Allocated, Got, Grant, Released, What},
    workload::World,
};
use crate::support::TRACK;

const CALLERS: usize = 24;
const KEYS: usize = 3;
const PREFIXES: [&str; 5] = ["lab-", "demo-", "cloud-", "core-", "renamed-"];
/// Sandboxes that a caller remembers.
const REMEMBERED: usize = 6;
const PATIENCE: Duration = Duration::from_secs(20);
const LITTLE_PATIENCE: Duration = Duration::from_millis(8);

/// What callers remember.
#[derive(Default)]
pub(super) struct Memories {
    sandboxes: Mutex<Vec<VecDeque<String>>>,
    /// Pairs that were once left without an answer, and releases too.
    pub(super) unknown: Mutex<BTreeSet<Pair>>,
    pub(super) unreleased: Mutex<BTreeSet<(String, String)>>,
}

/// A caller and a key.
pub(super) type Pair = (String, String);

impl Memories {
    fn remember(&self, caller: usize, sandbox: &str) {
        let mut all = self.sandboxes.lock().unwrap();
        all.resize(CALLERS, VecDeque::new());
        let mine = &mut all[caller];
        if !mine.iter().any(|known| known == sandbox) {
            mine.push_back(sandbox.to_owned());
        }
        if mine.len() > REMEMBERED {
            mine.pop_front();
        }
    }

    fn some_of(&self, caller: usize, rng: &mut SmallRng) -> Option<String> {
        let all = self.sandboxes.lock().unwrap();
        let mine = all.get(caller)?;
        let at = rng.random_range(0..mine.len().max(1));
        mine.get(at).cloned()
    }
}

#[derive(Deserialize)]
struct AllocationBody {
    sandbox_id: String,
    name: String,
    external_id: String,
    allocated_at: i64,
    expires_at: i64,
}

impl From<AllocationBody> for Grant {
    fn from(body: AllocationBody) -> Self {
        Self {
            sandbox: body.sandbox_id,
            name: body.name,
            external_id: body.external_id,
            allocated_at: body.allocated_at,
            expires_at: body.expires_at,
        }
    }
}

fn code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or("none").to_owned()
}

/// What is said of an answer that leaves the caller in the dark.
type Dark = String;

impl World {
    async fn send(
        &self,
        broker: usize,
        (method, path): (Method, &str),
        caller: &str,
        headers: &[(&'static str, &str)],
        patience: Duration,
    ) -> Result<(StatusCode, Vec<u8>), Dark> {
        let base = self.brokers[broker].base();
        let mut request = self
            .http
            .request(method, format!("{base}{path}"))
            .bearer_auth(TRACK)
            .header("X-Instruqt-Sandbox-ID", caller)
            .timeout(patience);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok((status, answer.bytes().await?.to_vec()))
        };
        answer.await.map_err(|error: reqwest::Error| {
            let word = if error.is_timeout() {
                "out of patience"
            } else if error.is_connect() {
                "no connection"
            } else {
                "no answer"
            };
            word.to_owned()
        })
    }

    pub(super) async fn allocate(
        &self,
        broker: usize,
        (caller, key): (&str, &str),
        prefix: Option<&str>,
        patience: Duration,
    ) -> Allocated {
        let began = self.recorder.now();
        let mut headers = vec![("Idempotency-Key", key)];
        headers.extend(prefix.map(|prefix| ("X-Sandbox-Name-Prefix", prefix)));
        let call = (Method::POST, "/v1/allocate");
        let answer = match self.send(broker, call, caller, &headers, patience).await {
            Err(dark) => Allocated::Unknown(dark),
            Ok((status, body)) => match (status.as_u16(), serde_json::from_slice(&body)) {
                (201, Ok(body)) => Allocated::New(AllocationBody::into(body)),
                (200, Ok(body)) => Allocated::Again(AllocationBody::into(body)),
                (409, _) if code(&body) == "NO_SANDBOXES_AVAILABLE" => Allocated::NoneLeft,
                _ => Allocated::Unknown(format!("{} {}", status.as_u16(), code(&body))),
            },
        };
        let pair = (caller.to_owned(), key.to_owned());
        if matches!(answer, Allocated::Unknown(_)) {
            self.memories.unknown.lock().unwrap().insert(pair.clone());
        }
        let what = What::Allocate {
            caller: pair.0,
            key: pair.1,
            prefix: prefix.map(str::to_owned),
            answer: answer.clone(),
        };
        self.recorder.record(began, what);
        answer
    }

    pub(super) async fn release(
        &self,
        broker: usize,
        sandbox: &str,
        caller: &str,
        patience: Duration,
    ) -> Released {
        #[derive(Deserialize)]
        struct Body {
            deletion_requested_at: i64,
        }
        let began = self.recorder.now();
        let path = format!("/v1/sandboxes/{sandbox}/mark-for-deletion");
        let call = (Method::POST, path.as_str());
        let answer = match self.send(broker, call, caller, &[], patience).await {
            Err(dark) => Released::Unknown(dark),
            Ok((status, body)) => match (status.as_u16(), code(&body).as_str()) {
                (200, _) => match serde_json::from_slice(&body) {
                    Ok(Body {
                        deletion_requested_at,
                    }) => Released::Done {
                        deletion_requested_at,
                    },
                    Err(fault) => Released::Unknown(fault.to_string()),
                },
                (403, "ALLOCATION_EXPIRED") => Released::Expired,
                (403, "NOT_SANDBOX_OWNER") => Released::NotOwner,
                (404, "SANDBOX_NOT_FOUND") => Released::NotFound,
                (status, code) => Released::Unknown(format!("{status} {code}")),
            },
        };
        let (caller, sandbox) = (caller.to_owned(), sandbox.to_owned());
        if matches!(answer, Released::Unknown(_)) {
            let call = (caller.clone(), sandbox.clone());
            self.memories.unreleased.lock().unwrap().insert(call);
        }
        let what = What::Release {
            caller,
            sandbox,
            answer: answer.clone(),
        };
        self.recorder.record(began, what);
        answer
    }

    async fn get(&self, broker: usize, sandbox: &str, caller: &str) {
        #[derive(Deserialize)]
        struct Body {
            status: String,
            allocated_at: i64,
            expires_at: i64,
        }
        let began = self.recorder.now();
        let path = format!("/v1/sandboxes/{sandbox}");
        let call = (Method::GET, path.as_str());
        let answer = match self.send(broker, call, caller, &[], PATIENCE).await {
            Err(dark) => Got::Unknown(dark),
            Ok((status, body)) => match (status.as_u16(), code(&body).as_str()) {
                (200, _) => match serde_json::from_slice(&body) {
                    Ok(Body {
                        status,
                        allocated_at,
                        expires_at,
                    }) => Got::Is {
                        status,
                        allocated_at,
                        expires_at,
                    },
                    Err(fault) => Got::Unknown(fault.to_string()),
                },
                (403, _) => Got::NotOwner,
                (404, _) => Got::NotFound,
                (status, code) => Got::Unknown(format!("{status} {code}")),
            },
        };
        let what = What::Get {
            caller: caller.to_owned(),
            sandbox: sandbox.to_owned(),
            answer,
        };
        self.recorder.record(began, what);
    }
}

pub(super) fn caller(number: usize) -> String {
    format!("play-{number}")
}

/// A client that goes on until the epoch is over.
pub(super) async fn act(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        let who = rng.random_range(0..CALLERS);
        match rng.random_range(0..100) {
            0..50 => ask(&world, who, &mut rng).await,
            50..80 => give_back(&world, who, &mut rng).await,
            _ => look(&world, who, &mut rng).await,
        }
    }
}

async fn ask(world: &World, who: usize, rng: &mut SmallRng) {
    let (caller, key) = (caller(who), format!("key-{}", rng.random_range(0..KEYS)));
    let pair = (caller.as_str(), key.as_str());
    let prefix = PREFIXES
        .choose(rng)
        .copied()
        .filter(|_| rng.random_bool(0.3));
    let broker = rng.random_range(0..2);
    let patience = if rng.random_bool(0.05) {
        LITTLE_PATIENCE
    } else {
        PATIENCE
    };
    let mut answers = vec![world.allocate(broker, pair, prefix, patience).await];
    let is_dark = matches!(answers[0], Allocated::Unknown(_));
    if rng.random_bool(if is_dark { 0.8 } else { 0.15 }) {
        let other = if rng.random_bool(0.6) {
            1 - broker
        } else {
            broker
        };
        let retry = world.allocate(other, pair, prefix, PATIENCE);
        if rng.random_bool(0.4) {
            let another = world.allocate(1 - other, pair, prefix, PATIENCE);
            answers.extend(<[_; 2]>::from(tokio::join!(retry, another)));
        } else {
            answers.push(retry.await);
        }
    }
    for answer in &answers {
        if let Allocated::New(grant) | Allocated::Again(grant) = answer {
            world.memories.remember(who, &grant.sandbox);
        }
    }
    if is_dark {
        // A broker that is down answers at once that it is.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn give_back(world: &World, who: usize, rng: &mut SmallRng) {
    let Some(sandbox) = world.memories.some_of(who, rng) else {
        return;
    };
    let by = if rng.random_bool(0.15) {
        rng.random_range(0..CALLERS)
    } else {
        who
    };
    let caller = caller(by);
    let broker = rng.random_range(0..2);
    let patience = if rng.random_bool(0.05) {
        LITTLE_PATIENCE
    } else {
        PATIENCE
    };
    let answer = world.release(broker, &sandbox, &caller, patience).await;
    if matches!(answer, Released::Unknown(_)) || rng.random_bool(0.15) {
        world.release(1 - broker, &sandbox, &caller, PATIENCE).await;
    }
}

async fn look(world: &World, who: usize, rng: &mut SmallRng) {
    let Some(sandbox) = world.memories.some_of(who, rng) else {
        return;
    };
    let by = if rng.random_bool(0.2) {
        rng.random_range(0..CALLERS)
    } else {
        who
    };
    let broker = rng.random_range(0..2);
    world.get(broker, &sandbox, &caller(by)).await;
}

/// Everybody who was left in the dark asks until it is light. Nothing goes wrong any more.
pub(super) async fn ask_again(world: &World) {
    let unknown = std::mem::take(&mut *world.memories.unknown.lock().unwrap());
    for (at, (caller, key)) in unknown.iter().enumerate() {
        world.allocate(at % 2, (caller, key), None, PATIENCE).await;
    }
    let unreleased = std::mem::take(&mut *world.memories.unreleased.lock().unwrap());
    for (at, (caller, sandbox)) in unreleased.iter().enumerate() {
        world.release(at % 2, sandbox, caller, PATIENCE).await;
    }
}

/// New callers take what is left; returns how many got a sandbox.
pub(super) async fn drain(world: &World) -> usize {
    let (mut given, mut refused, mut number) = (0, 0, 0);
    while refused < 4 {
        number += 1;
        let caller = format!("late-{number}");
        let answer = world
            .allocate(number % 2, (&caller, &caller), None, PATIENCE)
            .await;
        match answer {
            Allocated::New(_) => (given, refused) = (given + 1, 0),
            _ => refused += 1,
        }
    }
    given
}
