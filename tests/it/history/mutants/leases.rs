//! Job runs that overlap, and migrations of tables without claims.

use futures_util::FutureExt;
use sandbox_broker::{
    clock::UnixSeconds,
    domain::{CspState, JobName, RunId, RunRecord, RunState},
    store::{Acquired, Fence, RunEnd, RunOutcome, StoreError, tombstone_key},
};

use super::stage::{
    HOUR, Outcome, Scenario, Stage, TERMS, caller, holder, id, must, number, scenario, text,
};
use crate::support::{START, key, proxy::Call};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("a job has one run at a time", |stage| once(stage).boxed()),
        scenario("a job that is not due gets no lease", |stage| {
            due(stage).boxed()
        }),
        scenario(
            "a lease is renewed and released by its holder only",
            |stage| renewed(stage).boxed(),
        ),
        scenario("the record of a finished run is not overwritten", |stage| {
            recorded(stage).boxed()
        }),
        scenario(
            "the state of CSP is written only over the version that was read",
            |stage| versioned(stage).boxed(),
        ),
        scenario("a released lease is not broken", |stage| {
            broken(stage).boxed()
        }),
        scenario("a migration overwrites no claim", |stage| {
            migrated(stage).boxed()
        }),
        scenario("a migration overwrites no newer tombstone", |stage| {
            moved(stage).boxed()
        }),
        scenario(
            "a migration overwrites no claim that got another sandbox meanwhile",
            |stage| meanwhile(stage, "another", START).boxed(),
        ),
        scenario(
            "a migration overwrites no claim that got another allocation meanwhile",
            |stage| meanwhile(stage, "first", START + HOUR).boxed(),
        ),
    ]
}

fn run(number: u32) -> RunId {
    RunId::new(JobName::Sync, START, number)
}

async fn acquire(
    stage: &Stage,
    number: u32,
    since: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Acquired {
    let run = run(number);
    let acquired = stage.store.acquire_lease(&run, "test", since, now).await;
    acquired.unwrap()
}

async fn granted(stage: &Stage, number: u32, now: UnixSeconds) -> Fence {
    match acquire(stage, number, None, now).await {
        Acquired::Granted { fence, .. } => fence,
        other => panic!("{other:?}"),
    }
}

async fn once(stage: Stage) -> Outcome {
    granted(&stage, 1, START).await;
    for since in [None, Some(START)] {
        let second = acquire(&stage, 2, since, START).await;
        must(matches!(second, Acquired::Held(_)), &format!("{second:?}"))?;
    }
    Ok(())
}

async fn release(stage: &Stage, fence: &Fence, at: UnixSeconds) -> Result<(), StoreError> {
    stage
        .store
        .release_lease(
            fence,
            &RunEnd {
                outcome: RunOutcome::Succeeded {
                    deferred: 0,
                    deferred_since: None,
                },
                at,
                processed: Vec::new(),
            },
        )
        .await
}

async fn due(stage: Stage) -> Outcome {
    let fence = granted(&stage, 1, START).await;
    release(&stage, &fence, START).await.unwrap();
    let early = UnixSeconds(START.0 - 1);
    let again = acquire(&stage, 2, Some(early), START).await;
    must(again == Acquired::NotDue, &format!("{again:?}"))
}

async fn renewed(stage: Stage) -> Outcome {
    let first = granted(&stage, 1, START).await;
    let second = granted(&stage, 2, START + HOUR).await;
    let renewed = stage.store.renew_lease(&first, START + HOUR).await;
    must(renewed.is_err(), "a lease of another run was renewed")?;
    must(
        release(&stage, &first, START).await.is_err(),
        "a lease of another run was released",
    )?;
    release(&stage, &second, START + HOUR).await.unwrap();
    let renewed = stage.store.renew_lease(&second, START + HOUR).await;
    must(renewed.is_err(), "a released lease was renewed")
}

async fn recorded(stage: Stage) -> Outcome {
    let record = |state| RunRecord {
        started_by: None,
        id: run(1).to_string(),
        job: JobName::Sync,
        state,
        counts: serde_json::json!({}),
        error: None,
        started_at: START,
        updated_at: START,
        finished_at: None,
    };
    for state in [RunState::Running, RunState::Succeeded, RunState::Running] {
        stage.store.put_run(&run(1), &record(state)).await.unwrap();
    }
    let kept = stage.pool.store.run(&run(1)).await.unwrap().unwrap();
    must(
        kept.state == RunState::Succeeded,
        "a late heartbeat overwrote the record of the finished run",
    )
}

async fn versioned(stage: Stage) -> Outcome {
    let put = async |version| {
        let written = stage.store.put_csp_state(CspState::default(), version);
        written.await.unwrap()
    };
    must(put(0).await, "a new state was not written")?;
    must(!put(0).await, "a state was written over another one")?;
    must(put(1).await, "the next version was not written")
}

async fn broken(stage: Stage) -> Outcome {
    let fence = granted(&stage, 1, START).await;
    release(&stage, &fence, START).await.unwrap();
    stage.store.break_leases().await.unwrap();
    let early = UnixSeconds(START.0 - 1);
    let again = acquire(&stage, 2, Some(early), START).await;
    must(again == Acquired::NotDue, &format!("{again:?}"))
}

/// Makes an allocation as a service without claims does.
async fn allocated_without_claim(stage: &Stage, name: &str, at: UnixSeconds) {
    stage.pool.add([name]).await;
    let attributes = [
        ("status", Some(text("allocated"))),
        ("allocated_to_track", Some(text("play"))),
        ("idempotency_key", Some(text("play"))),
        ("allocated_at", Some(number(at.0))),
    ];
    stage.rewrite_sandbox(name, &attributes).await;
}

async fn pointer(stage: &Stage) -> sandbox_broker::store::StoredClaim {
    let holder = holder("play");
    let found = stage.pool.store.find_claim(&holder.caller, &holder.key);
    found.await.unwrap()
}

async fn migrated(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    allocated_without_claim(&stage, "second", START + HOUR).await;
    let before = pointer(&stage).await;
    stage.store.migrate(TERMS, START + HOUR).await.unwrap();
    must(pointer(&stage).await == before, "the claim was overwritten")
}

async fn moved(stage: Stage) -> Outcome {
    let deleted_at = |at: UnixSeconds| [("deleted_at", Some(number(at.0)))];
    stage
        .rewrite_companion(tombstone_key(&id("gone")), &deleted_at(START))
        .await;
    let earlier = key("GONE#gone", "GONE");
    stage.rewrite_pool(earlier, &deleted_at(START - HOUR)).await;
    let before = stage.pool.items_of(&stage.pool.companion).await;
    stage.store.migrate(TERMS, START).await.unwrap();
    let mut after = stage.pool.items_of(&stage.pool.companion).await;
    after.retain(|item| !["SCHEMA", "UNREADABLE"].map(text).contains(&item["PK"]));
    must(before == after, "the tombstone was overwritten")?;
    must(
        stage.pool.items_of(&stage.pool.table).await.is_empty(),
        "it was left behind",
    )
}

/// Changes a leftover claim between the migration's read and its write.
async fn meanwhile(stage: Stage, sandbox: &'static str, at: UnixSeconds) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let (first, play) = (id("first"), caller("play"));
    let released = stage
        .pool
        .store
        .release(&first, &play, "test", TERMS, START)
        .await;
    released.unwrap();
    allocated_without_claim(&stage, "second", START + HOUR).await;
    let is_second_write = |call: &Call| {
        call.operation == "PutItem"
            && call.json()["ConditionExpression"]
                .as_str()
                .is_some_and(|condition| condition.starts_with("sandbox_id"))
    };
    let gate = stage.proxy.hold(is_second_write);
    let changing = async {
        gate.wait_for_one().await;
        let key = super::allocation::claim_key(&stage).await;
        let attributes = [
            ("sandbox_id", Some(text(sandbox))),
            ("allocated_at", Some(number(at.0))),
        ];
        stage.rewrite_companion(key, &attributes).await;
        let changed = pointer(&stage).await;
        gate.open();
        changed
    };
    let (migration, changed) = tokio::join!(stage.store.migrate(TERMS, START + HOUR), changing);
    migration.unwrap();
    must(
        pointer(&stage).await == changed,
        "the claim was overwritten",
    )
}
