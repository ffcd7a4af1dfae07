//! One epoch: a table of its own, two broker processes on it, clients, and everything that goes on beside them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use sandbox_broker::csp::simulator::Simulator;
use tokio::task::spawn_blocking;

use super::{
    broker::{Broker, SetClock},
    clients::{self, Memories},
    event::{Event, What},
    pool,
    recorder::Recorder,
    setting, surroundings,
};
use crate::support::{
    Pool,
    faults::{Condition, Fault, FaultProxy, Mutant, Script},
    simulated_csp,
};

/// The longest for which an empty reading of the index answers others.
const EMPTY_FOR: Duration = Duration::from_millis(300);

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// It ends after so many calls of clients, or so long.
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

/// What happened.
#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) seed: u64,
    pub(super) history: Vec<Event>,
    /// In the end whoever asks gets a sandbox, as long as there is one.
    pub(super) liveness: Result<(), String>,
    pub(super) injected: BTreeMap<Fault, usize>,
    pub(super) conditions: Vec<Condition>,
    pub(super) calls: usize,
    pub(super) duration: Duration,
}

/// A broker's place: the process changes, its clients go on.
pub(super) struct Slot {
    variables: BTreeMap<String, String>,
    broker: Mutex<Option<Broker>>,
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
    proxy: FaultProxy,
    /// Sandboxes that are nobody's any more, or somebody's; CSP has them too.
    used: AtomicUsize,
    is_over: AtomicBool,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new(plan: Plan, mutant: Option<Mutant>) -> Arc<Self> {
        let pool = Pool::new().await;
        let proxy = FaultProxy::to(pool.engine.endpoint(), plan.seed).await;
        proxy.weaken(mutant);
        let (simulator, csp) = simulated_csp(0).await;
        let _ = simulator.take_deletion_requests();
        let directory = tempfile::tempdir().unwrap();
        let clock_file = directory.path().join("clock");
        // In the middle of a change of the configuration.
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
                ("TOMBSTONE_RETRY_SEC", "60"),
                ("DELETION_RETRY_MAX_ATTEMPTS", "3"),
                ("CIRCUIT_BREAKER_THRESHOLD", "1000"),
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
            is_over: AtomicBool::new(false),
            _directory: directory,
            pool,
            plan,
        });
        tokio::join!(world.start(0), world.start(1));
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
        self.recorder.record(began, What::Started { broker });
    }

    pub(super) async fn kill(self: &Arc<Self>, broker: usize) {
        let began = self.recorder.now();
        let running = self.brokers[broker].broker.lock().unwrap().take();
        if let Some(mut running) = running {
            spawn_blocking(move || running.kill()).await.unwrap();
        }
        self.recorder.record(began, What::Killed { broker });
    }

    /// Accounts that CSP has for sandboxes that nobody can get.
    pub(super) fn wanted_accounts(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn note_table(&self, table: &What) {
        if let What::Table { sandboxes, .. } = table {
            let used = sandboxes.iter().filter(|row| row.status != "available");
            self.used.store(used.count(), Ordering::Relaxed);
        }
    }

    /// Nothing happens any more but what is recorded.
    async fn calm_down(&self) {
        self.proxy.calm();
        self.proxy.until_quiet().await;
        surroundings::lose_and_find(self).await;
        surroundings::take_orders(self);
        tokio::time::sleep(EMPTY_FOR).await;
        self.recorder.record(self.recorder.now(), What::Calm);
    }

    /// What is left can be had, to the last one.
    async fn exhaust(&self) -> Result<(), String> {
        clients::ask_again(self).await;
        let began = self.recorder.now();
        let table = pool::table(&self.pool).await;
        let What::Table { sandboxes, .. } = &table else {
            unreachable!("it is a table");
        };
        let is_available = |row: &&super::event::Row| row.status == "available";
        let available = sandboxes.iter().filter(is_available).count();
        self.recorder.record(began, table);
        let given = clients::drain(self).await;
        let began = self.recorder.now();
        let table = pool::table(&self.pool).await;
        self.recorder.record(began, table);
        if given == available {
            Ok(())
        } else {
            Err(format!(
                "of {available} sandboxes that were available, {given} were given to those who asked"
            ))
        }
    }
}

pub(super) async fn run(plan: Plan, mutant: Option<Mutant>) -> Epoch {
    let world = World::new(plan, mutant).await;
    let seed = world.plan.seed;
    world.proxy.play(world.plan.script.clone());
    let stream = |number: u64| {
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(number)
    };
    let mut tasks: Vec<_> = (0..world.plan.clients)
        .map(|number| tokio::spawn(clients::act(Arc::clone(&world), stream(100 + number))))
        .collect();
    tasks.extend([
        tokio::spawn(surroundings::csp(Arc::clone(&world), stream(1))),
        tokio::spawn(surroundings::jobs(Arc::clone(&world), 0, stream(2))),
        tokio::spawn(surroundings::jobs(Arc::clone(&world), 1, stream(3))),
        tokio::spawn(surroundings::crashes(Arc::clone(&world), stream(4))),
        tokio::spawn(surroundings::time(Arc::clone(&world), stream(5))),
        tokio::spawn(surroundings::look(Arc::clone(&world))),
    ]);
    for ended in join_all(tasks).await {
        ended.unwrap();
    }
    world.is_over.store(true, Ordering::SeqCst);
    world.calm_down().await;
    let liveness = world.exhaust().await;
    for broker in 0..2 {
        let running = world.brokers[broker].broker.lock().unwrap().take();
        spawn_blocking(move || drop(running)).await.unwrap();
    }
    Epoch {
        seed,
        history: world.recorder.history(),
        liveness,
        injected: world.proxy.injected(),
        conditions: world.proxy.conditions(),
        calls: world.proxy.calls(),
        duration: world.recorder.now(),
    }
}
