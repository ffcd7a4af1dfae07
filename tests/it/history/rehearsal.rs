//! Extensions, replacements and a quota in the calm phase, each with every answer. In a short history on a slow engine this
//! may not have happened by itself.

use super::{
    calls::{TIMEOUT, Wanted},
    event::{AllocateAnswer, ExtendAnswer, Grant, ReplaceAnswer},
    labs::QUOTA_OF_CALM,
    world::World,
};

/// A caller of the calm phase, whose key is its id.
fn caller(number: usize) -> String {
    format!("calm-{number}")
}

async fn allocate(world: &World, number: usize) -> AllocateAnswer {
    let caller = caller(number);
    let pair = (caller.as_str(), caller.as_str());
    world
        .allocate(number % 2, pair, Wanted::default(), TIMEOUT)
        .await
}

async fn replace(world: &World, number: usize, old: &Grant) -> ReplaceAnswer {
    let caller = caller(number);
    let pair = (caller.as_str(), caller.as_str());
    world.replace(number % 2, &old.sandbox, pair, TIMEOUT).await
}

async fn extend(world: &World, number: usize, grant: &Grant, minutes: i64) -> ExtendAnswer {
    let (sandbox, caller) = (&grant.sandbox, caller(number));
    world
        .extend(number % 2, sandbox, &caller, minutes, TIMEOUT)
        .await
}

/// Fills a lab to its quota, extends and replaces. Returns the sandbox of a caller that has not replaced its own, so that a
/// replacement without a candidate can follow.
pub(super) async fn lease_in_each_way(world: &World) -> Grant {
    let mut held = Vec::new();
    for number in 0..QUOTA_OF_CALM {
        match allocate(world, number).await {
            AllocateAnswer::New(grant) => held.push(grant),
            other => panic!("no sandbox in the calm phase: {other:?}"),
        }
    }
    let full = allocate(world, QUOTA_OF_CALM).await;
    assert_eq!(full, AllocateAnswer::LabFull);
    let first = held.remove(0);
    // Not before a minute from now is met already. A month is more than any lab permits.
    let month = 30 * 24 * 60;
    let at_most = extend(world, 0, &first, month).await;
    assert!(matches!(at_most, ExtendAnswer::Done { .. }), "{at_most:?}");
    let no_more = extend(world, 0, &first, month).await;
    assert_eq!(no_more, ExtendAnswer::Limit);
    let same = extend(world, 0, &first, 1).await;
    assert_eq!(same, at_most);
    let ReplaceAnswer::New(second) = replace(world, 0, &first).await else {
        panic!("no replacement in the calm phase");
    };
    let current = replace(world, 0, &first).await;
    assert_eq!(current, ReplaceAnswer::Current(second.clone()));
    let limit = replace(world, 0, &second).await;
    assert_eq!(limit, ReplaceAnswer::Limit);
    let full = allocate(world, QUOTA_OF_CALM).await;
    assert_eq!(full, AllocateAnswer::LabFull);
    world.release(0, &first.sandbox, &caller(0), TIMEOUT).await;
    held.remove(0)
}

/// Asks for a replacement when no sandbox is left.
pub(super) async fn replace_by_none(world: &World, old: &Grant) {
    let refused = replace(world, QUOTA_OF_CALM - 1, old).await;
    assert_eq!(refused, ReplaceAnswer::NoneLeft);
}
