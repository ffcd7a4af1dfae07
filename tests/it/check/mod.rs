//! Checks of whether accounts are usable.

mod answers;
mod lifecycle;
mod outages;
mod races;
mod rechecks;

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::csp::simulator::{Call, Fault, FaultKind, Simulator};
use serde_json::Value;

use crate::support::{Pool, TestBroker, simulated_csp};

const MINUTE: Duration = Duration::from_mins(1);

/// A pool whose accounts are checked, with a simulated CSP and a broker.
struct Checked {
    pool: Pool,
    simulator: Simulator,
    broker: TestBroker,
    base_url: String,
}

impl Checked {
    /// Creates a pool with the accounts of CSP, before its first sync.
    async fn new(mode: &str, accounts: u64, further: &[(&str, &str)]) -> Self {
        let pool = Pool::new().await;
        let (simulator, base_url) = simulated_csp(accounts).await;
        let broker = TestBroker::boot(pool.variables(&settings(mode, &base_url, further))).await;
        Self {
            pool,
            simulator,
            broker,
            base_url,
        }
    }

    /// Boots another broker on the pool, at the same time.
    async fn another(&self, mode: &str, further: &[(&str, &str)]) -> TestBroker {
        let variables = self
            .pool
            .variables(&settings(mode, &self.base_url, further));
        TestBroker::boot_at(variables, self.broker.clock.clone()).await
    }

    async fn sync(&self) -> Value {
        self.broker.client.job("sync").await
    }

    async fn check(&self) -> Value {
        self.broker.client.job("check").await
    }

    /// Runs a check that must fail. Returns the error in its record.
    async fn failing_check(&self) -> String {
        let client = &self.broker.client;
        let answer = client.admin(Method::POST, "/v1/admin/check").await;
        assert!(answer.status.is_server_error(), "{answer:?}");
        let runs = client.admin(Method::GET, "/v1/admin/jobs").await.json();
        let runs = runs["runs"].as_array().unwrap();
        let run = runs.iter().find(|run| run["job"] == "check").unwrap();
        run["error"].as_str().unwrap().to_owned()
    }

    async fn sandbox(&self, id: &str) -> Value {
        let path = format!("/v1/admin/sandboxes/{id}");
        let shown = self.broker.client.admin(Method::GET, &path).await.json();
        shown["sandbox"].clone()
    }

    /// Returns the number of sandboxes in a status, which is read from the table.
    async fn count(&self, status: &str) -> usize {
        let sandboxes = self.pool.sandboxes().await;
        sandboxes
            .iter()
            .filter(|one| one.status.as_str() == status)
            .count()
    }

    /// Returns the ids of the accounts, in their order.
    fn ids(&self) -> Vec<u64> {
        let accounts = self.simulator.accounts();
        accounts.iter().map(|account| account.csp_id).collect()
    }

    fn inject(&self, on: Call, kind: FaultKind, accounts: &[u64]) {
        self.simulator.inject([fault(on, kind, accounts)]);
    }

    fn mend(&self) {
        self.simulator.inject([]);
    }
}

fn fault(on: Call, kind: FaultKind, accounts: &[u64]) -> Fault {
    Fault {
        on,
        accounts: accounts.to_vec(),
        ..Fault::always(kind)
    }
}

fn settings<'a>(
    mode: &'a str,
    base_url: &'a str,
    further: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let fixed = [
        ("CHECK_MODE", mode),
        ("CSP_BASE_URL", base_url),
        ("CSP_TIMEOUT_CONNECT_SEC", "1"),
        ("CSP_TIMEOUT_READ_SEC", "1"),
        ("NIOSXAAS_EMAIL", "broker@example.com"),
        ("NIOSXAAS_PASSWORD", "niosxaas-password"),
        ("CHECK_BATCH_DELAY_SEC", "0"),
    ];
    [&fixed, further].concat()
}

/// Returns counts of a report by name.
fn counts<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| {
        report[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {report}"))
    })
}

const RESULTS: [&str; 5] = ["usable", "not_yet", "failed", "quarantined", "deferred"];
