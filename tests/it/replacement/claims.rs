//! Items of earlier versions and of the FastAPI service, and claims that do not lead to the sandbox.

use aws_sdk_dynamodb::types::AttributeValue::{self, N, S};
use sandbox_broker::domain::Status;

use super::claim;
use crate::support::{Pool, START, key};

/// Sets or removes attributes of the only claim, and returns its key.
async fn rewrite_claim(pool: &Pool, attributes: &[(&str, Option<AttributeValue>)]) {
    let partition = claim(pool).await["PK"].as_s().unwrap().clone();
    let key = key(&partition, "CLAIM");
    pool.rewrite(&pool.companion, key, attributes).await;
}

/// Items of earlier versions lack the name prefix, and those of the FastAPI service the end, the key and the claim.
#[tokio::test(flavor = "multi_thread")]
async fn allocation_of_an_earlier_version_or_of_the_fastapi_service_is_replaced() {
    for attributes in [
        &["name_prefix"][..],
        &["expires_at", "idempotency_key", "name_prefix"],
    ] {
        let pool = Pool::of(2).await;
        let broker = pool.broker().await;
        let old = broker.client.allocate("play-1").await.sandbox_id();
        let removed: Vec<_> = attributes.iter().map(|name| (*name, None)).collect();
        pool.rewrite_sandbox(&old, &removed).await;
        if attributes.contains(&"expires_at") {
            let claim = claim(&pool).await;
            let key = key(claim["PK"].as_s().unwrap(), "CLAIM");
            let table = &pool.companion;
            let delete = pool
                .client
                .delete_item()
                .table_name(table)
                .set_key(Some(key));
            delete.send().await.unwrap();
        }
        let new = broker.client.replace(&old, "play-1").await;
        assert_eq!(new.status, 201, "{new:?}");
        assert_eq!(broker.client.allocate("play-1").await.json(), new.json());
        assert_eq!(
            broker.client.replace(&old, "play-1").await.json(),
            new.json()
        );
        assert_eq!(claim(&pool).await["replacements"], N("1".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claim_that_does_not_lead_to_the_sandbox_is_overwritten() {
    for attributes in [
        &[("sandbox_id", None)][..],
        &[("sandbox_id", Some(S("long gone".to_owned())))],
        &[("allocated_at", Some(N("1".to_owned())))],
    ] {
        let pool = Pool::of(2).await;
        let broker = pool.broker().await;
        let old = broker.client.allocate("play-1").await.sandbox_id();
        rewrite_claim(&pool, attributes).await;
        let new = broker.client.replace(&old, "play-1").await;
        assert_eq!(new.status, 201, "{attributes:?}: {new:?}");
        assert_eq!(broker.client.allocate("play-1").await.json(), new.json());
        assert_eq!(pool.holdings().await["play-1"], [new.sandbox_id()]);
    }
}

/// Only another service can bring this about.
#[tokio::test(flavor = "multi_thread")]
async fn claim_on_another_sandbox_that_the_pair_holds_leads_to_that_one() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let claimed = broker.client.allocate("play-1").await;
    let sandboxes = pool.sandboxes().await;
    let free = sandboxes
        .iter()
        .find(|sandbox| sandbox.status == Status::Available);
    let second = free.unwrap().id().to_string();
    let attributes = [
        ("status", Some(S("allocated".to_owned()))),
        ("allocated_to_track", Some(S("play-1".to_owned()))),
        ("allocated_at", Some(N(START.0.to_string()))),
    ];
    pool.rewrite_sandbox(&second, &attributes).await;
    let answer = broker.client.replace(&second, "play-1").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, claimed.json())
    );
}
