//! Slots of a lab's quota that another allocation has taken meanwhile.

use futures_util::FutureExt;
use sandbox_broker::{
    domain::{Candidate, LabId},
    store::{AllocationRef, ClaimOutcome, ClaimPrecondition, NewAllocation, QuotaSlot, StoredSlot},
};

use super::stage::{Outcome, Scenario, Stage, allocation, holder, must, scenario};
use crate::support::{START, account};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("a slot that was never taken is taken once", |stage| {
            never_taken(stage).boxed()
        }),
        scenario(
            "a slot is taken again only while it points to the ended allocation",
            |stage| leftover(stage).boxed(),
        ),
    ]
}

fn allocation_ref(sandbox: &str, allocated_at: i64) -> AllocationRef {
    AllocationRef {
        sandbox_id: sandbox.to_owned(),
        allocated_at,
    }
}

/// Tries to allocate a sandbox to a caller of its name, and to take the lab's slot 7.
async fn take(stage: &Stage, sandbox: &str, leftover: Option<&AllocationRef>) -> ClaimOutcome {
    stage.pool.add([sandbox]).await;
    let (lab, holder) = (LabId::parse("cloud-101").unwrap(), holder(sandbox));
    let allocation = NewAllocation {
        quota: Some(QuotaSlot {
            lab: &lab,
            number: 7,
            leftover,
        }),
        ..allocation(&holder, START, 4)
    };
    let slot = stage.store.slot().await;
    let candidate = Candidate::from(&account(sandbox));
    let claim = slot.claim(&candidate, allocation, &ClaimPrecondition::New);
    claim.await.unwrap()
}

fn is_won(claim: &ClaimOutcome) -> Outcome {
    must(matches!(claim, ClaimOutcome::Won(_)), &format!("{claim:?}"))
}

fn is_taken_by(claim: &ClaimOutcome, sandbox: &str) -> Outcome {
    let taken = StoredSlot::Taken(allocation_ref(sandbox, START.0));
    must(
        matches!(claim, ClaimOutcome::QuotaSlot(Some(stored)) if *stored == taken),
        &format!("{claim:?}"),
    )
}

async fn never_taken(stage: Stage) -> Outcome {
    is_won(&take(&stage, "first", None).await)?;
    is_taken_by(&take(&stage, "second", None).await, "first")
}

async fn leftover(stage: Stage) -> Outcome {
    is_won(&take(&stage, "first", None).await)?;
    let first = allocation_ref("first", START.0);
    is_won(&take(&stage, "second", Some(&first)).await)?;
    is_taken_by(&take(&stage, "third", Some(&first)).await, "second")?;
    let earlier = allocation_ref("second", START.0 - 1);
    is_taken_by(&take(&stage, "fourth", Some(&earlier)).await, "second")
}
