//! What goes on beside the clients: CSP, jobs, crashes, time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use sandbox_broker::csp::simulator::{Call, Fault, FaultKind, SimulatedAccount};
use tokio::time::sleep;

use super::{event::What, pool, workload::World};
use crate::support::ADMIN;

/// Each with how many of all runs are of it.
const JOBS: [(&str, u32); 9] = [
    ("sync", 8),
    ("sync?force=true", 2),
    ("cleanup", 5),
    ("cleanup?retry_failed=true", 2),
    ("auto-expire", 2),
    ("auto-delete-stale?grace_period_hours=0", 1),
    ("auto-delete-stale?grace_period_hours=1", 1),
    ("bulk-delete?status=stale", 1),
    ("bulk-delete?status=deletion_failed", 1),
];

/// So many accounts that are nobody's are too few. Now there is plenty, and now nothing to be had.
const LOW: [usize; 6] = [0, 0, 5, 20, 40, 60];
/// The newest accounts are those that are likely to be in the pool still.
const NEWEST: usize = 15;

/// CSP makes accounts when the pool runs low, or a while later.
pub(super) async fn csp(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut hidden = BTreeSet::new();
    let mut low = 8;
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(5..40))).await;
        take_orders(&world);
        let accounts = world.simulator.accounts();
        let waiting = accounts.len().saturating_sub(hidden.len());
        match rng.random_range(0..20) {
            0..3 => {
                if let Some(account) = some(&accounts, &mut rng) {
                    hide(&world, account.csp_id);
                    hidden.insert(account.csp_id);
                }
            }
            3..6 => {
                let shown: Vec<_> = hidden.iter().copied().collect();
                if let Some(csp_id) = shown.choose(&mut rng) {
                    show(&world, *csp_id);
                    hidden.remove(csp_id);
                }
            }
            6..8 => {
                if let Some(account) = some(&accounts, &mut rng) {
                    rename(&world, account.csp_id, rng.random_range(0..10));
                }
            }
            8 => world.simulator.inject(trouble(&mut rng)),
            9..11 => world.simulator.inject([]),
            _ => {}
        }
        // Beside what is held, so that now and then there is nothing to be had.
        if waiting < world.wanted_accounts() + low {
            low = *LOW.choose(&mut rng).unwrap();
            make_accounts(&world, rng.random_range(4..24));
        }
    }
    world.simulator.inject([]);
}

/// What crowds and slow engines may leave no time for: an account that is missing in one list, and has a new name in the
/// next, while nobody holds its sandbox.
pub(super) async fn lose_and_find(world: &World) {
    make_accounts(world, 8);
    world.job_to_its_end("sync").await;
    let accounts = world.simulator.accounts();
    let newest = accounts.iter().rev().take(2).map(|account| account.csp_id);
    newest.clone().for_each(|csp_id| hide(world, csp_id));
    world.job_to_its_end("sync").await;
    newest.clone().for_each(|csp_id| show(world, csp_id));
    world.job_to_its_end("sync").await;
    newest.for_each(|csp_id| rename(world, csp_id, 10));
    world.job_to_its_end("sync").await;
}

fn hide(world: &World, csp_id: u64) {
    let began = world.recorder.now();
    world.simulator.hide(csp_id, true);
    let sandbox = csp_id.to_string();
    world
        .recorder
        .record(began, What::AccountHidden { sandbox });
}

fn show(world: &World, csp_id: u64) {
    let began = world.recorder.now();
    world.simulator.hide(csp_id, false);
    let sandbox = csp_id.to_string();
    world.recorder.record(began, What::AccountShown { sandbox });
}

fn rename(world: &World, csp_id: u64, number: u32) {
    let began = world.recorder.now();
    let sandbox = csp_id.to_string();
    let name = format!("renamed-{number}-{sandbox}");
    if world.simulator.rename(csp_id, &name) {
        world
            .recorder
            .record(began, What::AccountRenamed { sandbox, name });
    }
}

fn some<'a>(accounts: &'a [SimulatedAccount], rng: &mut SmallRng) -> Option<&'a SimulatedAccount> {
    let newest = accounts.len().saturating_sub(NEWEST);
    let from = if rng.random_bool(0.7) { newest } else { 0 };
    accounts[from..].choose(rng)
}

fn make_accounts(world: &World, count: u64) {
    let began = world.recorder.now();
    world.simulator.add_accounts(count).unwrap();
    let accounts = world.simulator.accounts();
    for account in &accounts[accounts.len() - usize::try_from(count).unwrap()..] {
        let what = What::AccountMade {
            sandbox: account.csp_id.to_string(),
            name: account.name.clone(),
            external_id: account.id.clone(),
        };
        world.recorder.record(began, what);
    }
}

/// Deletions, at the moment at which they came.
pub(super) fn take_orders(world: &World) {
    for (at, external_id) in world.simulator.take_deletion_requests() {
        world
            .recorder
            .record_at(at, What::AccountDeleted { external_id });
    }
}

fn trouble(rng: &mut SmallRng) -> Vec<Fault> {
    let fault = |on, kind, every| Fault {
        on,
        every: Some(every),
        ..Fault::always(kind)
    };
    vec![match rng.random_range(0..8) {
        0..2 => fault(Call::Delete, FaultKind::Status { code: 500 }, 2),
        2 => fault(Call::Delete, FaultKind::Status { code: 400 }, 3),
        3 => fault(Call::Delete, FaultKind::Forget, 2),
        4 => fault(Call::Any, FaultKind::Reset, 3),
        5 => fault(Call::List, FaultKind::Duplicates, 2),
        6 => fault(Call::List, FaultKind::Broken, 2),
        _ => fault(Call::List, FaultKind::Slow { delay_ms: 60 }, 2),
    }]
}

/// Starts jobs at random, on this broker too.
pub(super) async fn jobs(world: Arc<World>, broker: usize, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        let (job, _) = JOBS
            .choose_weighted(&mut rng, |(_, weight)| *weight)
            .unwrap();
        if world.brokers[broker].is_up() {
            world.job(broker, job).await;
        }
        sleep(Duration::from_millis(rng.random_range(1..30))).await;
    }
}

impl World {
    /// Runs a job when those before it, or their leases, have ended.
    async fn job_to_its_end(&self, job: &str) {
        const ATTEMPTS: u32 = 100;
        for _ in 0..ATTEMPTS {
            if self.job(0, job).await {
                return;
            }
            self.advance(Duration::from_mins(1));
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{job} does not succeed in the calm");
    }

    fn advance(&self, span: Duration) {
        let began = self.recorder.now();
        let (from, to) = self.clock.advance(span);
        self.recorder.record(began, What::Clock { from, to });
    }

    /// Whether it succeeded.
    pub(super) async fn job(&self, broker: usize, job: &str) -> bool {
        let began = self.recorder.now();
        let url = format!("{}/v1/admin/{job}", self.brokers[broker].base());
        let run = async {
            let answer = self.http.post(url).bearer_auth(ADMIN).send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.json().await?))
        };
        let report = run.await.ok();
        let report = report.and_then(|(status, report)| status.is_success().then_some(report));
        let has_succeeded = report.is_some();
        let name = job.to_owned();
        self.recorder.record(began, What::Job { name, report });
        has_succeeded
    }
}

/// Kills brokers and starts them again.
pub(super) async fn crashes(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while world.plan.crashes && !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(2000..6000))).await;
        if world.is_over() {
            return;
        }
        let broker = rng.random_range(0..2);
        world.kill(broker).await;
        sleep(Duration::from_millis(rng.random_range(0..100))).await;
        world.start(broker).await;
    }
}

/// Sets the clocks forward: leases look dead, deletions become due, allocations end.
pub(super) async fn time(world: Arc<World>, seed: u64) {
    const MINUTES: [u64; 5] = [1, 2, 10, 45, 60];
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(300..2500))).await;
        let span = Duration::from_mins(*MINUTES.choose(&mut rng).unwrap());
        world.advance(span);
    }
}

/// Reads the table again and again.
pub(super) async fn look(world: Arc<World>) {
    while !world.is_over() {
        sleep(world.plan.between_tables).await;
        let began = world.recorder.now();
        let table = pool::table(&world.pool).await;
        world.note_table(&table);
        world.recorder.record(began, table);
    }
}
