//! Replacements whose old sandbox or claim another writer changes between their read and their write.

use futures_util::FutureExt;
use sandbox_broker::{
    domain::{Candidate, Reason, Replaced, Sandbox},
    store::{ClaimOutcome, Item, NewAllocation, NewReplacement, ReplacedClaim, ReplacementRefusal},
};

use super::stage::{
    HOUR, Outcome, Scenario, Stage, allocation, holder, must, number, scenario, text,
};
use crate::support::{START, account};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario(
            "a replacement ends only the allocation that was read",
            |stage| old(stage).boxed(),
        ),
        scenario(
            "a replacement moves only a claim that points to the old sandbox",
            |stage| claim(stage).boxed(),
        ),
        scenario(
            "a holder has its sandbox replaced as often as permitted",
            |stage| limit(stage).boxed(),
        ),
    ]
}

type Attempt = ClaimOutcome<ReplacementRefusal>;

/// Tries to replace the sandbox that `caller` holds, as it was read, by the one named `new`. Two replacements are
/// permitted.
async fn replace(
    stage: &Stage,
    old: &Sandbox,
    caller: &str,
    new: &str,
    replaced: Replaced,
) -> Attempt {
    stage.pool.add([new]).await;
    let holder = holder(caller);
    let reason = Reason::parse("broken").unwrap();
    let replacement = NewReplacement {
        old,
        allocation: NewAllocation {
            replaces: Some(old.id()),
            ..allocation(&holder, START, 4)
        },
        replaced,
        max_replacements: 2,
        reason: &reason,
        by: "test",
    };
    let slot = stage.store.slot().await;
    let candidate = Candidate::from(&account(new));
    let attempt = slot.replace(&candidate, replacement, &ReplacedClaim::PointsToOld);
    attempt.await.unwrap()
}

/// Returns a sandbox as read, which is held by a caller with its name.
async fn held(stage: &Stage, name: &str) -> Sandbox {
    stage.allocated(name, name, START, 4).await;
    stage.sandbox(name).await.unwrap()
}

/// Returns the key of the claim of a caller.
async fn claim_of(stage: &Stage, caller: &str) -> Item {
    let items = stage.pool.items_of(&stage.pool.companion).await;
    let is_theirs = |item: &&Item| {
        let stated = item.get("caller").and_then(|caller| caller.as_s().ok());
        stated.is_some_and(|stated| stated == caller)
    };
    let claim = items.iter().find(is_theirs).unwrap();
    let key = ["PK", "SK"].map(|name| (name.to_owned(), claim[name].clone()));
    key.into()
}

async fn old(stage: Stage) -> Outcome {
    for replaced in [Replaced::Delete, Replaced::Quarantine] {
        for (change, name, value) in [
            ("released", "status", text("pending_deletion")),
            ("another-start", "allocated_at", number(START.0 + 60)),
            ("extended", "expires_at", number((START + HOUR * 8).0)),
            ("another-holder", "allocated_to_track", text("another")),
        ] {
            let name_of = format!("{change}-{replaced:?}");
            let old = held(&stage, &name_of).await;
            stage
                .rewrite_sandbox(&name_of, &[(name, Some(value))])
                .await;
            let attempt =
                replace(&stage, &old, &name_of, &format!("new-{name_of}"), replaced).await;
            let is_refused = matches!(
                attempt,
                ClaimOutcome::Refused(ReplacementRefusal::Old(Some(_)))
            );
            must(is_refused, &format!("{name_of}: {attempt:?}"))?;
        }
    }
    Ok(())
}

async fn claim(stage: Stage) -> Outcome {
    for (change, name, value) in [
        ("moved", "sandbox_id", text("another")),
        (
            "of-another-allocation",
            "allocated_at",
            number(START.0 - 60),
        ),
    ] {
        let old = held(&stage, change).await;
        let key = claim_of(&stage, change).await;
        stage.rewrite_companion(key, &[(name, Some(value))]).await;
        let attempt = replace(
            &stage,
            &old,
            change,
            &format!("new-{change}"),
            Replaced::Delete,
        )
        .await;
        let is_refused = matches!(attempt, ClaimOutcome::Refused(ReplacementRefusal::Claim(_)));
        must(is_refused, &format!("{change}: {attempt:?}"))?;
    }
    Ok(())
}

async fn limit(stage: Stage) -> Outcome {
    let mut current = held(&stage, "first").await;
    let key = claim_of(&stage, "first").await;
    for (new, is_permitted) in [("second", true), ("third", true), ("fourth", false)] {
        match replace(&stage, &current, "first", new, Replaced::Delete).await {
            ClaimOutcome::Won(sandbox) if is_permitted => current = sandbox,
            ClaimOutcome::Refused(ReplacementRefusal::LimitReached) if !is_permitted => {}
            other => return must(false, &format!("{new}: {other:?}")),
        }
    }
    // A count that is no number permits no more of them.
    let damaged = [("replacements", Some(text("many")))];
    stage.rewrite_companion(key, &damaged).await;
    let attempt = replace(&stage, &current, "first", "fifth", Replaced::Delete).await;
    let is_refused = matches!(
        attempt,
        ClaimOutcome::Refused(ReplacementRefusal::LimitReached)
    );
    must(is_refused, &format!("{attempt:?}"))
}
