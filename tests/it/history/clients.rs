//! Clients that allocate, release and read at random, retry, and time out.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use super::{
    calls::{TIMEOUT, Wanted},
    event::{AllocateAnswer, ExtendAnswer, ReleaseAnswer, ReplaceAnswer},
    filled_pool::POOL,
    memories::{CALLERS, Remembered},
    world::World,
};

const KEYS: usize = 3;
const PREFIXES: [&str; 6] = ["lab-", "demo-", "cloud-", "core-", "renamed-", POOL];
/// Requested durations, and extensions.
const MINUTES: [i64; 5] = [1, 30, 90, 200, 600];
/// Short enough that clients disconnect while the broker works.
const SHORT_TIMEOUT: Duration = Duration::from_millis(8);

fn caller(number: usize) -> String {
    format!("play-{number}")
}

fn some_timeout(rng: &mut SmallRng) -> Duration {
    if rng.random_bool(0.05) {
        SHORT_TIMEOUT
    } else {
        TIMEOUT
    }
}

/// Runs a client until the epoch is over.
pub(super) async fn act(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        let number = rng.random_range(0..CALLERS);
        match rng.random_range(0..100) {
            0..45 => allocate(&world, number, &mut rng).await,
            45..70 => release(&world, number, &mut rng).await,
            70..79 => extend(&world, number, &mut rng).await,
            79..86 => replace(&world, number, &mut rng).await,
            _ => get(&world, number, &mut rng).await,
        }
    }
}

async fn allocate(world: &World, number: usize, rng: &mut SmallRng) {
    let (caller, key) = (caller(number), format!("key-{}", rng.random_range(0..KEYS)));
    let pair = (caller.as_str(), key.as_str());
    let prefix = PREFIXES.choose(rng).copied();
    let minutes = MINUTES.choose(rng).copied();
    let wanted = Wanted {
        prefix: prefix.filter(|_| rng.random_bool(0.3)),
        minutes: minutes.filter(|_| rng.random_bool(0.2)),
    };
    let broker = rng.random_range(0..2);
    let timeout = some_timeout(rng);
    let mut answers = vec![world.allocate(broker, pair, wanted, timeout).await];
    let is_unknown = matches!(answers[0], AllocateAnswer::Unknown(_));
    if rng.random_bool(if is_unknown { 0.8 } else { 0.15 }) {
        let other = if rng.random_bool(0.6) {
            1 - broker
        } else {
            broker
        };
        let retry = world.allocate(other, pair, wanted, TIMEOUT);
        if rng.random_bool(0.4) {
            let another = world.allocate(1 - other, pair, wanted, TIMEOUT);
            answers.extend(<[_; 2]>::from(tokio::join!(retry, another)));
        } else {
            answers.push(retry.await);
        }
    }
    for answer in &answers {
        if let AllocateAnswer::New(grant) | AllocateAnswer::Replayed(grant) = answer {
            world.memories.remember(number, grant, &key);
        }
    }
    if is_unknown {
        // A broker that is down refuses connections at once; this avoids a busy loop.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn release(world: &World, number: usize, rng: &mut SmallRng) {
    let Some(Remembered { sandbox, .. }) = world.memories.some_of(number, rng) else {
        return;
    };
    let by = if rng.random_bool(0.15) {
        rng.random_range(0..CALLERS)
    } else {
        number
    };
    let caller = caller(by);
    let broker = rng.random_range(0..2);
    let timeout = some_timeout(rng);
    let answer = world.release(broker, &sandbox, &caller, timeout).await;
    if matches!(answer, ReleaseAnswer::Unknown(_)) || rng.random_bool(0.15) {
        world.release(1 - broker, &sandbox, &caller, TIMEOUT).await;
    }
}

async fn extend(world: &World, number: usize, rng: &mut SmallRng) {
    let Some(Remembered { sandbox, .. }) = world.memories.likely_held_by(number, rng) else {
        return;
    };
    let by = if rng.random_bool(0.1) {
        rng.random_range(0..CALLERS)
    } else {
        number
    };
    let caller = caller(by);
    let broker = rng.random_range(0..2);
    let minutes = *MINUTES.choose(rng).unwrap();
    let first = world.extend(broker, &sandbox, &caller, minutes, some_timeout(rng));
    if rng.random_bool(0.3) {
        // Another extension of the same allocation, on the other broker.
        let minutes = *MINUTES.choose(rng).unwrap();
        let second = world.extend(1 - broker, &sandbox, &caller, minutes, TIMEOUT);
        tokio::join!(first, second);
    } else if let ExtendAnswer::Unknown(_) = first.await {
        let other = 1 - broker;
        world
            .extend(other, &sandbox, &caller, minutes, TIMEOUT)
            .await;
    }
}

async fn replace(world: &World, number: usize, rng: &mut SmallRng) {
    let Some(Remembered { sandbox, key, .. }) = world.memories.likely_held_by(number, rng) else {
        return;
    };
    let by = if rng.random_bool(0.1) {
        rng.random_range(0..CALLERS)
    } else {
        number
    };
    let caller = caller(by);
    let pair = (caller.as_str(), key.as_str());
    let broker = rng.random_range(0..2);
    let first = world.replace(broker, &sandbox, pair, some_timeout(rng));
    let again = world.replace(1 - broker, &sandbox, pair, TIMEOUT);
    let answers = if rng.random_bool(0.3) {
        <[_; 2]>::from(tokio::join!(first, again)).to_vec()
    } else {
        let first = first.await;
        let is_unknown = matches!(first, ReplaceAnswer::Unknown(_));
        if rng.random_bool(if is_unknown { 0.8 } else { 0.3 }) {
            vec![first, again.await]
        } else {
            vec![first]
        }
    };
    for answer in &answers {
        if let ReplaceAnswer::New(grant) | ReplaceAnswer::Current(grant) = answer {
            world.memories.remember(by, grant, &key);
        }
    }
}

async fn get(world: &World, number: usize, rng: &mut SmallRng) {
    let Some(Remembered { sandbox, .. }) = world.memories.some_of(number, rng) else {
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
    let unreplaced = std::mem::take(&mut *world.memories.unreplaced.lock().unwrap());
    for (at, (caller, key, sandbox)) in unreplaced.iter().enumerate() {
        let pair = (caller.as_str(), key.as_str());
        world.replace(at % 2, sandbox, pair, TIMEOUT).await;
    }
    let unknown = std::mem::take(&mut *world.memories.unknown.lock().unwrap());
    for (at, (caller, key)) in unknown.iter().enumerate() {
        let pair = (caller.as_str(), key.as_str());
        world
            .allocate(at % 2, pair, Wanted::default(), TIMEOUT)
            .await;
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
            .allocate(number % 2, (&caller, &caller), Wanted::default(), TIMEOUT)
            .await;
        match answer {
            AllocateAnswer::New(_) => (allocated, refused) = (allocated + 1, 0),
            _ => refused += 1,
        }
    }
    allocated
}
