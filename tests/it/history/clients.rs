//! Clients that allocate, release and read at random, retry, and time out.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use super::{
    calls::TIMEOUT,
    event::{AllocateAnswer, ReleaseAnswer},
    memories::CALLERS,
    world::World,
};

const KEYS: usize = 3;
const PREFIXES: [&str; 5] = ["lab-", "demo-", "cloud-", "core-", "renamed-"];
/// Short enough that clients disconnect while the broker works.
const SHORT_TIMEOUT: Duration = Duration::from_millis(8);

fn caller(number: usize) -> String {
    format!("play-{number}")
}

/// Runs a client until the epoch is over.
pub(super) async fn act(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        let number = rng.random_range(0..CALLERS);
        match rng.random_range(0..100) {
            0..50 => allocate(&world, number, &mut rng).await,
            50..80 => release(&world, number, &mut rng).await,
            _ => get(&world, number, &mut rng).await,
        }
    }
}

async fn allocate(world: &World, number: usize, rng: &mut SmallRng) {
    let (caller, key) = (caller(number), format!("key-{}", rng.random_range(0..KEYS)));
    let pair = (caller.as_str(), key.as_str());
    let prefix = PREFIXES
        .choose(rng)
        .copied()
        .filter(|_| rng.random_bool(0.3));
    let broker = rng.random_range(0..2);
    let timeout = if rng.random_bool(0.05) {
        SHORT_TIMEOUT
    } else {
        TIMEOUT
    };
    let mut answers = vec![world.allocate(broker, pair, prefix, timeout).await];
    let is_unknown = matches!(answers[0], AllocateAnswer::Unknown(_));
    if rng.random_bool(if is_unknown { 0.8 } else { 0.15 }) {
        let other = if rng.random_bool(0.6) {
            1 - broker
        } else {
            broker
        };
        let retry = world.allocate(other, pair, prefix, TIMEOUT);
        if rng.random_bool(0.4) {
            let another = world.allocate(1 - other, pair, prefix, TIMEOUT);
            answers.extend(<[_; 2]>::from(tokio::join!(retry, another)));
        } else {
            answers.push(retry.await);
        }
    }
    for answer in &answers {
        if let AllocateAnswer::New(grant) | AllocateAnswer::Replayed(grant) = answer {
            world.memories.remember(number, &grant.sandbox);
        }
    }
    if is_unknown {
        // A broker that is down refuses connections at once; this avoids a busy loop.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn release(world: &World, number: usize, rng: &mut SmallRng) {
    let Some(sandbox) = world.memories.some_of(number, rng) else {
        return;
    };
    let by = if rng.random_bool(0.15) {
        rng.random_range(0..CALLERS)
    } else {
        number
    };
    let caller = caller(by);
    let broker = rng.random_range(0..2);
    let timeout = if rng.random_bool(0.05) {
        SHORT_TIMEOUT
    } else {
        TIMEOUT
    };
    let answer = world.release(broker, &sandbox, &caller, timeout).await;
    if matches!(answer, ReleaseAnswer::Unknown(_)) || rng.random_bool(0.15) {
        world.release(1 - broker, &sandbox, &caller, TIMEOUT).await;
    }
}

async fn get(world: &World, number: usize, rng: &mut SmallRng) {
    let Some(sandbox) = world.memories.some_of(number, rng) else {
        return;
    };
    let by = if rng.random_bool(0.2) {
        rng.random_range(0..CALLERS)
    } else {
        number
    };
    let broker = rng.random_range(0..2);
    world.get(broker, &sandbox, &caller(by)).await;
}

/// Repeats every call whose outcome is unknown. No fault is injected any more.
pub(super) async fn repeat_unanswered(world: &World) {
    let unknown = std::mem::take(&mut *world.memories.unknown.lock().unwrap());
    for (at, (caller, key)) in unknown.iter().enumerate() {
        world.allocate(at % 2, (caller, key), None, TIMEOUT).await;
    }
    let unreleased = std::mem::take(&mut *world.memories.unreleased.lock().unwrap());
    for (at, (caller, sandbox)) in unreleased.iter().enumerate() {
        world.release(at % 2, sandbox, caller, TIMEOUT).await;
    }
}

/// New callers allocate until none is left; returns how many got a sandbox.
pub(super) async fn drain(world: &World) -> usize {
    let (mut allocated, mut refused, mut number) = (0, 0, 0);
    while refused < 4 {
        number += 1;
        let caller = format!("late-{number}");
        let answer = world
            .allocate(number % 2, (&caller, &caller), None, TIMEOUT)
            .await;
        match answer {
            AllocateAnswer::New(_) => (allocated, refused) = (allocated + 1, 0),
            _ => refused += 1,
        }
    }
    allocated
}
