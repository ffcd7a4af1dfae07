//! The pool that refill fills: its accounts, its jobs, and its state in the calm phase.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use sandbox_broker::csp::simulator::{AccountDelays, Call, Fault, FaultKind, Settings, Simulator};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    event::{EventKind, Row},
    pool,
    world::World,
};

/// The name prefix of the pool.
pub(super) const POOL: &str = "fill-";
/// Its targets.
const TARGETS: [usize; 3] = [2, 4, 6];
const MAX_TOTAL: usize = 400;
/// The first account never gets usable, and every so many later.
const UNUSABLE_EVERY: usize = 5;
/// More than an epoch creates.
const LAST_NUMBER: usize = 2000;
const LISTED_AFTER: Duration = Duration::from_millis(200);
const USABLE_AFTER: Duration = Duration::from_millis(400);
/// How long a run waits for requests of an earlier one: longer than the 5 s for the write before a request and the request,
/// which takes less than a second here.
pub(super) const SETTLE: Duration = Duration::from_secs(6);
/// The runs of the jobs in the calm phase, at most.
const ROUNDS: usize = 20;

/// Returns a pool of a policy, with some target.
pub(super) fn some_pool(rng: &mut SmallRng) -> (usize, Value) {
    let target = *TARGETS.choose(rng).unwrap();
    let entry = json!({
        "name_prefix": POOL,
        "target_available": target,
        "max_total": MAX_TOTAL,
        "create": { "description": "history" },
    });
    (target, entry)
}

fn is_usable(name: &str) -> bool {
    let number = name
        .rsplit('r')
        .next()
        .and_then(|number| number.parse::<usize>().ok());
    number.is_none_or(|number| number % UNUSABLE_EVERY != 1)
}

/// Returns whether the account is one of the pool. Nobody hides or renames one before refill knows that it exists.
pub(super) fn is_of_pool(name: &str) -> bool {
    name.starts_with(POOL)
}

/// Lets new accounts be listed and usable late, and some never usable.
pub(super) fn configure(simulator: &Simulator) {
    let unusable = (1..LAST_NUMBER).step_by(UNUSABLE_EVERY);
    simulator.configure(Settings {
        listing_delay: LISTED_AFTER,
        usable_delay: USABLE_AFTER,
        accounts: vec![AccountDelays {
            names: unusable
                .map(|number| format!("{POOL}r{number:06}"))
                .collect(),
            usable_delay: Some(Duration::from_hours(24 * 365)),
            ..AccountDelays::default()
        }],
        ..Settings::default()
    });
}

/// Records the accounts that brokers have ordered since the last call.
pub(super) fn record_orders(world: &World) {
    let mut recorded = world.orders.lock().unwrap();
    let (count, since) = *recorded;
    let now = world.recorder.now();
    let all = world.simulator.created_accounts();
    for account in &all[count..] {
        let kind = EventKind::AccountOrdered {
            sandbox: account.csp_id.to_string(),
            name: account.request.name.clone(),
            external_id: account.id.clone(),
            is_usable: is_usable(&account.request.name),
        };
        world.recorder.record(since, kind);
    }
    *recorded = (all.len(), now);
}

/// Starts a job of the pool again and again on one broker. A run of refill may wait for the settle time, so no other job
/// waits for it.
pub(super) async fn job(world: Arc<World>, job: &str, broker: usize, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        if world.brokers[broker].is_up() {
            world.job(broker, job).await;
        }
        sleep(Duration::from_millis(rng.random_range(5..60))).await;
    }
}

/// Lets an account be created without an answer, in place of a sandbox that an operator deletes. In a short history this
/// may not have happened by itself.
async fn lose_an_answer(world: &World) {
    let table = pool::table(&world.pool).await;
    if let Some(row) = available(&table).next() {
        let reason = json!({ "reason": "history" });
        world.act(0, &row.sandbox, "delete", &reason).await;
    }
    world.simulator.inject([Fault {
        on: Call::Create,
        times: Some(1),
        ..Fault::always(FaultKind::LostAnswer { code: 502 })
    }]);
}

/// Runs the jobs until every creation has ended, every new sandbox is judged, and the pool is at its target. No fault is
/// injected any more.
pub(super) async fn settle(world: &World) -> Result<(), String> {
    let target = world.policy(0, "policy").await.unwrap();
    let target = target["policy"]["pool"][0]["target_available"].as_u64();
    let target = usize::try_from(target.expect("the policy has a pool")).unwrap();
    lose_an_answer(world).await;
    let mut counts = (0, 0);
    for _ in 0..ROUNDS {
        for job in ["refill", "sync", "check"] {
            world.complete_job(job).await;
        }
        record_orders(world);
        let began = world.recorder.now();
        let open = pool::open_creations(&world.pool, POOL).await;
        let table = pool::table(&world.pool).await;
        let provisioning = rows(&table)
            .iter()
            .filter(|row| row.status == "provisioning");
        counts = (provisioning.count(), available(&table).count());
        let is_settled = open.is_empty() && counts.0 == 0 && counts.1 >= target;
        world.recorder.record(began, table);
        if is_settled {
            world.recorder.record(began, EventKind::Creations { open });
            return Ok(());
        }
        // A new sandbox is checked once a minute, and an account that no sync lists is looked for after an hour.
        world.advance(Duration::from_mins(10));
        sleep(USABLE_AFTER / 4).await;
    }
    let began = world.recorder.now();
    let open = pool::open_creations(&world.pool, POOL).await;
    let (provisioning, available) = counts;
    let fault = format!(
        "of {target} wanted sandboxes {available} are available and {provisioning} provisioning; open: {open:?}"
    );
    world.recorder.record(began, EventKind::Creations { open });
    Err(fault)
}

fn rows(table: &EventKind) -> &[Row] {
    match table {
        EventKind::Table { sandboxes, .. } => sandboxes,
        _ => unreachable!("it is a table"),
    }
}

/// Returns the available sandboxes of the pool.
fn available(table: &EventKind) -> impl Iterator<Item = &Row> {
    let is_available = |row: &&Row| row.status == "available" && is_of_pool(&row.name);
    rows(table).iter().filter(is_available)
}
