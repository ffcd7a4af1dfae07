//! Neither checks nor refill, and no pool in the policy: the broker makes the calls that it made before there were any.

use std::collections::BTreeMap;

use sandbox_broker::csp::simulator::{Calls, Simulator};

use crate::support::{Pool, Proxy, TestBroker, simulated_csp};

const HOLDER: &str = "play-1";

/// A broker with the default settings, whose calls are counted.
struct Counted {
    proxy: Proxy,
    simulator: Simulator,
    broker: TestBroker,
    _pool: Pool,
}

impl Counted {
    async fn new() -> Self {
        let pool = Pool::new().await;
        let proxy = Proxy::to(pool.engine.endpoint()).await;
        let (simulator, csp) = simulated_csp(20).await;
        let endpoint = proxy.endpoint();
        let variables = [
            ("DDB_ENDPOINT_URL", endpoint.as_str()),
            ("CSP_BASE_URL", &csp),
            ("CLEANUP_BATCH_DELAY_SEC", "0"),
        ];
        Self {
            broker: pool.broker_with(&variables).await,
            proxy,
            simulator,
            _pool: pool,
        }
    }

    /// Asserts that the table received these calls since the last invocation.
    async fn assert_calls<const N: usize>(&self, step: &str, calls: [(&str, usize); N]) {
        self.proxy.until_quiet().await;
        let calls = calls.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(self.proxy.take_calls(), BTreeMap::from(calls), "{step}");
    }
}

/// The numbers were counted in a broker without checks and refill.
#[tokio::test(flavor = "multi_thread")]
async fn broker_without_checks_refill_and_pools_makes_no_call_for_them() {
    let counted = Counted::new().await;
    let client = &counted.broker.client;
    counted.proxy.until_quiet().await;
    counted.proxy.take_calls();

    for (job, transactions) in [("sync", 2), ("sync", 1)] {
        client.job(job).await;
        let calls = [
            ("GetItem", 1),
            ("PutItem", 2),
            ("Query", 4),
            ("Scan", 1),
            ("TransactWriteItems", transactions),
            ("UpdateItem", 2),
        ];
        counted.assert_calls(job, calls).await;
    }
    // The calls of a request depend on the time of the last scan, so these three are not counted.
    let id = client.allocate(HOLDER).await.sandbox_id();
    let id = client.replace(&id, HOLDER).await.sandbox_id();
    client.release(&id, HOLDER).await;
    counted.proxy.until_quiet().await;
    counted.proxy.take_calls();
    client.job("cleanup").await;
    let calls = [
        ("GetItem", 1),
        ("PutItem", 1),
        ("Query", 1),
        ("TransactWriteItems", 3),
        ("UpdateItem", 2),
    ];
    counted.assert_calls("cleanup", calls).await;
    for (job, queries) in [("auto-expire", 2), ("auto-delete-stale", 1)] {
        client.job(job).await;
        let calls = [
            ("PutItem", 1),
            ("Query", queries),
            ("TransactWriteItems", 1),
            ("UpdateItem", 2),
        ];
        counted.assert_calls(job, calls).await;
    }
    let calls = Calls {
        list: 2,
        delete: 2,
        ..Calls::default()
    };
    assert_eq!(counted.simulator.calls(), calls);
}

/// Sandboxes in provisioning are counted with those in the other statuses, as checks may have been on before.
#[tokio::test(flavor = "multi_thread")]
async fn count_of_a_pool_has_one_query_more_for_sandboxes_in_provisioning() {
    let counted = Counted::new().await;
    counted.proxy.until_quiet().await;
    counted.proxy.take_calls();
    counted.broker.client.overview().await;
    let calls = [("GetItem", 17), ("Query", 7 + 1), ("UpdateItem", 1)];
    counted.assert_calls("overview", calls).await;
}
