//! Allocation: bursts, prefixes, retries, and items changed outside the broker.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use sandbox_broker::{
    domain::{SandboxId, Status},
    store::Change,
};

use crate::support::{Answer, BrokerClient, Pool, START, account, assert_each_has_one, run_alone};

/// Sends one request for each caller, all concurrently, spread over the brokers.
async fn burst(
    brokers: &[BrokerClient],
    callers: usize,
    prefix: Option<&str>,
) -> Vec<(String, Answer)> {
    join_all((0..callers).map(|n| async move {
        let broker = &brokers[n % brokers.len()];
        let caller = format!("play-{n}");
        let mut request = broker.allocation(&caller);
        if let Some(prefix) = prefix {
            request = request.header("X-Sandbox-Name-Prefix", prefix);
        }
        (caller, broker.send(request).await)
    }))
    .await
}

fn sandboxes_by_caller(answers: &[(String, Answer)]) -> BTreeMap<String, Vec<String>> {
    let mut sandboxes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (caller, answer) in answers {
        assert!(answer.status.is_success(), "{caller}: {answer:?}");
        sandboxes
            .entry(caller.clone())
            .or_default()
            .push(answer.sandbox_id());
    }
    sandboxes
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_of_a_thousand_callers_gets_a_thousand_different_sandboxes() {
    let _alone = run_alone().await;
    let pool = Pool::of(1000).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let answers = burst(&[a.client.clone(), b.client.clone()], 1000, None).await;
    let other = answers.iter().find(|(_, answer)| answer.status != 201);
    assert!(other.is_none(), "{other:?}");
    assert_eq!(assert_each_has_one(&sandboxes_by_caller(&answers)), 1000);
    assert_eq!(
        pool.holdings().await,
        sandboxes_by_caller(&answers),
        "the table agrees with the responses"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_with_a_prefix_gets_every_match_and_nothing_else() {
    let _alone = run_alone().await;
    let pool = Pool::with_names((0..700).map(|n| format!("other-{n}"))).await;
    pool.add((0..300).map(|n| format!("cloud-{n}"))).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let answers = burst(&[a.client.clone(), b.client.clone()], 300, Some("cloud-")).await;
    let allocated = sandboxes_by_caller(&answers);
    assert_eq!(assert_each_has_one(&allocated), 300);
    assert!(
        allocated
            .values()
            .flatten()
            .all(|name| name.starts_with("cloud-")),
        "{allocated:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn small_candidate_index_finds_matches_on_the_last_pages_of_the_table() {
    let _alone = run_alone().await;
    let pool = Pool::new().await;
    // Long external ids, so that 1,500 sandboxes fill more than one page of 1 MB.
    let others = (0..1500).map(|n| {
        let mut account = account(&format!("a-other-{n:04}"));
        account.external_id.push_str(&"x".repeat(900));
        account
    });
    pool.insert(others.collect()).await;
    pool.add((0..200).map(|n| format!("z-wanted-{n:03}"))).await;
    let broker = pool
        .broker_with(&[("CANDIDATE_INDEX_CAPACITY", "1000")])
        .await;
    let answers = burst(std::slice::from_ref(&broker.client), 200, Some("z-wanted-")).await;
    assert_eq!(assert_each_has_one(&sandboxes_by_caller(&answers)), 200);
    let late = broker
        .client
        .allocation("late")
        .header("X-Sandbox-Name-Prefix", "z-wanted-");
    assert_eq!(
        broker.client.send(late).await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    assert_eq!(
        broker.client.allocate("late").await.status,
        201,
        "other sandboxes are still available"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_returns_the_sandbox_already_held() {
    let pool = Pool::of(10).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let first = a.client.allocate("play-1").await;
    assert_eq!(first.status, 201);
    for client in [&a.client, &b.client] {
        let again = client.allocate("play-1").await;
        assert_eq!(again.status, 200);
        assert_eq!(again.json(), first.json());
    }
    assert_eq!(pool.holdings().await["play-1"].len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_retries_on_two_brokers_get_one_sandbox() {
    let pool = Pool::of(1000).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let answers = join_all((0..200).flat_map(|n| {
        [&a.client, &b.client].map(|client| async move {
            let caller = format!("play-{n}");
            let answer = client.allocate(&caller).await;
            (caller, answer)
        })
    }))
    .await;
    for (caller, sandboxes) in sandboxes_by_caller(&answers) {
        assert_eq!(sandboxes.len(), 2, "{caller}");
        assert_eq!(sandboxes[0], sandboxes[1], "{caller}");
    }
    let created = answers
        .iter()
        .filter(|(_, answer)| answer.status == 201)
        .count();
    assert_eq!(created, 200);
    assert_eq!(assert_each_has_one(&pool.holdings().await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_gets_one_sandbox_per_key_and_shares_no_key_with_other_callers() {
    let pool = Pool::of(10).await;
    let broker = pool.broker().await;
    let mut ids = Vec::new();
    for (caller, key) in [
        ("play-1", "a"),
        ("play-1", "b"),
        ("play-2", "a"),
        ("play-1", "a"),
    ] {
        let answer = broker
            .client
            .send(
                broker
                    .client
                    .allocation(caller)
                    .header("Idempotency-Key", key),
            )
            .await;
        ids.push(answer.sandbox_id());
    }
    assert_eq!(ids[0], ids[3]);
    ids.pop();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_pool_rejects_new_callers_and_still_answers_retries() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let first = broker.client.allocate("play-1").await;
    broker.client.allocate("play-2").await;
    let rejected = broker.client.allocate("play-3").await;
    assert_eq!(
        (rejected.status.as_u16(), rejected.code().as_str()),
        (409, "NO_SANDBOXES_AVAILABLE")
    );
    assert_eq!(rejected.header("retry-after"), Some("30"));
    let again = broker.client.allocate("play-1").await;
    assert_eq!(
        (again.status.as_u16(), again.sandbox_id()),
        (200, first.sandbox_id())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn last_sandboxes_are_allocated_in_a_burst_of_too_many_callers() {
    let pool = Pool::of(20).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let answers = burst(&[a.client.clone(), b.client.clone()], 200, None).await;
    let (won, rejected): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|(_, answer)| answer.status == 201);
    assert_eq!(assert_each_has_one(&sandboxes_by_caller(&won)), 20);
    assert!(
        rejected
            .iter()
            .all(|(_, answer)| answer.code() == "NO_SANDBOXES_AVAILABLE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn released_sandbox_is_never_allocated_again() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let mut used = Vec::new();
    for _ in 0..3 {
        let answer = broker.client.allocate("play-1").await;
        assert_eq!(
            answer.status, 201,
            "a key whose sandbox was released gets a new one"
        );
        used.push(answer.sandbox_id());
        assert_eq!(
            broker
                .client
                .release(&answer.sandbox_id(), "play-1")
                .await
                .status,
            200
        );
    }
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 3);
    assert_eq!(
        broker.client.allocate("play-1").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_retries_after_a_release_get_one_new_sandbox() {
    let pool = Pool::of(400).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    for n in 0..10 {
        let caller = format!("play-{n}");
        let old = a.client.allocate(&caller).await.sandbox_id();
        a.client.release(&old, &caller).await;
        let answers = join_all((0..20).map(|n| {
            let client = if n % 2 == 0 { &a.client } else { &b.client };
            let caller = caller.clone();
            async move { (caller.clone(), client.allocate(&caller).await) }
        }))
        .await;
        let mut ids = sandboxes_by_caller(&answers).remove(&caller).unwrap();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1, "{caller}");
        assert_ne!(ids[0], old);
    }
    assert_eq!(assert_each_has_one(&pool.holdings().await), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_of_an_overdue_allocation_gets_a_new_sandbox_and_retires_the_old_one() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let old = broker.client.allocate("play-1").await.sandbox_id();
    broker.clock.advance(Duration::from_mins(4 * 60 + 30));
    assert_eq!(
        broker.client.allocate("play-1").await.sandbox_id(),
        old,
        "within the grace period"
    );
    broker.clock.advance(Duration::from_secs(1));
    let new = broker.client.allocate("play-1").await;
    assert_eq!(new.status, 201);
    assert_ne!(new.sandbox_id(), old);
    let old = pool
        .store
        .get(&SandboxId::parse(&old).unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(old.status, Status::PendingDeletion);
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_records_its_holder_and_expiry() {
    let pool = Pool::of(1).await;
    let broker = pool.broker_with(&[("LAB_DURATION_HOURS", "2")]).await;
    let request = broker
        .client
        .allocation("play-1")
        .header("X-Instruqt-Track-ID", "cloud-101");
    let body = broker.client.send(request).await.json();
    assert_eq!(body["allocated_at"], START.0);
    assert_eq!(body["expires_at"], START.0 + 2 * 3600);
    assert_eq!(body["name"], "lab-adventure-0000");
    assert_eq!(body["external_id"], "identity/accounts/lab-adventure-0000");
    let shown = broker
        .client
        .get("lab-adventure-0000", "play-1")
        .await
        .json();
    assert_eq!(shown["status"], "allocated");
    assert_eq!(shown["track_name"], "cloud-101");
    assert_eq!(shown["allocated_to_track"], "play-1");
    assert_eq!(shown["expires_at"], body["expires_at"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_renamed_by_another_broker_is_allocated_under_its_new_name_only() {
    let pool = Pool::with_names(["cloud-1"]).await;
    let broker = pool.broker().await;
    let mut renamed = account("cloud-1");
    renamed.name = "legacy-1".into();
    pool.apply(vec![Change::Update(renamed, Status::Available)])
        .await;
    let cloud = broker
        .client
        .allocation("play-1")
        .header("X-Sandbox-Name-Prefix", "cloud-");
    assert_eq!(
        broker.client.send(cloud).await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    let legacy = broker
        .client
        .allocation("play-1")
        .header("X-Sandbox-Name-Prefix", "legacy-");
    assert_eq!(broker.client.send(legacy).await.json()["name"], "legacy-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_item_fails_no_request() {
    use aws_sdk_dynamodb::types::AttributeValue::S;
    let pool = Pool::of(2).await;
    for (id, status) in [("broken-1", "available"), ("broken-2", "lost")] {
        pool.client
            .put_item()
            .table_name(&pool.table)
            .item("PK", S(format!("SBX#{id}")))
            .item("SK", S("META".into()))
            .item("status", S(status.into()))
            .item(
                "allocated_at",
                aws_sdk_dynamodb::types::AttributeValue::N("0".into()),
            )
            .send()
            .await
            .unwrap();
    }
    let broker = pool.broker().await;
    let answers = burst(std::slice::from_ref(&broker.client), 2, None).await;
    assert_eq!(assert_each_has_one(&sandboxes_by_caller(&answers)), 2);
    assert_eq!(
        broker.client.allocate("play-3").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    assert_eq!(
        broker.client.get("broken-1", "play-1").await.code(),
        "SANDBOX_NOT_FOUND"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_claim_is_overwritten() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let held = broker.client.allocate("play-1").await.sandbox_id();
    let items = pool.items_of(&pool.companion).await;
    let mut claim = items
        .into_iter()
        .find(|item| item["PK"].as_s().unwrap().starts_with("CLAIM#"))
        .unwrap();
    claim.remove("sandbox_id");
    pool.client
        .put_item()
        .table_name(&pool.companion)
        .set_item(Some(claim))
        .send()
        .await
        .unwrap();
    let again = broker.client.allocate("play-1").await;
    assert_eq!(
        (again.status.as_u16(), again.sandbox_id()),
        (200, held),
        "the index of callers still has it"
    );
    broker.client.release(&again.sandbox_id(), "play-1").await;
    let answers = join_all((0..10).map(|_| broker.client.allocate("play-1"))).await;
    let mut ids: Vec<_> = answers.iter().map(Answer::sandbox_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(
        ids.len(),
        1,
        "the first request to overwrite the claim wins"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn response_describes_the_account_as_stored_in_the_table() {
    let pool = Pool::with_names(["one", "two"]).await;
    let broker = pool.broker().await;
    let mut changed = [account("one"), account("two")];
    changed[0].external_id = "identity/accounts/new".into();
    changed[1].sfdc_account_id = Some("001NEW".into());
    pool.apply(
        changed
            .into_iter()
            .map(|account| Change::Update(account, Status::Available))
            .collect(),
    )
    .await;
    for caller in ["play-1", "play-2"] {
        let first = broker.client.allocate(caller).await;
        assert_eq!(first.status, 201);
        assert_eq!(first.json(), broker.client.allocate(caller).await.json());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn informational_attributes_may_be_of_any_type() {
    use aws_sdk_dynamodb::types::AttributeValue::{N, S};
    let pool = Pool::of(1).await;
    for (name, value) in [
        ("deletion_requested_at", S("never".into())),
        ("sfdc_account_id", N("1".into())),
    ] {
        pool.client
            .update_item()
            .table_name(&pool.table)
            .key("PK", S("SBX#lab-adventure-0000".into()))
            .key("SK", S("META".into()))
            .update_expression("SET #name = :value")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", value)
            .send()
            .await
            .unwrap();
    }
    let broker = pool.broker().await;
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    assert_eq!(broker.client.allocate("play-1").await.status, 200);
}
