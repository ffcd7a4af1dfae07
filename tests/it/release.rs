//! Release, reading and listing of sandboxes by their callers.

use std::time::Duration;

use futures_util::future::join_all;

use crate::support::{Pool, START};

#[tokio::test(flavor = "multi_thread")]
async fn repeated_release_returns_the_same_answer() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    let first = broker.client.release(&id, "play-1").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.json()["status"], "pending_deletion");
    assert_eq!(first.json()["deletion_requested_at"], START.0);
    broker.clock.advance(Duration::from_mins(1));
    let second = broker.client.release(&id, "play-1").await;
    assert_eq!((second.status, second.json()), (first.status, first.json()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_may_read_or_release_a_sandbox() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    assert_eq!(
        broker.client.get(&id, "play-2").await.code(),
        "NOT_SANDBOX_OWNER"
    );
    assert_eq!(
        broker.client.release(&id, "play-2").await.code(),
        "NOT_SANDBOX_OWNER"
    );
    let free = if id == "lab-adventure-0000" {
        "lab-adventure-0001"
    } else {
        "lab-adventure-0000"
    };
    assert_eq!(
        broker.client.get(free, "play-1").await.code(),
        "NOT_SANDBOX_OWNER"
    );
    assert_eq!(
        broker.client.release(free, "play-1").await.code(),
        "NOT_SANDBOX_OWNER"
    );
    assert_eq!(
        broker.client.get(&id, "play-1").await.json()["status"],
        "allocated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_sandbox_is_not_found() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    for id in ["2009521", "a%20b", "%ff", "caf%C3%A9", &"9".repeat(300)] {
        assert_eq!(
            broker.client.get(id, "play-1").await.code(),
            "SANDBOX_NOT_FOUND",
            "{id}"
        );
        assert_eq!(
            broker.client.release(id, "play-1").await.code(),
            "SANDBOX_NOT_FOUND",
            "{id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn release_is_accepted_until_the_grace_period_ends() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let (in_time, late) = (
        broker.client.allocate("in-time").await,
        broker.client.allocate("late").await,
    );
    broker.clock.advance(Duration::from_mins(4 * 60 + 30));
    assert_eq!(
        broker
            .client
            .release(&in_time.sandbox_id(), "in-time")
            .await
            .status,
        200
    );
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(
        broker
            .client
            .release(&late.sandbox_id(), "late")
            .await
            .code(),
        "ALLOCATION_EXPIRED"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_keeps_the_duration_with_which_it_started() {
    let pool = Pool::of(2).await;
    let long = pool.broker_with(&[("LAB_DURATION_HOURS", "8")]).await;
    let short = pool.broker_with(&[("LAB_DURATION_HOURS", "1")]).await;
    let of_long = long.client.allocate("long").await.sandbox_id();
    let of_short = short.client.allocate("short").await.sandbox_id();
    for broker in [&long, &short] {
        broker.clock.advance(Duration::from_hours(2));
    }
    assert_eq!(short.client.release(&of_long, "long").await.status, 200);
    assert_eq!(
        long.client.release(&of_short, "short").await.code(),
        "ALLOCATION_EXPIRED"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_lists_only_the_sandboxes_that_it_holds() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let mut mine = Vec::new();
    for key in ["a", "b", "c"] {
        let request = broker
            .client
            .allocation("play-1")
            .header("Idempotency-Key", key);
        mine.push(broker.client.send(request).await.sandbox_id());
    }
    broker.client.allocate("play-2").await;
    broker.client.release(&mine.remove(1), "play-1").await;
    let body = broker.client.list("play-1").await.json();
    let mut listed: Vec<_> = body["sandboxes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["sandbox_id"].as_str().unwrap())
        .collect();
    listed.sort_unstable();
    mine.sort_unstable();
    assert_eq!(listed, mine);
    assert_eq!(body["count"], 2);
    assert_eq!(broker.client.list("nobody").await.json()["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_releases_of_one_sandbox_return_the_same_answer() {
    let pool = Pool::of(1).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let id = a.client.allocate("play-1").await.sandbox_id();
    let id = id.as_str();
    let answers = join_all((0..40).map(|n| {
        let client = if n % 2 == 0 { &a.client } else { &b.client };
        async move { client.release(id, "play-1").await }
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(
        answers
            .windows(2)
            .all(|pair| pair[0].json() == pair[1].json())
    );
}
