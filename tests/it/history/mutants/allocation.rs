//! Allocations that rest on outdated knowledge of the sandbox or of the claim.

use futures_util::FutureExt;
use sandbox_broker::{
    domain::{Account, Status},
    store::{Change, ClaimOutcome, ClaimPrecondition, Item, StoredClaim},
};

use super::stage::{HOUR, Outcome, Scenario, Stage, must, scenario, with_sfdc};
use crate::support::{START, account, key};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("a held sandbox is not allocated", |stage| {
            held(stage).boxed()
        }),
        scenario(
            "a sandbox whose account has changed is not allocated",
            |stage| changed(stage).boxed(),
        ),
        scenario("a pair with a claim gets no second sandbox", |stage| {
            second(stage).boxed()
        }),
        scenario(
            "a leftover claim is overwritten only while it is the one that was read",
            |stage| leftover(stage).boxed(),
        ),
        scenario(
            "a readable claim is not overwritten as unreadable",
            |stage| readable(stage).boxed(),
        ),
        scenario(
            "a missing claim is not overwritten as unreadable",
            |stage| gone(stage).boxed(),
        ),
    ]
}

fn is_lost(claim: &ClaimOutcome) -> Outcome {
    must(
        matches!(claim, ClaimOutcome::Lost(_)),
        &format!("{claim:?}"),
    )
}

async fn held(stage: Stage) -> Outcome {
    for account in [account("plain"), with_sfdc("known", "sfdc")] {
        stage.pool.insert(vec![account.clone()]).await;
        let first = stage
            .claim(
                &account,
                &format!("a-{}", account.name),
                &ClaimPrecondition::New,
            )
            .await;
        must(
            matches!(first, ClaimOutcome::Won(_)),
            "the first allocation failed",
        )?;
        is_lost(
            &stage
                .claim(
                    &account,
                    &format!("b-{}", account.name),
                    &ClaimPrecondition::New,
                )
                .await,
        )?;
    }
    Ok(())
}

async fn changed(stage: Stage) -> Outcome {
    let renamed = |account: &Account| Account {
        name: "another".to_owned(),
        ..account.clone()
    };
    let moved = |account: &Account| Account {
        external_id: "identity/accounts/another".to_owned(),
        ..account.clone()
    };
    let sold = |account: &Account| Account {
        sfdc_account_id: Some("another".to_owned()),
        ..account.clone()
    };
    let changes: [fn(&Account) -> Account; 3] = [renamed, moved, sold];
    for (number, change) in changes.into_iter().enumerate() {
        for before in [
            account(&format!("plain-{number}")),
            with_sfdc(&format!("known-{number}"), "sfdc"),
        ] {
            stage.pool.insert(vec![before.clone()]).await;
            stage
                .pool
                .apply(vec![Change::Update(change(&before), Status::Available)])
                .await;
            is_lost(
                &stage
                    .claim(&before, &before.name, &ClaimPrecondition::New)
                    .await,
            )?;
        }
    }
    Ok(())
}

async fn second(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    stage.pool.add(["second"]).await;
    let claim = stage
        .claim(&account("second"), "play", &ClaimPrecondition::New)
        .await;
    let is_held = matches!(&claim, ClaimOutcome::Refused(StoredClaim::Readable(to)) if to.sandbox_id == "first");
    must(is_held, &format!("{claim:?}"))
}

async fn leftover(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    let first = stage.sandbox("first").await.unwrap();
    let expired = stage.pool.store.expire(&first, START + HOUR).await;
    assert!(expired.unwrap());
    stage.pool.add(["second", "third"]).await;
    let left = ClaimPrecondition::Leftover("first".to_owned());
    let won = stage.claim(&account("second"), "play", &left).await;
    must(matches!(won, ClaimOutcome::Won(_)), &format!("{won:?}"))?;
    let late = stage.claim(&account("third"), "play", &left).await;
    must(
        matches!(late, ClaimOutcome::Refused(_)),
        &format!("{late:?}"),
    )
}

/// Returns the key of the only claim.
pub(super) async fn claim_key(stage: &Stage) -> Item {
    let items = stage.pool.items_of(&stage.pool.companion).await;
    let mut partitions = items.iter().map(|item| item["PK"].as_s().unwrap());
    let claim = partitions.find(|partition| partition.starts_with("CLAIM#"));
    key(claim.unwrap(), "CLAIM")
}

async fn readable(stage: Stage) -> Outcome {
    stage.allocated("first", "play", START, 4).await;
    stage.pool.add(["second"]).await;
    let late = stage
        .claim(&account("second"), "play", &ClaimPrecondition::Unreadable)
        .await;
    must(
        matches!(late, ClaimOutcome::Refused(_)),
        &format!("{late:?}"),
    )?;
    let key = claim_key(&stage).await;
    stage.rewrite_companion(key, &[("sandbox_id", None)]).await;
    let won = stage
        .claim(&account("second"), "play", &ClaimPrecondition::Unreadable)
        .await;
    must(matches!(won, ClaimOutcome::Won(_)), &format!("{won:?}"))
}

async fn gone(stage: Stage) -> Outcome {
    stage.pool.add(["first"]).await;
    let claim = stage
        .claim(&account("first"), "play", &ClaimPrecondition::Unreadable)
        .await;
    must(
        matches!(claim, ClaimOutcome::Refused(StoredClaim::None)),
        &format!("{claim:?}"),
    )
}
