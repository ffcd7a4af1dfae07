//! Releases and expiries that come too late or from another caller.

use futures_util::FutureExt;
use sandbox_broker::{
    clock::UnixSeconds,
    domain::{Sandbox, Status},
    store::{Change, Release},
};

use super::stage::{
    HOUR, Outcome, Scenario, Stage, TERMS, caller, id, must, number, scenario, text,
};
use crate::support::{START, proxy::Call};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("a sandbox is released once", |stage| once(stage).boxed()),
        scenario("only the holder releases a sandbox", |stage| {
            others(stage).boxed()
        }),
        scenario("an overdue allocation is not released", |stage| {
            over(stage).boxed()
        }),
        scenario(
            "second attempt: a sandbox that expired meanwhile is not released",
            |stage| meanwhile(stage, &[("status", "pending_deletion")], START.0).boxed(),
        ),
        scenario(
            "second attempt: a sandbox that got another holder is not released",
            |stage| meanwhile(stage, &[("allocated_to_track", "another")], START.0).boxed(),
        ),
        scenario(
            "second attempt: a sandbox that was allocated again is not released",
            |stage| meanwhile(stage, &[], START.0 + 60).boxed(),
        ),
        scenario("only the overdue allocation expires", |stage| {
            expires(stage).boxed()
        }),
    ]
}

async fn requested_at(stage: &Stage, name: &str) -> Option<UnixSeconds> {
    stage.sandbox(name).await?.deletion_requested_at
}

async fn release(stage: &Stage, name: &str, by: &str, at: UnixSeconds) -> Release {
    let released = stage
        .store
        .release(&id(name), &caller(by), "test", TERMS, at)
        .await;
    released.unwrap()
}

async fn once(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    for at in [START + HOUR, START + HOUR * 2] {
        let released = release(&stage, "first", "play", at).await;
        let is_right = if at == START + HOUR {
            matches!(released, Release::Released(_))
        } else {
            matches!(released, Release::Repeated(_))
        };
        must(is_right, &format!("{released:?}"))?;
        let requested = requested_at(&stage, "first").await;
        must(requested == Some(START + HOUR), "it was released twice")?;
    }
    Ok(())
}

async fn others(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let released = release(&stage, "first", "another", START).await;
    must(released == Release::NotOwner, &format!("{released:?}"))?;
    must(
        stage.status("first").await == Some(Status::Allocated),
        "another caller released it",
    )
}

async fn over(stage: Stage) -> Outcome {
    stage.allocated("short", "a", START, 1).await;
    stage.allocated("usual", "b", START, 4).await;
    for (name, by, hours) in [("short", "a", 2), ("usual", "b", 5)] {
        let released = release(&stage, name, by, START + HOUR * hours).await;
        must(
            matches!(released, Release::Expired(_)),
            &format!("{released:?}"),
        )?;
    }
    Ok(())
}

/// Changes the sandbox between the two writes of a release. A release has two if the item does not state the end of the
/// allocation, as after one by the FastAPI service.
async fn meanwhile(stage: Stage, texts: &'static [(&str, &str)], allocated_at: i64) -> Outcome {
    stage.allocated("long", "play", START, 8).await;
    stage.rewrite_sandbox("long", &[("expires_at", None)]).await;
    let is_second_write = |call: &Call| {
        call.operation == "UpdateItem"
            && call.json()["ConditionExpression"]
                .as_str()
                .is_some_and(|condition| condition.ends_with("allocated_at = :allocated_at"))
    };
    let gate = stage.proxy.hold(is_second_write);
    let releasing = async { try_to_release(&stage).await };
    let changing = async {
        gate.wait_for_one().await;
        let mut attributes: Vec<_> = texts
            .iter()
            .map(|(name, value)| (*name, Some(text(value))))
            .collect();
        attributes.push(("allocated_at", Some(number(allocated_at))));
        attributes.push(("deletion_requested_at", Some(number(START.0 + 60))));
        stage.rewrite_sandbox("long", &attributes).await;
        gate.open();
    };
    tokio::join!(releasing, changing);
    let requested = requested_at(&stage, "long").await;
    must(
        requested == Some(UnixSeconds(START.0 + 60)),
        "it was released after it had changed",
    )
}

async fn try_to_release(stage: &Stage) {
    let now = START + HOUR;
    // The answer does not matter, only the table.
    let _ = stage
        .store
        .release(&id("long"), &caller("play"), "test", TERMS, now)
        .await;
}

async fn expires(stage: Stage) -> Outcome {
    let late = START + HOUR * 9;
    for (name, is_of_a_job) in [("a", false), ("b", true)] {
        stage.allocated(name, name, START, 4).await;
        let read = stage.sandbox(name).await.unwrap();
        let expire = async |overdue: &Sandbox| {
            let overdue = overdue.clone();
            if is_of_a_job {
                let change = Change::Expire(Box::new(overdue));
                stage.change(None, change, late).await
            } else {
                stage.store.expire(&overdue, late).await.unwrap()
            }
        };
        let another = Sandbox {
            allocated_at: UnixSeconds(START.0 - 1),
            ..read.clone()
        };
        must(!expire(&another).await, "another allocation expired")?;
        let later = ("expires_at", Some(number((START + HOUR * 5).0)));
        stage.rewrite_sandbox(name, &[later]).await;
        must(!expire(&read).await, "an extended allocation expired")?;
        let extended = stage.sandbox(name).await.unwrap();
        must(expire(&extended).await, "it does not expire")?;
        must(!expire(&extended).await, "it expired twice")?;
    }
    Ok(())
}
