//! Changes of pauses that rest on an outdated read.

use futures_util::FutureExt;
use sandbox_broker::domain::{
    Activity, AuditAction, AuditRecord, AuditTarget, Author, Pause, Reason, Role,
};

use super::stage::{Outcome, Scenario, Stage, must, scenario};
use crate::support::START;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("a pause is set over no other one", |stage| {
            over_none(stage).boxed()
        }),
        scenario("only the pause that was read is replaced", |stage| {
            replaced(stage).boxed()
        }),
    ]
}

fn pause(author: &str) -> Pause {
    Pause {
        activity: Activity::Sync,
        reason: Reason::parse("test").unwrap(),
        author: author.into(),
        since: START,
        until: None,
    }
}

async fn change(stage: &Stage, read: &sandbox_broker::store::StoredPauses, author: &str) -> bool {
    let operator = Author {
        name: author.into(),
        role: Some(Role::Operator),
        request_id: author.to_owned(),
        address: None,
    };
    let target = AuditTarget::Pause(Activity::Sync);
    let record = AuditRecord::done(START.0 * 1000, operator, AuditAction::Pause, target);
    let after = pause(author);
    let changed = stage
        .store
        .change_pause(read, Activity::Sync, Some(&after), &record);
    changed.await.unwrap()
}

async fn author(stage: &Stage) -> String {
    let pauses = stage.pool.store.pauses().await.unwrap().pauses();
    let pause = pauses.of(Activity::Sync, START).unwrap();
    pause.author.to_string()
}

async fn over_none(stage: Stage) -> Outcome {
    let read = stage.store.pauses().await.unwrap();
    assert!(change(&stage, &read, "first").await);
    must(!change(&stage, &read, "second").await, "it was set twice")?;
    must(author(&stage).await == "first", "it was overwritten")
}

async fn replaced(stage: Stage) -> Outcome {
    let none = stage.store.pauses().await.unwrap();
    assert!(change(&stage, &none, "first").await);
    let read = stage.store.pauses().await.unwrap();
    assert!(change(&stage, &read, "second").await);
    must(
        !change(&stage, &read, "third").await,
        "it was replaced twice",
    )?;
    must(author(&stage).await == "second", "it was overwritten")
}
