//! Extensions by holders of a sandbox that another writer changes between their read and their write.

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::FutureExt;
use sandbox_broker::{
    domain::{Bounds, ExtensionOrder, ExtensionRefusal, LeaseTerms, Policy, Sandbox},
    store::Decided,
};

use super::{
    actions::stored_claim,
    allocation::claim_key,
    stage::{HOUR, Outcome, Scenario, Stage, TERMS, caller, id, must, number, scenario, text},
};
use crate::support::START;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("only an allocation that is held is extended", |stage| {
            released(stage).boxed()
        }),
        scenario("an allocation of another caller is not extended", |stage| {
            others(stage).boxed()
        }),
        scenario("an extension is that of the allocation as it is", |stage| {
            another(stage).boxed()
        }),
        scenario("an extension moves no end to an earlier time", |stage| {
            later(stage).boxed()
        }),
        scenario("of two extensions each counts", |stage| {
            counted(stage).boxed()
        }),
        scenario("a claim that points elsewhere keeps its end", |stage| {
            elsewhere(stage).boxed()
        }),
    ]
}

/// Extends the sandbox `first` for `play` to `hours` after `START`, while another writer sets `attributes` between its
/// read and its write.
async fn meanwhile(
    stage: &Stage,
    hours: u32,
    attributes: &[(&str, Option<AttributeValue>)],
) -> Decided<ExtensionRefusal> {
    let policy = Policy::of_environment(LeaseTerms {
        lab_duration_hours: 24,
        ..TERMS
    });
    let (id, caller) = (id("first"), caller("play"));
    let order = ExtensionOrder {
        caller: &caller,
        bounds: &Bounds::default(),
        end: START + HOUR * hours,
        policy: &policy,
        grace: TERMS.grace,
    };
    let gate = stage.proxy.hold_operation("TransactWriteItems");
    let changing = async {
        gate.wait_for_one().await;
        stage.rewrite_sandbox("first", attributes).await;
        gate.open();
    };
    let (outcome, ()) = tokio::join!(stage.store.extend(&id, &order, START + HOUR), changing);
    outcome.unwrap()
}

async fn stored(stage: &Stage) -> Sandbox {
    stage.sandbox("first").await.unwrap()
}

async fn released(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let released = [("status", Some(text("pending_deletion")))];
    let outcome = meanwhile(&stage, 6, &released).await;
    let ended = ExtensionRefusal::Ended { replaced_by: None };
    let is_refused = outcome == Decided::Refused(ended);
    must(is_refused, &format!("it had been released: {outcome:?}"))
}

async fn others(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let other = [("allocated_to_track", Some(text("another")))];
    let outcome = meanwhile(&stage, 6, &other).await;
    let is_refused = outcome == Decided::Refused(ExtensionRefusal::NotOwner);
    must(is_refused, &format!("another caller held it: {outcome:?}"))
}

async fn another(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let start = START + HOUR / 60;
    let again = [("allocated_at", Some(number(start.0)))];
    let outcome = meanwhile(&stage, 6, &again).await;
    let is_of_it = matches!(&outcome, Decided::Done(sandbox) if sandbox.allocated_at == start);
    must(is_of_it, &format!("it was another allocation: {outcome:?}"))
}

async fn later(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let end = START + HOUR * 8;
    let later = [("expires_at", Some(number(end.0)))];
    let outcome = meanwhile(&stage, 6, &later).await;
    let is_kept = stored(&stage).await.expires_at == Some(end);
    must(is_kept, &format!("its end moved back: {outcome:?}"))?;
    let is_unchanged = matches!(&outcome, Decided::Refused(ExtensionRefusal::EndsLater(sandbox)) if sandbox.expires_at == Some(end));
    must(is_unchanged, &format!("it ends later: {outcome:?}"))
}

async fn counted(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let extended = [
        ("expires_at", Some(number((START + HOUR * 5).0))),
        ("extensions", Some(number(1))),
    ];
    let outcome = meanwhile(&stage, 6, &extended).await;
    let sandbox = stored(&stage).await;
    let is_right = sandbox.expires_at == Some(START + HOUR * 6) && sandbox.lease.extensions == 2;
    must(is_right, &format!("one was not counted: {outcome:?}"))
}

async fn elsewhere(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let key = claim_key(&stage).await;
    let original = [
        ("sandbox_id", Some(text("first"))),
        ("allocated_at", Some(number(START.0))),
    ];
    for (hours, attribute) in [
        (5, ("sandbox_id", Some(text("another")))),
        (6, ("allocated_at", Some(number(START.0 - 60)))),
    ] {
        stage.rewrite_companion(key.clone(), &original).await;
        stage.rewrite_companion(key.clone(), &[attribute]).await;
        let before = stored_claim(&stage).await;
        meanwhile(&stage, hours, &[]).await;
        let is_kept = stored_claim(&stage).await == before;
        must(is_kept, "a claim of another allocation was changed")?;
    }
    Ok(())
}
