//! Changes of the policy that rest on an outdated read.

use futures_util::FutureExt;
use sandbox_broker::{
    domain::{AuditAction, AuditRecord, AuditTarget, Author, PolicyDocument, PolicyVersion, Role},
    store::StoredPolicy,
};

use super::stage::{Outcome, Scenario, Stage, must, scenario};
use crate::support::START;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("the first version of the policy has one author", |stage| {
            first(stage).boxed()
        }),
        scenario("only the version that was read is replaced", |stage| {
            replaced(stage).boxed()
        }),
    ]
}

fn version(number: u32, author: &str) -> PolicyVersion {
    PolicyVersion {
        number,
        author: author.into(),
        at: START,
        reason: None,
    }
}

async fn change(stage: &Stage, before: Option<&PolicyVersion>, after: &PolicyVersion) -> bool {
    let author = Author {
        name: after.author.clone(),
        role: Some(Role::Admin),
        request_id: after.author.to_string(),
        address: None,
    };
    let (action, target) = (AuditAction::SetPolicy, AuditTarget::Policy);
    let record = AuditRecord::done(START.0 * 1000, author, action, target);
    let after = StoredPolicy {
        version: after.clone(),
        document: PolicyDocument::default(),
    };
    let changed = stage.store.change_policy(before, &after, &record);
    changed.await.unwrap()
}

async fn author(stage: &Stage) -> String {
    let version = stage.pool.store.policy_in_force().await.unwrap().unwrap();
    let stored = stage.pool.store.policy(version.number).await.unwrap();
    assert_eq!(stored.unwrap().version, version);
    version.author.to_string()
}

async fn first(stage: Stage) -> Outcome {
    assert!(change(&stage, None, &version(1, "first")).await);
    must(
        !change(&stage, None, &version(1, "second")).await,
        "the first version was written twice",
    )?;
    must(author(&stage).await == "first", "it was overwritten")
}

async fn replaced(stage: Stage) -> Outcome {
    let first = version(1, "first");
    assert!(change(&stage, None, &first).await);
    assert!(change(&stage, Some(&first), &version(2, "second")).await);
    must(
        !change(&stage, Some(&first), &version(2, "third")).await,
        "version 1 was replaced twice",
    )?;
    must(author(&stage).await == "second", "it was overwritten")
}
