//! The accounts of CSP, and its faults.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use sandbox_broker::csp::simulator::SimulatedAccount;
use tokio::time::sleep;

use super::{csp_faults, event::EventKind, filled_pool, pools, world::World};

/// Thresholds of available accounts below which CSP creates more. They vary so that the pool is sometimes empty.
const LOW: [usize; 6] = [0, 0, 5, 20, 40, 60];
/// Number of newest accounts, which are likely to be in the pool still.
const NEWEST: usize = 15;

/// Creates accounts when the pool runs low, hides, shows and renames some, and injects faults of CSP.
pub(super) async fn csp(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut hidden = BTreeSet::new();
    let mut low = 8;
    let mut broken = None;
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(5..40))).await;
        record_deletions(&world);
        pools::record_orders(&world);
        let mut accounts = world.simulator.accounts();
        let waiting = accounts.len().saturating_sub(hidden.len());
        accounts.retain(|account| !filled_pool::is_of_pool(&account.name));
        match rng.random_range(0..24) {
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
            8 => {
                let (faults, is_broken) = csp_faults::of_lists_and_deletions(&mut rng);
                end_faults(&world, &mut broken);
                broken = is_broken.then(|| world.recorder.now());
                world.simulator.inject(faults);
            }
            9..11 => end_faults(&world, &mut broken),
            11..13 => {
                let faults = csp_faults::of_creations_and_checks(&mut rng);
                end_faults(&world, &mut broken);
                world.simulator.inject(faults);
            }
            _ => {}
        }
        // The threshold is on top of the used accounts.
        if waiting < world.used_accounts() + low {
            low = *LOW.choose(&mut rng).unwrap();
            create_accounts(&world, rng.random_range(4..24));
        }
    }
    end_faults(&world, &mut broken);
}

/// Ends the faults of CSP. Lists that left an account out `since` a moment are recorded.
fn end_faults(world: &World, since: &mut Option<Duration>) {
    world.simulator.inject([]);
    if let Some(since) = since.take() {
        world.recorder.record(since, EventKind::ListsBroken);
    }
}

/// Hides, shows and renames accounts whose sandboxes are available, with a sync after each step. In a short history on a
/// slow engine this may not have happened by itself.
pub(super) async fn hide_and_rename(world: &World) {
    add_sandboxes(world).await;
    let accounts = world.simulator.accounts();
    let newest = accounts.iter().rev().take(2).map(|account| account.csp_id);
    newest.clone().for_each(|csp_id| hide(world, csp_id));
    world.complete_job("sync").await;
    newest.clone().for_each(|csp_id| show(world, csp_id));
    world.complete_job("sync").await;
    newest.for_each(|csp_id| rename(world, csp_id, 10));
    world.complete_job("sync").await;
}

/// Adds accounts, and makes their sandboxes available.
pub(super) async fn add_sandboxes(world: &World) {
    create_accounts(world, 8);
    for job in ["sync", "check"] {
        world.complete_job(job).await;
    }
}

fn hide(world: &World, csp_id: u64) {
    let began = world.recorder.now();
    world.simulator.hide(csp_id, true);
    let sandbox = csp_id.to_string();
    world
        .recorder
        .record(began, EventKind::AccountHidden { sandbox });
}

fn show(world: &World, csp_id: u64) {
    let began = world.recorder.now();
    world.simulator.hide(csp_id, false);
    let sandbox = csp_id.to_string();
    world
        .recorder
        .record(began, EventKind::AccountShown { sandbox });
}

fn rename(world: &World, csp_id: u64, number: u32) {
    let began = world.recorder.now();
    let sandbox = csp_id.to_string();
    let name = format!("renamed-{number}-{sandbox}");
    if world.simulator.rename(csp_id, &name) {
        world
            .recorder
            .record(began, EventKind::AccountRenamed { sandbox, name });
    }
}

pub(super) fn some<'a>(
    accounts: &'a [SimulatedAccount],
    rng: &mut SmallRng,
) -> Option<&'a SimulatedAccount> {
    let newest = accounts.len().saturating_sub(NEWEST);
    let from = if rng.random_bool(0.7) { newest } else { 0 };
    accounts[from..].choose(rng)
}

fn create_accounts(world: &World, count: u64) {
    let began = world.recorder.now();
    world.simulator.add_accounts(count).unwrap();
    let accounts = world.simulator.accounts();
    for account in &accounts[accounts.len() - usize::try_from(count).unwrap()..] {
        let kind = EventKind::AccountCreated {
            sandbox: account.csp_id.to_string(),
            name: account.name.clone(),
            external_id: account.id.clone(),
        };
        world.recorder.record(began, kind);
    }
}

/// Records the deletions of accounts at the moments at which CSP received them.
pub(super) fn record_deletions(world: &World) {
    for (at, external_id) in world.simulator.take_deletion_requests() {
        world
            .recorder
            .record_at(at, EventKind::AccountDeleted { external_id });
    }
}
