//! Reads of the whole table, for operators and jobs, beside allocations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use reqwest::{Method, StatusCode};

use crate::support::{ADMIN, BrokerClient, Pool, Proxy, TRACK, TestBroker, run_alone};

const SANDBOXES: &str = "4000";
/// The number of operators that read the table at the same time.
const READERS: usize = 16;
const ALLOCATIONS: usize = 41;
/// How much slower than usual the median allocation may be, where that is more than [`FAST_ENOUGH`]. On a release build
/// on two idle cores it is about 2; before reads had a bound of their own it was 1,400.
const SLOWER: u32 = 10;
/// A duration that may be due to other processes of a busy machine.
const FAST_ENOUGH: Duration = Duration::from_millis(300);

async fn broker(directory: &tempfile::TempDir) -> TestBroker {
    let variables = [
        ("DATA_DIR", directory.path().to_str().unwrap()),
        ("SIMULATOR_ACCOUNTS", SANDBOXES),
        ("BROKER_API_TOKEN", TRACK),
        ("BROKER_ADMIN_TOKEN", ADMIN),
        ("PORT", "0"),
        ("RUN_JOBS", "false"),
        ("RATE_LIMIT_PER_SEC", "100000"),
        ("RATE_LIMIT_BURST", "100000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    TestBroker::boot(variables.into()).await
}

/// Allocates one sandbox after another, which all must succeed. Returns the median of their durations.
async fn median_allocation(client: &BrokerClient, name: &str) -> Duration {
    let mut durations = Vec::new();
    for n in 0..ALLOCATIONS {
        let began = Instant::now();
        let answer = client.allocate(&format!("{name}-{n}")).await;
        durations.push(began.elapsed());
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }
    durations.sort();
    durations[ALLOCATIONS / 2]
}

/// Clients that send one request after another.
struct Load {
    stop: Arc<AtomicBool>,
    /// The number of requests that were answered with 200.
    served: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(readers: usize, client: &BrokerClient, method: &Method, path: &'static str) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..readers).map(|_| {
            let (client, method) = (client.clone(), method.clone());
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.admin(method.clone(), path).await;
                    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self {
            clients: clients.collect(),
            stop,
            served,
        }
    }

    /// Waits for the last answers. Returns the number of requests that were served.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        self.served.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_the_whole_table_do_not_starve_allocations() {
    let _alone = run_alone().await;
    let directory = tempfile::tempdir().unwrap();
    let broker = broker(&directory).await;
    // The first requests open connections and fill caches.
    median_allocation(&broker.client, "first").await;
    let usual = median_allocation(&broker.client, "alone").await;
    for (name, readers, method, path) in [
        ("search", READERS, Method::GET, "/v1/admin/sandboxes?q=zzzz"),
        ("report", READERS, Method::GET, "/v1/admin/niosxaas"),
        ("sync", 1, Method::POST, "/v1/admin/sync"),
    ] {
        let load = Load::start(readers, &broker.client, &method, path);
        let beside = median_allocation(&broker.client, name).await;
        let served = load.stop().await;
        assert!(served > 0, "{name}: no read was served");
        assert!(
            beside < FAST_ENOUGH.max(usual * SLOWER),
            "{name}: {beside:?} instead of {usual:?}"
        );
        println!("{name}: {beside:?} instead of {usual:?}, {served} reads served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_operators_are_bounded_and_leave_the_slots_of_allocations() {
    let pool = Pool::of(3).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    for (operation, path) in [
        ("Scan", "/v1/admin/sandboxes?q=zzzz"),
        ("Query", "/v1/admin/stats"),
    ] {
        let gate = proxy.hold_operation(operation);
        let read = || broker.client.admin(Method::GET, path);
        // One more than are admitted. The others wait for the database.
        let mut reads: FuturesUnordered<_> = (0..33).map(|_| read()).collect();
        let refused = reads.next().await.unwrap();
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED".to_owned()),
            "{path}"
        );
        let allocated = broker.client.allocate(path).await;
        assert_eq!(allocated.status, StatusCode::CREATED);
        drop(gate);
        let served: Vec<_> = reads.map(|answer| answer.status).collect().await;
        assert_eq!(served, [StatusCode::OK; 32], "{path}");
    }
}
