//! A pool with a simulated CSP, and brokers that create and check its accounts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sandbox_broker::{
    clock::ManualClock,
    config::Variables,
    csp::simulator::{NewAccount, Simulator},
    domain::{NamePrefix, Sandbox, Status},
    store::RefillItems,
};
use serde_json::{Value, json};

use crate::support::{BrokerClient, Pool, TestBroker, simulated_csp};

/// Jobs that check new sandboxes and create accounts, without pauses, and with retries that do not wait. Where a test ends a
/// run, it waits until no request is on its way, so that the next run need not.
const FAST: [(&str, &str); 12] = [
    ("CHECK_MODE", "new"),
    ("CHECK_BATCH_DELAY_SEC", "0"),
    ("CHECK_MAX_FAILURES", "2"),
    ("NIOSXAAS_EMAIL", "checks@example.com"),
    ("NIOSXAAS_PASSWORD", "secret"),
    ("REFILL_MODE", "on"),
    ("REFILL_DELAY_SEC", "0"),
    ("REFILL_SETTLE_SEC", "0"),
    ("CSP_TIMEOUT_READ_SEC", "1"),
    ("BACKOFF_MAX_MS", "25"),
    ("CIRCUIT_BREAKER_THRESHOLD", "1000"),
    ("POOL_LOW_THRESHOLD", "0"),
];

pub(super) struct World {
    pub(super) pool: Pool,
    pub(super) simulator: Simulator,
    csp: String,
}

impl World {
    pub(super) async fn new() -> Self {
        let (simulator, csp) = simulated_csp(0).await;
        Self {
            pool: Pool::new().await,
            simulator,
            csp,
        }
    }

    pub(super) fn variables(&self, more: &[(&str, &str)]) -> Variables {
        let csp = [("CSP_BASE_URL", self.csp.as_str())];
        self.pool.variables(&[&FAST[..], &csp, more].concat())
    }

    pub(super) async fn broker(&self, more: &[(&str, &str)]) -> TestBroker {
        TestBroker::boot(self.variables(more)).await
    }

    pub(super) async fn broker_at(
        &self,
        clock: Arc<ManualClock>,
        more: &[(&str, &str)],
    ) -> TestBroker {
        TestBroker::boot_at(self.variables(more), clock).await
    }

    /// Creates accounts in CSP that nobody has asked the broker for.
    pub(super) fn add_accounts<T: AsRef<str>>(&self, names: impl IntoIterator<Item = T>) {
        for name in names {
            let account = NewAccount::named(name.as_ref());
            self.simulator.create_account(account).unwrap();
        }
    }

    /// Returns how many accounts have each name.
    pub(super) fn accounts_by_name(&self) -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for account in self.simulator.accounts() {
            *names.entry(account.name).or_default() += 1;
        }
        names
    }

    /// Returns the sandboxes of the pool in a status.
    pub(super) async fn in_status(&self, status: Status) -> Vec<Sandbox> {
        let mut sandboxes = self.pool.sandboxes().await;
        sandboxes.retain(|sandbox| sandbox.status == status);
        sandboxes
    }

    /// Returns the state and the open creations of a pool.
    pub(super) async fn refill_items(&self, prefix: &str) -> RefillItems {
        let prefix = NamePrefix::parse(prefix).unwrap();
        let items = self.pool.store.refill_items(&prefix).await.unwrap();
        assert_eq!(items.unreadable, [""; 0]);
        items
    }

    /// Returns how the closed creations ended, by name.
    pub(super) async fn outcomes(&self) -> BTreeMap<String, String> {
        let items = self.pool.items_of(&self.pool.companion).await.into_iter();
        let closed = items.filter(|item| item["SK"].as_s().unwrap().starts_with("CLOSED#"));
        let text = |value: &aws_sdk_dynamodb::types::AttributeValue| value.as_s().unwrap().clone();
        closed
            .map(|item| (text(&item["name"]), text(&item["outcome"])))
            .collect()
    }
}

/// A pool of the policy, for which accounts are created.
pub(super) fn pool_entry(prefix: &str, target: usize) -> Value {
    json!({
        "name_prefix": prefix,
        "target_available": target,
        "create": { "description": "labs", "admin_user": { "email": "labs@example.com", "name": "Labs" } },
    })
}

/// A policy with one pool of prefix `lab`.
pub(super) fn policy(target: usize) -> Value {
    json!({ "pool": [pool_entry("lab", target)] })
}

/// Runs refill, sync and check once each, in the order in which an account passes them, and returns the report of refill.
pub(super) async fn run_jobs(client: &BrokerClient) -> Value {
    let report = client.job("refill").await;
    client.job("sync").await;
    client.job("check").await;
    report
}

/// Runs the jobs every `interval` until refill has nothing to do and no sandbox is in provisioning.
pub(super) async fn run_until_settled(world: &World, broker: &TestBroker, interval: Duration) {
    for _ in 0..50 {
        broker.clock.advance(interval);
        world.simulator.advance(interval).unwrap();
        let report = run_jobs(&broker.client).await;
        let pools = report["pools"].as_array().unwrap();
        let has_open = pools.iter().any(|pool| {
            ["provisioning", "under_way", "wanted"]
                .iter()
                .any(|field| pool[*field] != 0)
        });
        if !has_open && world.in_status(Status::Provisioning).await.is_empty() {
            return;
        }
    }
    panic!(
        "the pool does not settle: {}",
        broker.client.overview().await
    );
}
