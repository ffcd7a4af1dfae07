//! Refill: creations of accounts, the faults of CSP and of runs, and what operators see of it.

mod faults;
mod forecast;
mod plan;
mod policy;
mod runs;
mod steps;

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use sandbox_broker::{
    csp::simulator::{Call, Fault, FaultKind, Simulator},
    domain::{Creation, CreationState, NamePrefix},
    store::RefillItems,
};
use serde_json::{Value, json};

use crate::support::{Pool, START, TestBroker, key, simulated_csp};

const FAST: [(&str, &str); 6] = [
    ("REFILL_MODE", "on"),
    ("REFILL_DELAY_SEC", "0"),
    ("REFILL_SETTLE_SEC", "0"),
    ("CSP_TIMEOUT_READ_SEC", "1"),
    ("BACKOFF_MAX_MS", "25"),
    ("CIRCUIT_BREAKER_THRESHOLD", "100"),
];

/// A pool with a simulated CSP, and a broker that creates accounts without pauses.
struct Refilled {
    pool: Pool,
    simulator: Simulator,
    base_url: String,
    broker: TestBroker,
}

impl Refilled {
    /// Boots a broker for a pool with the prefix `lab` and this target.
    async fn new(target: u32) -> Self {
        Self::with(&document(target), &[]).await
    }

    async fn with(document: &Value, more: &[(&str, &str)]) -> Self {
        let pool = Pool::new().await;
        let (simulator, base_url) = simulated_csp(0).await;
        let broker = broker(&pool, &base_url, more).await;
        broker.client.set_policy(0, document).await;
        Self {
            pool,
            simulator,
            base_url,
            broker,
        }
    }

    /// Runs refill once, as an operator, and returns its report.
    async fn refill(&self) -> Value {
        self.broker.client.job("refill").await
    }

    async fn sync(&self) {
        self.broker.client.job("sync").await;
    }

    async fn items(&self) -> RefillItems {
        items(&self.pool, "lab").await
    }

    /// Returns the open creations by name, with their states.
    async fn open(&self) -> BTreeMap<String, CreationState> {
        let creations = self.items().await.creations.into_iter();
        creations.map(|it| (it.name, it.state)).collect()
    }

    /// Returns the names of the accounts that exist, sorted.
    fn accounts(&self) -> Vec<String> {
        let accounts = self.simulator.accounts().into_iter();
        let mut names: Vec<_> = accounts.map(|account| account.name).collect();
        names.sort();
        names
    }

    /// Injects a fault of creations, so many times.
    fn fault(&self, kind: FaultKind, times: u64) {
        self.simulator.inject([Fault {
            on: Call::Create,
            times: Some(times),
            ..Fault::always(kind)
        }]);
    }

    /// Writes an open creation of the pool, as a run leaves it that ends at that moment.
    async fn write(&self, creation: &Creation) {
        let mut attributes = vec![
            ("name", Some(text(&creation.name))),
            ("state", Some(text(creation.state.as_str()))),
            ("intended_at", Some(number(creation.intended_at.0))),
            ("attempts", Some(number(creation.attempts.into()))),
        ];
        let times = [
            ("attempted_at", creation.attempted_at),
            ("created_at", creation.created_at),
        ];
        attributes.extend(times.map(|(name, at)| (name, at.map(|at| number(at.0)))));
        attributes.push(("external_id", creation.external_id.as_deref().map(text)));
        let key = key("REFILL#lab", &format!("CREATE#{:010}", creation.number));
        self.pool
            .rewrite(&self.pool.companion, key, &attributes)
            .await;
        let counter = i64::try_from(creation.number).unwrap();
        let state = [("last_number", Some(number(counter)))];
        self.rewrite_state(&state).await;
    }

    /// Sets or removes attributes of the state of the pool's refill.
    async fn rewrite_state(&self, attributes: &[(&str, Option<AttributeValue>)]) {
        let key = key("REFILL#lab", "POOL");
        self.pool
            .rewrite(&self.pool.companion, key, attributes)
            .await;
    }

    /// Returns the closed creations: the outcome and whether it became available, by name.
    async fn closed(&self) -> BTreeMap<String, String> {
        let items = self.pool.items_of(&self.pool.companion).await.into_iter();
        let closed = items.filter(|item| item["SK"].as_s().unwrap().starts_with("CLOSED#"));
        let text = |value: &AttributeValue| value.as_s().unwrap().clone();
        closed
            .map(|item| (text(&item["name"]), text(&item["outcome"])))
            .collect()
    }
}

async fn broker(pool: &Pool, base_url: &str, more: &[(&str, &str)]) -> TestBroker {
    let csp = [("CSP_BASE_URL", base_url)];
    pool.broker_with(&[&FAST[..], &csp, more].concat()).await
}

async fn items(pool: &Pool, prefix: &str) -> RefillItems {
    let prefix = NamePrefix::parse(prefix).unwrap();
    pool.store.refill_items(&prefix).await.unwrap()
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A pool with this target in a policy.
fn pool_entry(prefix: &str, target: u32) -> Value {
    json!({
        "name_prefix": prefix,
        "target_available": target,
        "create": {
            "description": "Hands-on labs",
            "tags": { "instruqt": "labs" },
            "admin_user": { "email": "labs@example.com", "name": "Labs" },
        },
    })
}

/// A policy with one pool.
fn document(target: u32) -> Value {
    json!({ "pool": [pool_entry("lab", target)] })
}

/// Returns a creation in a state, as a run leaves it.
fn creation(number: u64, state: CreationState) -> Creation {
    let prefix = NamePrefix::parse("lab").unwrap();
    let was_attempted = state != CreationState::Intended;
    Creation {
        state,
        attempts: u32::from(was_attempted),
        attempted_at: was_attempted.then_some(START),
        ..Creation::intended(&prefix, number, START)
    }
}

/// Returns some counts of a report.
fn counts<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| {
        report[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {report}"))
    })
}
