//! The world of an epoch: a table of its own, two broker processes on it, and a simulated CSP.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{SeedableRng, rngs::SmallRng};
use sandbox_broker::csp::simulator::Simulator;
use tokio::task::spawn_blocking;

use super::{
    broker::{Broker, SetClock},
    event::EventKind,
    filled_pool,
    memories::Memories,
    recorder::Recorder,
    setting,
};
use crate::support::{
    Pool,
    proxy::{Mutant, Proxy, Script},
    simulated_csp,
};

/// The parameters of an epoch.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// The epoch ends after this many calls of clients, or after `duration`.
    pub(super) operations: usize,
    pub(super) duration: Duration,
    pub(super) clients: u64,
    pub(super) script: Script,
    pub(super) between_tables: Duration,
    pub(super) crashes: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            operations: usize::MAX,
            duration: Duration::MAX,
            clients: setting("HISTORY_CLIENTS").unwrap_or(100),
            script: Script::of(0.003),
            between_tables: Duration::from_millis(500),
            crashes: true,
        }
    }
}

/// The place of a broker, whose process may be replaced.
pub(super) struct Slot {
    variables: BTreeMap<String, String>,
    pub(super) broker: Mutex<Option<Broker>>,
    base: RwLock<Arc<str>>,
}

impl Slot {
    pub(super) fn is_up(&self) -> bool {
        self.broker.lock().unwrap().is_some()
    }

    pub(super) fn base(&self) -> Arc<str> {
        Arc::clone(&self.base.read().unwrap())
    }
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) recorder: Recorder,
    pub(super) brokers: [Slot; 2],
    pub(super) http: reqwest::Client,
    pub(super) simulator: Simulator,
    pub(super) clock: SetClock,
    pub(super) pool: Pool,
    pub(super) memories: Memories,
    clock_file: PathBuf,
    pub(super) proxy: Proxy,
    /// Number of sandboxes that are not available. CSP still has their accounts.
    used: AtomicUsize,
    /// How many accounts that brokers have ordered are recorded, and when they were counted.
    pub(super) orders: Mutex<(usize, Duration)>,
    pub(super) is_over: AtomicBool,
    _directory: tempfile::TempDir,
}

impl World {
    pub(super) async fn new(plan: Plan, mutant: Option<Mutant>) -> Arc<Self> {
        let pool = Pool::new().await;
        let proxy = Proxy::with_seed(pool.engine.endpoint(), plan.seed).await;
        proxy.weaken(mutant);
        let (simulator, csp) = simulated_csp(0).await;
        let _ = simulator.take_deletion_requests();
        filled_pool::configure(&simulator);
        let directory = tempfile::tempdir().unwrap();
        let clock_file = directory.path().join("clock");
        // The brokers differ in a setting, as during a deployment.
        let slot = |hours: &str| Slot {
            variables: pool.variables(&[
                ("DDB_ENDPOINT_URL", proxy.endpoint().as_str()),
                ("CSP_BASE_URL", csp.as_str()),
                ("CSP_TIMEOUT_READ_SEC", "1"),
                ("CLEANUP_BATCH_DELAY_SEC", "0"),
                ("BACKOFF_BASE_MS", "5"),
                ("BACKOFF_MAX_MS", "40"),
                ("ALLOCATE_TIMEOUT_MS", "4000"),
                ("LAB_DURATION_HOURS", hours),
                ("GRACE_PERIOD_MINUTES", "30"),
                ("MAX_STALE_FRACTION", "1"),
                ("MAX_EXPIRE_FRACTION", "1"),
                ("TOMBSTONE_RETRY_SEC", "60"),
                ("DELETION_RETRY_MAX_ATTEMPTS", "3"),
                ("CIRCUIT_BREAKER_THRESHOLD", "1000"),
                ("CHECK_MODE", "all"),
                ("CHECK_BATCH_SIZE", "100"),
                ("CHECK_BATCH_DELAY_SEC", "0"),
                ("RECHECK_HOURS", "1"),
                ("PROVISION_TIMEOUT_MINUTES", "1"),
                ("NIOSXAAS_EMAIL", "labs@example.com"),
                ("NIOSXAAS_PASSWORD", "simulated"),
                ("REFILL_MODE", "on"),
                ("REFILL_DELAY_SEC", "0"),
                ("CANDIDATE_INDEX_CAPACITY", "100"),
                ("RATE_LIMIT_PER_SEC", "100000"),
                ("RATE_LIMIT_BURST", "1000000"),
                ("RATE_LIMIT_ADDRESS_PER_SEC", "100000"),
                ("RATE_LIMIT_ADDRESS_BURST", "1000000"),
            ]),
            broker: Mutex::default(),
            base: RwLock::new("".into()),
        };
        let world = Arc::new(Self {
            recorder: Recorder::new(),
            brokers: [slot("1"), slot("2")],
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            simulator,
            clock: SetClock::open(&clock_file),
            memories: Memories::default(),
            clock_file,
            proxy,
            used: AtomicUsize::new(0),
            orders: Mutex::default(),
            is_over: AtomicBool::new(false),
            _directory: directory,
            pool,
            plan,
        });
        // The second broker begins with the policy that the first one has set, so that quotas hold from the beginning.
        world.start(0).await;
        let mut rng = SmallRng::seed_from_u64(world.plan.seed);
        let version = world.set_policy(0, &mut rng).await;
        world.start(1).await;
        world.until_obeyed(version.unwrap()).await;
        world
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
            || self.recorder.operations() >= self.plan.operations
            || self.recorder.now() >= self.plan.duration
    }

    pub(super) async fn start(self: &Arc<Self>, broker: usize) {
        let began = self.recorder.now();
        let world = Arc::clone(self);
        let started = spawn_blocking(move || {
            let slot = &world.brokers[broker];
            let started = Broker::start(&slot.variables, &world.clock_file);
            *slot.base.write().unwrap() = started.base.as_str().into();
            *slot.broker.lock().unwrap() = Some(started);
        });
        started.await.unwrap();
        self.recorder.record(began, EventKind::Started { broker });
    }

    pub(super) async fn kill(self: &Arc<Self>, broker: usize) {
        let began = self.recorder.now();
        let running = self.brokers[broker].broker.lock().unwrap().take();
        if let Some(mut running) = running {
            spawn_blocking(move || running.kill()).await.unwrap();
        }
        self.recorder.record(began, EventKind::Killed { broker });
    }

    /// Returns the number of accounts whose sandboxes cannot be allocated.
    pub(super) fn used_accounts(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn count_used(&self, table: &EventKind) {
        if let EventKind::Table { sandboxes, .. } = table {
            let used = sandboxes.iter().filter(|row| row.status != "available");
            self.used.store(used.count(), Ordering::Relaxed);
        }
    }
}
