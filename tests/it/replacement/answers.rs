//! Refusals, and what a repeated request is answered.

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::domain::Status;
use serde_json::{Value, json};

use super::{HOUR, status};
use crate::support::{ADMIN, Pool, START, TRACK, simulated_csp};

#[tokio::test(flavor = "multi_thread")]
async fn any_earlier_sandbox_resolves_to_the_current_one() {
    let pool = Pool::of(4).await;
    let (_simulator, base_url) = simulated_csp(0).await;
    let (a, b) = (
        pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await,
        pool.broker().await,
    );
    let first = a.client.allocate("play-1").await.sandbox_id();
    let second = a.client.replace(&first, "play-1").await;
    let again = b.client.replace(&first, "play-1").await;
    assert_eq!((again.status.as_u16(), again.json()), (200, second.json()));
    let second = second.sandbox_id();
    let third = b.client.replace(&second, "play-1").await;
    assert_eq!(third.status, 201);
    for cleaned in [false, true] {
        if cleaned {
            let report = a.client.job("cleanup").await;
            assert_eq!(report["deleted"], 2, "{report}");
        }
        for client in [&a.client, &b.client] {
            for old in [&first, &second] {
                let answer = client.replace(old, "play-1").await;
                assert_eq!(answer.status, 200, "{cleaned}: {answer:?}");
                assert_eq!(answer.json(), third.json());
            }
            // So does a replay of the allocation.
            assert_eq!(client.allocate("play-1").await.json(), third.json());
        }
        // The answer to others is that of a sandbox that they do not hold.
        let code = a.client.replace(&first, "play-2").await.code();
        let expected = if cleaned {
            "SANDBOX_NOT_FOUND"
        } else {
            "NOT_SANDBOX_OWNER"
        };
        assert_eq!(code, expected);
    }
    let holdings = pool.holdings().await;
    assert_eq!(holdings["play-1"], [third.sandbox_id()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_replacement_leaves_the_sandbox_with_its_holder() {
    let pool = Pool::of(6).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let mut current = client.allocate("play-1").await.sandbox_id();
    let taken = client.allocate("play-2").await.sandbox_id();
    for id in [taken.as_str(), "nope"] {
        let code = client.replace(id, "play-1").await.code();
        assert!(
            ["NOT_SANDBOX_OWNER", "SANDBOX_NOT_FOUND"].contains(&&*code),
            "{code}"
        );
    }
    let path = format!("/v1/sandboxes/{current}/replace");
    for body in [
        "",
        "{}",
        r#"{"reason": ""}"#,
        r#"{"reason": "a", "more": 1}"#,
        r#"["a"]"#,
    ] {
        let request = client
            .request(Method::POST, &path)
            .bearer_auth(TRACK)
            .header("X-Instruqt-Sandbox-ID", "play-1");
        let answer = client.send(request.body(body)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, "INVALID_BODY".into())
        );
    }
    let pause = "/v1/admin/pauses/allocations";
    let request = client.request(Method::PUT, pause).bearer_auth(ADMIN);
    let body = json!({ "reason": "CSP is being repaired" });
    assert_eq!(client.send(request.json(&body)).await.status, 200);
    let paused = client.replace(&current, "play-1").await;
    assert_eq!(
        (paused.status.as_u16(), paused.code()),
        (503, "ALLOCATIONS_PAUSED".into())
    );
    assert_eq!(client.admin(Method::DELETE, pause).await.status, 204);
    for _ in 0..3 {
        let answer = client.replace(&current, "play-1").await;
        assert_eq!(answer.status, 201, "{answer:?}");
        current = answer.sandbox_id();
    }
    let limit = client.replace(&current, "play-1").await;
    assert_eq!(
        (limit.status.as_u16(), limit.code()),
        (409, "REPLACEMENT_LIMIT_REACHED".into())
    );
    assert!(limit.message().contains("replaced 3 times"), "{limit:?}");
    let last = client.allocate("play-3").await;
    assert_eq!(last.status, 201);
    let none = client.replace(&taken, "play-2").await;
    assert_eq!(
        (none.status.as_u16(), none.code()),
        (409, "NO_SANDBOXES_AVAILABLE".into())
    );
    let holdings = pool.holdings().await;
    assert_eq!(
        (&holdings["play-1"], &holdings["play-2"]),
        (&vec![current], &vec![taken])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_that_is_no_longer_held_resolves_to_the_one_held_now_or_says_what_to_do() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let released = client.allocate("play-1").await.sandbox_id();
    client.release(&released, "play-1").await;
    let ended = client.replace(&released, "play-1").await;
    assert_eq!(
        (ended.status.as_u16(), ended.code()),
        (403, "ALLOCATION_EXPIRED".into())
    );
    assert!(ended.message().contains("allocate another"), "{ended:?}");
    let next = client.allocate("play-1").await;
    let answer = client.replace(&released, "play-1").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, next.json()));

    // Within the grace period it can be replaced, after it no more.
    broker.clock.advance(HOUR * 4 + Duration::from_mins(30));
    let second = client.replace(&next.sandbox_id(), "play-1").await;
    assert_eq!(second.status, 201, "{second:?}");
    broker.clock.advance(HOUR * 4 + Duration::from_mins(31));
    let late = client.replace(&second.sandbox_id(), "play-1").await;
    assert_eq!(
        (late.status.as_u16(), late.code()),
        (403, "ALLOCATION_EXPIRED".into())
    );
    client.job("auto-expire?force=true").await;
    for old in [second.sandbox_id(), next.sandbox_id(), released] {
        assert_eq!(
            client.replace(&old, "play-1").await.code(),
            "ALLOCATION_EXPIRED"
        );
    }
    let metrics = client.plain("/metrics").await.text;
    for counted in ["success\"} 1", "idempotent\"} 1", "expired\"} 5"] {
        let line = format!("broker_replacements_total{{outcome=\"{counted}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn release_of_a_replaced_sandbox_names_the_one_to_release() {
    let pool = Pool::of(3).await;
    let (_simulator, base_url) = simulated_csp(0).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    let client = &broker.client;
    let first = client.allocate("play-1").await.sandbox_id();
    let second = client.replace(&first, "play-1").await.sandbox_id();
    let third = client.replace(&second, "play-1").await.sandbox_id();
    for deleted in [false, true] {
        if deleted {
            client.job("cleanup").await;
        }
        for (old, new) in [(&first, &second), (&second, &third)] {
            let answer = client.release(old, "play-1").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let body = answer.json();
            assert_eq!(body["replaced_by"], *new);
            assert_eq!(body["deletion_requested_at"], START.0);
            let status = if deleted {
                Value::Null
            } else {
                "pending_deletion".into()
            };
            assert_eq!(body["status"], status);
            let of_another = client.release(old, "play-2").await;
            assert!(!of_another.status.is_success(), "{of_another:?}");
        }
        assert_eq!(status(&pool, &third).await, Some(Status::Allocated));
    }
    let answer = client.release(&third, "play-1").await;
    assert_eq!(answer.json()["replaced_by"], Value::Null);
    assert!(pool.holdings().await.is_empty());
    client.job("cleanup").await;
    assert_eq!(
        client.release(&third, "play-1").await.code(),
        "SANDBOX_NOT_FOUND"
    );
}
