//! Changes by jobs that rest on an outdated read or on a lost lease.

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::{FutureExt, StreamExt};
use sandbox_broker::{
    domain::{
        AuditAction, AuditRecord, AuditTarget, Author, JobName, Readiness, Reason, RunId, Status,
    },
    store::{Acquired, Change, CheckResult, DeletionOutcome, StoreError, Tombstone, tombstone_key},
};

use super::stage::{HOUR, Outcome, Scenario, Stage, id, must, number, scenario, text};
use crate::support::{START, account};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("an existing sandbox is not inserted", |stage| {
            inserted(stage).boxed()
        }),
        scenario("a sandbox with a tombstone is not inserted", |stage| {
            buried(stage).boxed()
        }),
        scenario(
            "a held sandbox is neither updated nor marked stale",
            |stage| held(stage).boxed(),
        ),
        scenario(
            "only a stale sandbox that never had a holder is restored",
            |stage| restored(stage).boxed(),
        ),
        scenario(
            "a quarantine ends only as long as it lasts and as it was read",
            |stage| quarantine_ended(stage).boxed(),
        ),
        scenario("only a sandbox in quarantine is converted", |stage| {
            converted(stage).boxed()
        }),
        scenario(
            "only of an unused sandbox in quarantine it is recorded whether CSP lists it",
            |stage| relisted(stage).boxed(),
        ),
        scenario(
            "a check changes only the sandbox and the account that it was about",
            |stage| checked(stage).boxed(),
        ),
        scenario("only a failed deletion is retried", |stage| {
            requeued(stage).boxed()
        }),
        scenario(
            "only a sandbox that is unchanged since it was read is removed",
            |stage| removed(stage).boxed(),
        ),
        scenario("only an absent sandbox is reinstated", |stage| {
            reinstated(stage).boxed()
        }),
        scenario(
            "a deletion attempt counts once, and only in `pending_deletion`",
            |stage| attempts(stage).boxed(),
        ),
        scenario("a run without its lease changes nothing", |stage| {
            fenced(stage).boxed()
        }),
    ]
}

async fn inserted(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    insert_again(&stage).await
}

/// Inserts the sandbox again, in each status of a new one.
async fn insert_again(stage: &Stage) -> Outcome {
    for status in [Status::Available, Status::Provisioning] {
        let change = Change::Insert(account("first"), status);
        let made = stage.change(None, change, START).await;
        must(!made, "it was inserted")?;
    }
    Ok(())
}

/// Deletes a sandbox and returns its tombstone.
async fn bury(stage: &Stage, name: &str) -> Tombstone {
    let sandbox = stage.pending_deletion(name).await;
    let gone = Change::Deletion(Box::new(sandbox), DeletionOutcome::Deleted, None);
    stage.pool.apply(vec![gone]).await;
    let mut pages = stage.pool.store.sandbox_pages();
    while let Some(page) = pages.next().await {
        let mut tombstones = page.unwrap().tombstones.into_iter();
        if let Some(tombstone) = tombstones.find(|one| one.sandbox_id == name) {
            return tombstone;
        }
    }
    panic!("no tombstone");
}

async fn buried(stage: Stage) -> Outcome {
    bury(&stage, "first").await;
    insert_again(&stage).await
}

async fn held(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    for change in [
        Change::Update(account("first"), Status::Available),
        Change::MarkStale(id("first"), Status::Available),
        Change::Update(account("first"), Status::Provisioning),
        Change::MarkStale(id("first"), Status::Provisioning),
        Change::Provide(account("first")),
    ] {
        must(!stage.change(None, change, START).await, "it was changed")?;
    }
    Ok(())
}

async fn restored(stage: Stage) -> Outcome {
    type Attributes<'a> = &'a [(&'a str, Option<AttributeValue>)];
    let cases: [Attributes<'_>; 3] = [
        &[("status", Some(text("pending_deletion")))],
        &[
            ("status", Some(text("stale"))),
            ("allocated_at", Some(number(START.0))),
        ],
        &[
            ("status", Some(text("stale"))),
            ("allocated_to_track", Some(text("play"))),
        ],
    ];
    for to in [Status::Available, Status::Provisioning] {
        for (at, case) in cases.into_iter().enumerate() {
            let name = format!("{to}-{at}");
            stage.pool.add([&name]).await;
            stage.rewrite_sandbox(&name, case).await;
            let made = stage
                .change(None, Change::Restore(account(&name), to), START)
                .await;
            must(!made, &format!("{name} was restored"))?;
        }
    }
    Ok(())
}

/// Inserts a sandbox and sets it aside for an hour.
async fn quarantined(stage: &Stage, name: &str, from: &str) {
    stage.pool.add([name]).await;
    let attributes = [
        ("status", Some(text("quarantined"))),
        ("quarantined_from", Some(text(from))),
        ("quarantined_until", Some(number((START + HOUR).0))),
    ];
    stage.rewrite_sandbox(name, &attributes).await;
}

fn record(name: &str, action: AuditAction) -> AuditRecord {
    let author = Author {
        name: "test".into(),
        role: None,
        request_id: "run".to_owned(),
        address: None,
    };
    AuditRecord::done(
        START.0 * 1000,
        author,
        action,
        AuditTarget::Sandbox(id(name)),
    )
}

/// Tries to end the quarantine of a sandbox as it was read before `attribute` was rewritten.
async fn end_of(stage: &Stage, name: &str, attribute: (&str, Option<AttributeValue>)) -> bool {
    let sandbox = Box::new(stage.sandbox(name).await.unwrap());
    stage.rewrite_sandbox(name, &[attribute]).await;
    let change = Change::EndQuarantine {
        sandbox,
        until: START + HOUR,
        record: Box::new(record(name, AuditAction::QuarantineEnd)),
    };
    stage.change(None, change, START + HOUR).await
}

async fn quarantine_ended(stage: Stage) -> Outcome {
    let later = ("quarantined_until", Some(number((START + HOUR).0 + 1)));
    let deleted = ("status", Some(text("pending_deletion")));
    let started = ("allocated_at", Some(number(START.0)));
    let held = ("allocated_to_track", Some(text("play")));
    let missing = ("quarantined_from", Some(text("stale")));
    let same = ("name", Some(text("another")));
    for from in ["available", "provisioning", "stale", "allocated"] {
        let mut unchanged = vec![later.clone(), deleted.clone()];
        if from != "allocated" {
            unchanged.extend([started.clone(), held.clone()]);
        }
        if matches!(from, "available" | "provisioning") {
            unchanged.push(missing.clone());
        }
        for (at, attribute) in unchanged.into_iter().enumerate() {
            let name = format!("{from}-{at}");
            quarantined(&stage, &name, from).await;
            if from == "allocated" {
                stage
                    .rewrite_sandbox(&name, &[started.clone(), held.clone()])
                    .await;
            }
            let what = attribute.0;
            let made = end_of(&stage, &name, attribute).await;
            must(
                !made,
                &format!("{name} left its quarantine although {what} had changed"),
            )?;
        }
        quarantined(&stage, from, from).await;
        must(
            end_of(&stage, from, same.clone()).await,
            &format!("{from} did not leave its quarantine"),
        )?;
    }
    Ok(())
}

async fn converted(stage: Stage) -> Outcome {
    for read_as in ["quarantined", "provisioning"] {
        for (status, is_converted) in [("available", false), (read_as, true)] {
            let name = format!("{read_as}-{status}");
            quarantined(&stage, &name, "available").await;
            let as_read = ("status", Some(text(read_as)));
            stage.rewrite_sandbox(&name, &[as_read]).await;
            let sandbox = Box::new(stage.sandbox(&name).await.unwrap());
            let rewritten = ("status", Some(text(status)));
            stage.rewrite_sandbox(&name, &[rewritten]).await;
            let record = Box::new(record(&name, AuditAction::ConvertForFastapi));
            let change = Change::ConvertForFastapi { sandbox, record };
            let made = stage.change(None, change, START).await;
            must(
                made == is_converted,
                &format!("{name} was converted: {made}"),
            )?;
        }
    }
    Ok(())
}

async fn relisted(stage: Stage) -> Outcome {
    use Status::{Available, Provisioning, Stale};
    for (was, is) in [
        (Stale, Available),
        (Stale, Provisioning),
        (Available, Stale),
        (Provisioning, Stale),
    ] {
        for (attribute, value) in [
            ("status", "pending_deletion"),
            ("quarantined_from", "allocated"),
        ] {
            let name = format!("{was}-{is}-{attribute}");
            quarantined(&stage, &name, was.as_str()).await;
            stage
                .rewrite_sandbox(&name, &[(attribute, Some(text(value)))])
                .await;
            let id = id(&name);
            let made = stage
                .change(None, Change::QuarantinedListing { id, was, is }, START)
                .await;
            must(!made, &format!("{name} was changed"))?;
        }
    }
    Ok(())
}

async fn checked(stage: Stage) -> Outcome {
    use Status::{Available, Provisioning, Quarantined};
    for (from, to) in [
        (Provisioning, Available),
        (Provisioning, Provisioning),
        (Provisioning, Quarantined),
        (Available, Available),
        (Available, Quarantined),
    ] {
        for seen in [None, Some(number(START.0))] {
            let was_checked = seen.is_some();
            let elsewhere = text("identity/accounts/another");
            for (attribute, value) in [
                ("status", text("pending_deletion")),
                ("external_id", elsewhere),
                ("checked_at", number(START.0 + 1)),
                ("name", text("another")),
            ] {
                let name = format!("{from}-{to}-{was_checked}-{attribute}");
                stage.pool.add([&name]).await;
                let as_read = [
                    ("status", Some(text(from.as_str()))),
                    ("checked_at", seen.clone()),
                ];
                stage.rewrite_sandbox(&name, &as_read).await;
                let sandbox = stage.sandbox(&name).await.unwrap();
                stage
                    .rewrite_sandbox(&name, &[(attribute, Some(value))])
                    .await;
                let record = record(&name, AuditAction::Quarantine);
                let reason = Reason::parse("it has no groups").unwrap();
                let result = CheckResult {
                    sandbox,
                    readiness: Readiness {
                        checked_at: Some(START + HOUR),
                        ..Readiness::default()
                    },
                    to,
                    quarantine: (to == Quarantined).then_some((reason, record)),
                };
                let change = Change::Check(Box::new(result));
                let made = stage.change(None, change, START + HOUR).await;
                must(
                    made == (attribute == "name"),
                    &format!("{name} was changed: {made}"),
                )?;
            }
        }
    }
    Ok(())
}

async fn requeued(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let made = stage
        .change(None, Change::RetryDeletion(id("first")), START)
        .await;
    must(!made, "its deletion was retried")
}

async fn removed(stage: Stage) -> Outcome {
    let available = ("status", Some(text("available")));
    for (name, status, has_time) in [
        ("stale", "stale", true),
        ("old", "stale", false),
        ("failed", "deletion_failed", true),
        ("pending", "pending_deletion", true),
    ] {
        stage.pool.add([name]).await;
        stage
            .rewrite_sandbox(name, &[("status", Some(text(status)))])
            .await;
        if !has_time {
            stage.rewrite_sandbox(name, &[("updated_at", None)]).await;
        }
        let seen = Box::new(stage.sandbox(name).await.unwrap());
        stage
            .rewrite_sandbox(name, std::slice::from_ref(&available))
            .await;
        let made = stage.change(None, Change::Remove(seen), START).await;
        must(
            !made && stage.sandbox(name).await.is_some(),
            &format!("{name} was removed"),
        )?;
    }
    stage.pool.add(["again"]).await;
    stage
        .pool
        .apply(vec![Change::MarkStale(id("again"), Status::Available)])
        .await;
    let seen = Box::new(stage.sandbox("again").await.unwrap());
    stage
        .rewrite_sandbox("again", &[("updated_at", Some(number(START.0 + 9)))])
        .await;
    must(
        !stage.change(None, Change::Remove(seen), START).await,
        "it became stale again after it was read",
    )
}

async fn reinstated(stage: Stage) -> Outcome {
    let tombstone = Box::new(bury(&stage, "there").await);
    stage
        .rewrite_sandbox("there", &[("status", Some(text("allocated")))])
        .await;
    let change = Change::Reinstate(tombstone, account("there"));
    must(
        !stage.change(None, change, START + HOUR).await,
        "it was overwritten",
    )?;
    let tombstone = Box::new(bury(&stage, "gone").await);
    let later = ("deleted_at", Some(number(START.0 + 9)));
    stage
        .rewrite_companion(tombstone_key(&id("gone")), &[later])
        .await;
    let change = Change::Reinstate(tombstone, account("gone"));
    must(
        !stage.change(None, change, START + HOUR).await,
        "it was deleted again after the tombstone was read",
    )
}

async fn attempts(stage: Stage) -> Outcome {
    let error = || "no".to_owned();
    let outcomes = [
        DeletionOutcome::Deferred {
            until: START + HOUR,
            error: error(),
        },
        DeletionOutcome::GivenUp { error: error() },
    ];
    for (at, outcome) in outcomes.into_iter().enumerate() {
        let attempt = async |name: String, attribute: (&str, Option<AttributeValue>)| {
            let seen = stage.pending_deletion(&name).await;
            stage.rewrite_sandbox(&name, &[attribute]).await;
            let change = Change::Deletion(Box::new(seen), outcome.clone(), None);
            stage.change(None, change, START).await
        };
        let counted = ("deletion_retry_count", Some(number(1)));
        must(
            !attempt(format!("counted-{at}"), counted).await,
            "the attempt counted twice",
        )?;
        let not_pending = ("status", Some(text("available")));
        must(
            !attempt(format!("not-pending-{at}"), not_pending).await,
            "the attempt counted outside of `pending_deletion`",
        )?;
    }
    Ok(())
}

async fn fenced(stage: Stage) -> Outcome {
    let run = |number| RunId::new(JobName::Sync, START, number);
    let mut fences = Vec::new();
    for (number, now) in [(1, START), (2, START + HOUR)] {
        let run = run(number);
        let acquired = stage
            .pool
            .store
            .acquire_lease(&run, "test", None, now)
            .await;
        let Acquired::Granted { fence, .. } = acquired.unwrap() else {
            panic!("not granted");
        };
        fences.push(fence);
    }
    stage.pool.add(["first"]).await;
    let change = [Change::MarkStale(id("first"), Status::Available)];
    let applied = stage.store.apply(Some(&fences[0]), &change, 4, START).await;
    must(
        matches!(applied, Err(StoreError::Superseded)),
        &format!("{applied:?}"),
    )?;
    must(
        stage.status("first").await == Some(Status::Available),
        "a run without its lease changed it",
    )
}
