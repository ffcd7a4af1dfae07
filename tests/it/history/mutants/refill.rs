//! Creations of accounts that are written with outdated knowledge, or by a run that lost its lease.

use futures_util::FutureExt;
use sandbox_broker::{
    domain::{
        Closing, Creation, CreationOutcome, CreationState, JobName, NamePrefix, RefillStop, RunId,
    },
    store::{Acquired, CreationStep, Fence, RefillItems, StoreError},
};

use super::stage::{HOUR, Outcome, Scenario, Stage, must, number, scenario, text};
use crate::support::{START, key};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("an intention overwrites no other one", |stage| {
            intended(stage).boxed()
        }),
        scenario(
            "the number of a closed creation is not used again",
            |stage| reused(stage).boxed(),
        ),
        scenario(
            "a creation makes a step from the state that was read",
            |stage| stepped(stage).boxed(),
        ),
        scenario(
            "an answer belongs to the attempt that it answers",
            |stage| answered(stage).boxed(),
        ),
        scenario("a run without its lease changes no creation", |stage| {
            superseded(stage).boxed()
        }),
    ]
}

fn prefix() -> NamePrefix {
    NamePrefix::parse("lab").unwrap()
}

async fn fence(stage: &Stage, run: u32) -> Fence {
    let at = START + HOUR * run;
    let run = RunId::new(JobName::Refill, at, run);
    let acquired = stage.pool.store.acquire_lease(&run, "test", None, at).await;
    match acquired.unwrap() {
        Acquired::Granted { fence, .. } => fence,
        other => panic!("{other:?}"),
    }
}

fn creation(number: u64) -> Creation {
    Creation::intended(&prefix(), number, START)
}

async fn items(stage: &Stage) -> RefillItems {
    stage.pool.store.refill_items(&prefix()).await.unwrap()
}

async fn intend(stage: &Stage, fence: &Fence, creation: &Creation) -> bool {
    let intended = stage.store.intend(fence, &prefix(), creation).await;
    intended.unwrap()
}

async fn step(stage: &Stage, fence: &Fence, creation: &Creation, step: &CreationStep) -> bool {
    let made = stage
        .store
        .step(fence, &prefix(), creation, step, START)
        .await;
    made.unwrap()
}

fn created(id: &str) -> CreationStep {
    CreationStep::Created {
        external_id: format!("identity/accounts/{id}"),
    }
}

fn listed() -> CreationStep {
    CreationStep::Listed {
        external_id: "identity/accounts/listed".to_owned(),
    }
}

fn refused() -> CreationStep {
    CreationStep::Refused(RefillStop::new("quota".to_owned(), START, 1))
}

fn closed() -> CreationStep {
    CreationStep::Closed(Closing {
        number: 5,
        outcome: CreationOutcome::Dropped,
        available_at: None,
    })
}

async fn intended(stage: Stage) -> Outcome {
    let fence = fence(&stage, 1).await;
    assert!(intend(&stage, &fence, &creation(5)).await);
    assert!(step(&stage, &fence, &creation(5), &CreationStep::Attempt).await);
    // An operator has removed the state of the pool.
    let delete = stage.pool.client.delete_item();
    let delete = delete.table_name(&stage.pool.companion);
    let delete = delete.set_key(Some(key("REFILL#lab", "POOL")));
    delete.send().await.unwrap();
    must(
        !intend(&stage, &fence, &creation(5)).await,
        "intended twice",
    )?;
    let found = items(&stage).await.creations[0].state;
    must(
        found == CreationState::Attempted,
        "a creation was overwritten",
    )
}

async fn reused(stage: Stage) -> Outcome {
    let fence = fence(&stage, 1).await;
    assert!(intend(&stage, &fence, &creation(5)).await);
    assert!(step(&stage, &fence, &creation(5), &closed()).await);
    for number in [5, 4] {
        let again = intend(&stage, &fence, &creation(number)).await;
        must(!again, "a name was used twice")?;
    }
    assert!(intend(&stage, &fence, &creation(6)).await);
    must(items(&stage).await.state.last_number == 6, "not counted")
}

/// Makes the creation be in the state `to` after so many attempts.
async fn rewrite(stage: &Stage, to: CreationState, attempts: i64) {
    let key = key("REFILL#lab", "CREATE#0000000005");
    let attributes = [
        ("state", Some(text(to.as_str()))),
        ("attempts", Some(number(attempts))),
        ("name", Some(text("lab-r000005"))),
        ("intended_at", Some(number(START.0))),
    ];
    stage.rewrite_companion(key, &attributes).await;
}

/// The steps, and the states from which they are made.
fn steps() -> Vec<(CreationState, CreationStep)> {
    use CreationState::{Attempted, Created, Intended, Listed};
    let mut steps = vec![
        (Intended, CreationStep::Attempt),
        (Attempted, CreationStep::Attempt),
        (Attempted, refused()),
        (Attempted, CreationStep::NotCreated),
        (Intended, created("a")),
        (Attempted, created("a")),
        (Created, CreationStep::LookedUp),
        (Intended, listed()),
        (Attempted, listed()),
        (Created, listed()),
    ];
    steps.extend([Intended, Attempted, Created, Listed].map(|state| (state, closed())));
    steps
}

/// Writes each step over a creation that another writer has left as `found(state)` since it was read in `state` after one
/// attempt.
async fn outdated(stage: &Stage, found: impl Fn(CreationState) -> (CreationState, i64)) -> Outcome {
    let fence = fence(stage, 1).await;
    for (from, to) in steps() {
        let read = Creation {
            state: from,
            attempts: 1,
            ..creation(5)
        };
        let (other, attempts) = found(from);
        rewrite(stage, other, attempts).await;
        let before = items(stage).await;
        must(
            !step(stage, &fence, &read, &to).await,
            "an outdated step was made",
        )?;
        must(items(stage).await == before, "an outdated step was made")?;
        rewrite(stage, from, 1).await;
        assert!(step(stage, &fence, &read, &to).await, "{to:?}");
    }
    Ok(())
}

async fn stepped(stage: Stage) -> Outcome {
    let other = |from| match from {
        CreationState::Listed => (CreationState::Created, 1),
        _ => (CreationState::Listed, 1),
    };
    outdated(&stage, other).await
}

async fn answered(stage: Stage) -> Outcome {
    outdated(&stage, |from| (from, 2)).await
}

async fn superseded(stage: Stage) -> Outcome {
    let old = fence(&stage, 1).await;
    assert!(intend(&stage, &old, &creation(5)).await);
    fence(&stage, 2).await;
    let before = items(&stage).await;
    let (prefix, store) = (prefix(), &stage.store);
    let read = creation(5);
    let stop = RefillStop::new("quota".to_owned(), START, 1);
    let since = Some(START);
    for refused in [
        store.intend(&old, &prefix, &creation(6)).await.map(drop),
        store
            .step(&old, &prefix, &read, &CreationStep::Attempt, START)
            .await
            .map(drop),
        store
            .step(&old, &prefix, &read, &closed(), START)
            .await
            .map(drop),
        store.stop_refill(&old, &prefix, &stop).await,
        store.end_refill_stop(&old, &prefix).await,
        store.record_below_since(&old, &prefix, since).await,
    ] {
        must(
            matches!(refused, Err(StoreError::Superseded)),
            "a run without its lease wrote",
        )?;
    }
    must(
        items(&stage).await == before,
        "a run without its lease wrote",
    )
}
