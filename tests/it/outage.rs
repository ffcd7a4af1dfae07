//! Database calls: their number per request, and an unavailable database.

use crate::support::{Pool, Proxy, TestBroker};

async fn behind_a_proxy(pool: &Pool) -> (Proxy, TestBroker) {
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    proxy.take_calls();
    (proxy, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn new_allocation_is_one_call_and_a_replay_at_most_two() {
    let pool = Pool::of(300).await;
    let (proxy, broker) = behind_a_proxy(&pool).await;
    // The candidate index may be refreshed in the background meanwhile.
    let without_refresh = |mut calls: std::collections::BTreeMap<String, usize>| {
        calls.remove("Query");
        calls
    };
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    let fresh = without_refresh(proxy.take_calls());
    assert_eq!(fresh, [("TransactWriteItems".to_owned(), 1)].into());
    let with_terms = broker.client.allocation("play-2");
    let with_terms = with_terms.body("{\"duration_minutes\": 5}");
    assert_eq!(broker.client.send(with_terms).await.status, 201);
    assert_eq!(without_refresh(proxy.take_calls()), fresh);
    let replay = broker.client.allocate("play-1").await;
    assert_eq!(replay.status, 200);
    let calls = without_refresh(proxy.take_calls());
    assert_eq!(
        calls,
        [
            ("GetItem".to_owned(), 1),
            ("TransactWriteItems".to_owned(), 1)
        ]
        .into()
    );
    broker.client.release(&replay.sandbox_id(), "play-1").await;
    assert_eq!(
        without_refresh(proxy.take_calls()),
        [("UpdateItem".to_owned(), 1)].into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_database_is_a_503_until_it_recovers() {
    let pool = Pool::of(10).await;
    let (mut proxy, broker) = behind_a_proxy(&pool).await;
    let held = broker.client.allocate("play-1").await;
    proxy.switch_off().await;
    let id = held.sandbox_id();
    for answer in [
        broker.client.allocate("play-2").await,
        broker.client.allocate("play-1").await,
        broker.client.get(&id, "play-1").await,
        broker.client.list("play-1").await,
        broker.client.release(&id, "play-1").await,
        broker
            .client
            .admin(reqwest::Method::GET, "/v1/admin/stats")
            .await,
    ] {
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (503, "STORE_UNAVAILABLE")
        );
        assert!(
            !answer.text.contains("127.0.0.1"),
            "the cause is only logged: {answer:?}"
        );
    }
    let not_ready = broker.client.plain("/readyz").await;
    assert_eq!(not_ready.status, 503);
    let reason = not_ready.json()["checks"]["dynamodb"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        reason.contains("unavailable") || reason.contains("no answer"),
        "{reason}"
    );
    assert_eq!(broker.client.plain("/healthz").await.status, 200);
    proxy.switch_on();
    let again = broker.client.allocate("play-1").await;
    assert_eq!(
        (again.status.as_u16(), again.sandbox_id()),
        (200, held.sandbox_id())
    );
    assert_eq!(broker.client.allocate("play-2").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_at_an_empty_pool_share_one_scan() {
    let pool = Pool::new().await;
    let (proxy, broker) = behind_a_proxy(&pool).await;
    let answers = futures_util::future::join_all((0..200).map(|n| {
        let client = &broker.client;
        async move { client.allocate(&format!("play-{n}")).await.code() }
    }))
    .await;
    assert!(answers.iter().all(|code| code == "NO_SANDBOXES_AVAILABLE"));
    let queries = proxy.take_calls().get("Query").copied().unwrap_or(0);
    assert!(queries <= 20, "{queries} queries for 200 requests");
}
