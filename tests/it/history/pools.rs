//! The jobs of the pool that refill fills, and its state in the calm phase.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use sandbox_broker::csp::simulator::{Call, Fault, FaultKind};
use serde_json::json;
use tokio::time::sleep;

use super::{
    event::{EventKind, Row},
    filled_pool::{POOL, USABLE_AFTER, is_of_pool, is_usable},
    pool,
    world::World,
};

/// The runs of the jobs in the calm phase, at most.
const ROUNDS: usize = 20;

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
        sleep(Duration::from_millis(rng.random_range(500..2000))).await;
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
