//! One epoch: faults, clients and their environment, then a calm phase that allocates all that is left.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::task::spawn_blocking;

use super::{
    accounts, clients, environment,
    event::{Event, EventKind, Grant, Row},
    labs, pool, pools, rehearsal,
    world::{Plan, World},
};
use crate::support::proxy::{Condition, Fault, Mutant};

/// How long an empty scan of the index may answer other requests, at most.
const EMPTY_FOR: Duration = Duration::from_millis(300);

/// The record of an epoch.
#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) seed: u64,
    pub(super) history: Vec<Event>,
    /// Whether, in the end, callers got a sandbox as long as one was available.
    pub(super) liveness: Result<(), String>,
    pub(super) injected: BTreeMap<Fault, usize>,
    pub(super) conditions: Vec<Condition>,
    pub(super) calls: usize,
    pub(super) duration: Duration,
}

impl World {
    /// Ends the faults and begins the calm phase, in which every event is recorded. Returns a sandbox of a caller that may
    /// still have it replaced.
    async fn calm_down(&self) -> (Grant, Result<(), String>) {
        self.proxy.calm();
        self.proxy.until_quiet().await;
        environment::end_pauses(self).await;
        let settled = pools::settle(self).await;
        accounts::hide_and_rename(self).await;
        environment::act_in_each_way(self).await;
        let replaceable = rehearsal::lease_in_each_way(self).await;
        accounts::record_deletions(self);
        tokio::time::sleep(EMPTY_FOR).await;
        self.recorder.record(self.recorder.now(), EventKind::Calm);
        (replaceable, settled)
    }

    /// Allocates all available sandboxes, to the last one.
    async fn exhaust(&self) -> Result<(), String> {
        clients::repeat_unanswered(self).await;
        let began = self.recorder.now();
        let table = pool::table(&self.pool).await;
        let EventKind::Table { sandboxes, .. } = &table else {
            unreachable!("it is a table");
        };
        let is_available = |row: &&Row| row.status == "available";
        let available = sandboxes.iter().filter(is_available).count();
        self.recorder.record(began, table);
        let allocated = clients::drain(self).await;
        let began = self.recorder.now();
        let table = pool::table(&self.pool).await;
        self.recorder.record(began, table);
        if allocated == available {
            Ok(())
        } else {
            Err(format!(
                "of {available} available sandboxes only {allocated} were allocated"
            ))
        }
    }
}

/// Runs an epoch, with a mutant of a condition if there is one.
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
        tokio::spawn(accounts::csp(Arc::clone(&world), stream(1))),
        tokio::spawn(environment::jobs(Arc::clone(&world), 0, stream(2))),
        tokio::spawn(environment::jobs(Arc::clone(&world), 1, stream(3))),
        tokio::spawn(pools::job(Arc::clone(&world), "refill", 0, stream(9))),
        tokio::spawn(pools::job(Arc::clone(&world), "refill", 1, stream(10))),
        tokio::spawn(pools::job(Arc::clone(&world), "check", 0, stream(11))),
        tokio::spawn(pools::job(Arc::clone(&world), "check", 1, stream(12))),
        tokio::spawn(environment::crashes(Arc::clone(&world), stream(4))),
        tokio::spawn(environment::clocks(Arc::clone(&world), stream(5))),
        tokio::spawn(environment::pauses(Arc::clone(&world), stream(6))),
        tokio::spawn(environment::operators(Arc::clone(&world), stream(7))),
        tokio::spawn(labs::policies(Arc::clone(&world), stream(8))),
        tokio::spawn(environment::scans(Arc::clone(&world))),
    ]);
    for ended in join_all(tasks).await {
        ended.unwrap();
    }
    world.is_over.store(true, Ordering::SeqCst);
    let (replaceable, settled) = world.calm_down().await;
    let liveness = settled.and(world.exhaust().await);
    rehearsal::replace_by_none(&world, &replaceable).await;
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
        calls: world.proxy.take_calls().values().sum(),
        duration: world.recorder.now(),
    }
}
