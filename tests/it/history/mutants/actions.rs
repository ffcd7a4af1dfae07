//! Actions of operators on a sandbox, or beside a claim, that another writer changes between their read and their write.

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::FutureExt;
use sandbox_broker::{
    domain::{
        ActionOrder, ActionRefusal, Author, Quarantine, Reason, Role, Sandbox, SandboxAction,
        Status,
    },
    store::Decided,
};
use serde_json::Value;

use super::{
    allocation::claim_key,
    stage::{HOUR, Outcome, Scenario, Stage, TERMS, id, must, number, scenario, text},
};
use crate::support::{START, audit, proxy::Call};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "an action on a held sandbox is decided on its allocation and end",
            |stage| held(stage).boxed(),
        ),
        scenario(
            "an action on any other sandbox is decided on its status",
            |stage| free(stage).boxed(),
        ),
        scenario(
            "only a sandbox that never had a holder returns from quarantine",
            |stage| restored(stage).boxed(),
        ),
        scenario(
            "an extension changes no claim that points elsewhere",
            |stage| elsewhere(stage).boxed(),
        ),
        scenario(
            "an extension overwrites no claim that was written meanwhile",
            |stage| written(stage).boxed(),
        ),
    ]
}

type Attributes<'a> = &'a [(&'a str, Option<AttributeValue>)];

const EXTEND: SandboxAction = SandboxAction::Extend {
    end: sandbox_broker::clock::UnixSeconds(START.0 + 6 * 3600),
    latest: sandbox_broker::clock::UnixSeconds(i64::MAX),
};
const QUARANTINE: SandboxAction = SandboxAction::Quarantine { until: None };

fn order(action: SandboxAction) -> ActionOrder {
    ActionOrder {
        action,
        allocation: None,
        author: Author {
            name: "jane".into(),
            role: Some(Role::Operator),
            request_id: "request".to_owned(),
            address: None,
        },
        reason: Reason::parse("test").unwrap(),
    }
}

async fn act(stage: &Stage, name: &str, action: SandboxAction) -> Decided<ActionRefusal> {
    let (id, order) = (id(name), order(action));
    let done = stage.store.act(&id, &order, TERMS.grace, START.0 * 1000);
    done.await.unwrap()
}

/// Executes an action, while another writer sets `attributes` between its read and its write. Returns its outcome, and the
/// state before it according to its record.
async fn meanwhile(
    stage: &Stage,
    name: &str,
    action: SandboxAction,
    attributes: Attributes<'_>,
) -> (Decided<ActionRefusal>, Option<Value>) {
    let gate = stage.proxy.hold_operation("TransactWriteItems");
    let changing = async {
        gate.wait_for_one().await;
        stage.rewrite_sandbox(name, attributes).await;
        gate.open();
    };
    let (outcome, ()) = tokio::join!(act(stage, name, action), changing);
    let record = audit::done_to(&stage.pool, name).await.pop();
    (outcome, record.map(|record| record["before"].clone()))
}

/// Requires that an action was refused, and nothing recorded.
fn refused(
    (outcome, before): &(Decided<ActionRefusal>, Option<Value>),
    refusal: ActionRefusal,
    fault: &str,
) -> Outcome {
    let is_refused = *outcome == Decided::Refused(refusal) && before.is_none();
    must(is_refused, &format!("{fault}: {outcome:?}, {before:?}"))
}

/// Requires that an action was done, and that the record has `value` for the state before.
fn done(
    (outcome, before): &(Decided<ActionRefusal>, Option<Value>),
    (name, value): (&str, Value),
    fault: &str,
) -> Outcome {
    let is_true = before.as_ref().is_some_and(|before| before[name] == value);
    let is_done = matches!(outcome, Decided::Done(_)) && is_true;
    must(is_done, &format!("{fault}: {outcome:?}, {before:?}"))
}

async fn held(stage: Stage) -> Outcome {
    for action in [SandboxAction::Release, QUARANTINE, EXTEND] {
        let kind = action.audit_action();
        let name = format!("released-{kind}");
        stage.allocated(&name, &name, START, 4).await;
        let released = [("status", Some(text("pending_deletion")))];
        let made = meanwhile(&stage, &name, action, &released).await;
        let refusal = ActionRefusal::InStatus(Status::PendingDeletion);
        refused(&made, refusal, "it had been released")?;

        let name = format!("another-{kind}");
        stage.allocated(&name, &name, START, 4).await;
        let another = START.0 + 60;
        let again = [("allocated_at", Some(number(another)))];
        let made = meanwhile(&stage, &name, action, &again).await;
        done(
            &made,
            ("allocated_at", another.into()),
            "it hit another allocation",
        )?;

        let name = format!("extended-{kind}");
        stage.allocated(&name, &name, START, 4).await;
        let end = (START + HOUR * 8).0;
        let later = [("expires_at", Some(number(end)))];
        let made = meanwhile(&stage, &name, action, &later).await;
        if action == EXTEND {
            refused(&made, ActionRefusal::EndsLater, "its end moved back")?;
        } else {
            done(
                &made,
                ("expires_at", end.into()),
                "its record has another end",
            )?;
        }
    }
    Ok(())
}

async fn free(stage: Stage) -> Outcome {
    let allocated = [
        ("status", Some(text("allocated"))),
        ("allocated_to_track", Some(text("play"))),
        ("allocated_at", Some(number(START.0))),
    ];
    let available = [("status", Some(text("available")))];
    for (action, from, meanwhile_it_is, expected) in [
        (QUARANTINE, "available", &allocated[..], Ok("allocated")),
        (QUARANTINE, "stale", &available, Ok("available")),
        (QUARANTINE, "provisioning", &available, Ok("available")),
        (
            SandboxAction::Delete,
            "provisioning",
            &allocated,
            Err(Status::Allocated),
        ),
        (
            SandboxAction::Delete,
            "available",
            &allocated,
            Err(Status::Allocated),
        ),
        (
            SandboxAction::Delete,
            "stale",
            &allocated,
            Err(Status::Allocated),
        ),
        (
            SandboxAction::Delete,
            "deletion_failed",
            &allocated,
            Err(Status::Allocated),
        ),
        (
            SandboxAction::Delete,
            "quarantined",
            &available,
            Ok("available"),
        ),
    ] {
        let name = format!("{from}-{}", action.audit_action());
        stage.pool.add([&name]).await;
        let status = [("status", Some(text(from)))];
        stage.rewrite_sandbox(&name, &status).await;
        let made = meanwhile(&stage, &name, action, meanwhile_it_is).await;
        let fault = format!("{name} was not what the action was decided on");
        match expected {
            Ok(status) => done(&made, ("status", status.into()), &fault)?,
            Err(status) => refused(&made, ActionRefusal::InStatus(status), &fault)?,
        }
    }
    Ok(())
}

async fn restored(stage: Stage) -> Outcome {
    for from in ["available", "provisioning", "stale"] {
        let in_quarantine = [
            ("status", Some(text("quarantined"))),
            ("quarantined_by", Some(text("jane"))),
            ("quarantined_from", Some(text(from))),
        ];
        for (at, (attribute, refusal)) in [
            (
                ("status", Some(text("pending_deletion"))),
                ActionRefusal::InStatus(Status::PendingDeletion),
            ),
            (
                ("allocated_at", Some(number(START.0))),
                ActionRefusal::HadHolder,
            ),
            (
                ("allocated_to_track", Some(text("play"))),
                ActionRefusal::HadHolder,
            ),
            // No valid start, but no proof that there was no holder either.
            (("allocated_at", Some(number(-1))), ActionRefusal::HadHolder),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("{from}-{at}");
            stage.pool.add([&name]).await;
            stage.rewrite_sandbox(&name, &in_quarantine).await;
            let made = meanwhile(&stage, &name, SandboxAction::Restore, &[attribute]).await;
            refused(&made, refusal, &format!("{name} returned"))?;
        }
        stage.pool.add([from]).await;
        stage.rewrite_sandbox(from, &in_quarantine).await;
        let unlisted = [("quarantined_from", Some(text("stale")))];
        let (outcome, _) = meanwhile(&stage, from, SandboxAction::Restore, &unlisted).await;
        let is_stale = |sandbox: &Sandbox| {
            sandbox.status == Status::Stale && sandbox.quarantine == Quarantine::default()
        };
        let is_right = matches!(&outcome, Decided::Done(sandbox) if is_stale(sandbox));
        must(is_right, &format!("CSP does not list it: {outcome:?}"))?;
        let stored = stage.sandbox(from).await.unwrap();
        must(
            is_stale(&stored),
            &format!("CSP does not list it: {stored:?}"),
        )?;
    }
    Ok(())
}

/// Returns the attributes of the only claim.
pub(super) async fn stored_claim(stage: &Stage) -> Option<sandbox_broker::store::Item> {
    let mut items = stage.pool.items_of(&stage.pool.companion).await.into_iter();
    items.find(|item| item["PK"].as_s().unwrap().starts_with("CLAIM#"))
}

async fn elsewhere(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let key = claim_key(&stage).await;
    let expected = [
        ("sandbox_id", Some(text("another"))),
        ("allocated_at", Some(number(START.0 - 60))),
    ];
    let original = [
        ("sandbox_id", Some(text("first"))),
        ("allocated_at", Some(number(START.0))),
    ];
    for (at, attribute) in expected.into_iter().enumerate() {
        stage.rewrite_companion(key.clone(), &original).await;
        stage.rewrite_companion(key.clone(), &[attribute]).await;
        let before = stored_claim(&stage).await;
        let end = START + HOUR * (5 + u32::try_from(at).unwrap());
        let extend = SandboxAction::Extend { end, latest: end };
        let outcome = act(&stage, "first", extend).await;
        must(matches!(outcome, Decided::Done(_)), &format!("{outcome:?}"))?;
        must(
            stored_claim(&stage).await == before,
            "a claim of another allocation was changed",
        )?;
    }
    Ok(())
}

async fn written(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let key = claim_key(&stage).await;
    let claim = stored_claim(&stage).await.unwrap();
    let delete = stage.pool.client.delete_item();
    let delete = delete.table_name(&stage.pool.companion);
    delete.set_key(Some(key.clone())).send().await.unwrap();
    let writes_claim = |call: &Call| call.json().to_string().contains("attribute_not_exists(PK)");
    let gate = stage.proxy.hold(writes_claim);
    let changing = async {
        gate.wait_for_one().await;
        let attributes = claim
            .iter()
            .map(|(name, value)| (name.as_str(), Some(value.clone())));
        let mut attributes: Vec<_> = attributes.collect();
        attributes.push(("sandbox_id", Some(text("another"))));
        stage.rewrite_companion(key, &attributes).await;
        gate.open();
    };
    let (outcome, ()) = tokio::join!(act(&stage, "first", EXTEND), changing);
    must(matches!(outcome, Decided::Done(_)), &format!("{outcome:?}"))?;
    let now = stored_claim(&stage).await.unwrap();
    must(
        now["sandbox_id"] == text("another"),
        "a claim that another allocation had written was overwritten",
    )
}
