//! Callers, every job, CSP faults and passing time, all concurrently, on two brokers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use reqwest::Method;
use sandbox_broker::{
    clock::ManualClock,
    csp::simulator::{Fault, FaultKind, Simulator},
    domain::{Sandbox, Status},
};

use crate::support::{BrokerClient, Pool, START, TestBroker, simulated_csp};

const CALLERS: u64 = 12;
const STEPS: usize = 200;

/// The caller that each sandbox was ever allocated to.
type Ledger = Mutex<BTreeMap<String, String>>;

async fn play(
    caller: String,
    clients: [BrokerClient; 2],
    ledger: Arc<Ledger>,
    seed: u64,
) -> Option<String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut holds: Option<String> = None;
    for _ in 0..STEPS {
        let client = &clients[rng.random_range(0..2)];
        match (rng.random_range(0..4), &holds) {
            (0..2, _) => {
                let answer = client.allocate(&caller).await;
                if !answer.status.is_success() {
                    assert!(matches!(answer.status.as_u16(), 409 | 503), "{answer:?}");
                    continue;
                }
                let id = answer.sandbox_id();
                let mut ledger = ledger.lock().unwrap();
                let owner = ledger.entry(id.clone()).or_insert_with(|| caller.clone());
                assert_eq!(*owner, caller, "{id} was allocated to two callers");
                holds = Some(id);
            }
            (2, Some(id)) => {
                let answer = client.get(id, &caller).await;
                assert!(matches!(answer.status.as_u16(), 200 | 404), "{answer:?}");
            }
            (_, Some(id)) => {
                let answer = client.release(id, &caller).await;
                let gone = matches!(answer.status.as_u16(), 404)
                    || (answer.status == 403 && answer.code() == "ALLOCATION_EXPIRED");
                assert!(answer.status.is_success() || gone, "{answer:?}");
                holds = None;
            }
            (_, None) => {}
        }
    }
    still_held(&clients[0], &caller, holds).await
}

/// Returns the sandbox if the caller still holds it: the allocation may have expired meanwhile.
async fn still_held(client: &BrokerClient, caller: &str, holds: Option<String>) -> Option<String> {
    let id = holds?;
    let answer = client.get(&id, caller).await;
    (answer.status.is_success() && answer.json()["status"] == "allocated").then_some(id)
}

/// Reads the table repeatedly and checks that no sandbox returns to an earlier status. Returns the number of reads.
async fn check_transitions(pool: &Pool, done: &AtomicBool) -> usize {
    let mut last: BTreeMap<String, Sandbox> = BTreeMap::new();
    let mut reads = 0;
    while !done.load(Ordering::SeqCst) {
        for now in pool.sandboxes().await {
            let id = now.id().to_string();
            if let Some(before) = last.get(&id) {
                assert!(may_become(before, &now), "{before:?} became {now:?}");
            }
            last.insert(id, now);
        }
        reads += 1;
    }
    reads
}

/// Whether transitions of the design lead from `before` to `now`, in any number of steps.
fn may_become(before: &Sandbox, now: &Sandbox) -> bool {
    let unused = |status| matches!(status, Status::Available | Status::Stale);
    let leaving = |status| matches!(status, Status::PendingDeletion | Status::DeletionFailed);
    let same_holder = before.holder == now.holder && before.allocated_at == now.allocated_at;
    match (before.status, now.status) {
        (from, _) if unused(from) => true,
        (Status::Allocated, to) => same_holder && (to == Status::Allocated || leaving(to)),
        (_, to) => same_holder && leaving(to),
    }
}

async fn run_jobs(
    brokers: [&TestBroker; 2],
    simulator: &Simulator,
    clock: &ManualClock,
    done: &AtomicBool,
) {
    let mut rng = SmallRng::seed_from_u64(99);
    let jobs = [
        "sync",
        "cleanup",
        "auto-expire",
        "cleanup?retry_failed=true",
        "auto-delete-stale?grace_period_hours=1",
    ];
    while !done.load(Ordering::SeqCst) {
        simulator.inject(match rng.random_range(0..5) {
            0 => vec![Fault {
                every: Some(3),
                ..Fault::always(FaultKind::Status { code: 500 })
            }],
            1 => vec![Fault {
                every: Some(4),
                ..Fault::always(FaultKind::Halved)
            }],
            2 => vec![Fault {
                every: Some(5),
                ..Fault::always(FaultKind::Reset)
            }],
            3 => vec![Fault {
                every: Some(2),
                ..Fault::always(FaultKind::Forget)
            }],
            _ => vec![],
        });
        simulator.add_accounts(3).unwrap();
        let runs = jobs.map(|job| {
            let broker = brokers[rng.random_range(0..2)];
            async move {
                let answer = broker
                    .client
                    .admin(Method::POST, &format!("/v1/admin/{job}"))
                    .await;
                let expected = answer.status.is_success()
                    || matches!(answer.code().as_str(), "JOB_RUNNING" | "CSP_UNAVAILABLE");
                assert!(expected, "{job}: {answer:?}");
            }
        });
        join_all(runs).await;
        clock.advance(Duration::from_mins(7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_and_jobs_lose_no_sandbox_and_allocate_none_twice() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(120).await;
    let clock = Arc::new(ManualClock::new(START));
    let variables = pool.variables(&[
        ("CSP_BASE_URL", &base_url),
        ("CLEANUP_BATCH_DELAY_SEC", "0"),
        ("BACKOFF_MAX_MS", "25"),
        ("LAB_DURATION_HOURS", "1"),
    ]);
    let a = TestBroker::boot_at(variables.clone(), Arc::clone(&clock)).await;
    let b = TestBroker::boot_at(variables, Arc::clone(&clock)).await;
    a.client.job("sync").await;
    let (done, ledger) = (AtomicBool::new(false), Arc::new(Ledger::default()));
    let plays = async {
        let plays = (0..CALLERS).map(|n| {
            let clients = [a.client.clone(), b.client.clone()];
            tokio::spawn(play(format!("play-{n}"), clients, Arc::clone(&ledger), n))
        });
        let ended = join_all(plays).await;
        done.store(true, Ordering::SeqCst);
        ended.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let (_, reads, ()) = tokio::join!(
        plays,
        check_transitions(&pool, &done),
        run_jobs([&a, &b], &simulator, &clock, &done)
    );
    assert!(reads > 10, "only {reads} reads of the table");
    let ledger = ledger.lock().unwrap().clone();
    assert!(ledger.len() > 100, "{} allocations", ledger.len());
    for sandbox in pool.sandboxes().await {
        match (sandbox.status, ledger.get(sandbox.id().as_str())) {
            (Status::Available | Status::Stale, caller) => {
                assert_eq!(caller, None, "{sandbox:?} became available again");
            }
            (_, Some(owner)) => assert_eq!(sandbox.holder.unwrap().caller.as_str(), owner),
            // Allocated by a request whose response was lost; no other caller may hold it.
            (_, None) => {}
        }
    }
    for (caller, sandboxes) in pool.holdings().await {
        assert_eq!(sandboxes.len(), 1, "{caller} holds {sandboxes:?}");
    }
}
