//! Plans, pauses, and refill that is off.

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::{domain::CreationState, store::RefillItems};
use serde_json::json;

use super::{Refilled, counts, creation, document, pool_entry};
use crate::support::{ADMIN, Proxy};

#[tokio::test(flavor = "multi_thread")]
async fn plan_reports_the_work_of_a_run_and_does_nothing() {
    let document = json!({ "pool": [
        pool_entry("big-", 20),
        pool_entry("lab", 2),
        { "name_prefix": "watched", "target_available": 9 },
    ]});
    for mode in ["on", "plan"] {
        // One of the four is for the creation without an answer.
        let more = [("REFILL_MODE", mode), ("REFILL_BATCH", "4")];
        let lab = Refilled::with(&document, &more).await;
        lab.write(&creation(1, CreationState::Attempted)).await;
        let before = lab.pool.items_of(&lab.pool.companion).await.len();
        let report = lab.broker.client.job("refill?plan=true").await;
        assert_eq!(
            (&report["plan"], &report["status"]),
            (&true.into(), &"completed".into())
        );
        assert_eq!(counts(&report, ["created", "adopted", "dropped"]), [0; 3]);
        let pools = report["pools"].as_array().unwrap();
        let of = |prefix: &str| pools.iter().find(|pool| pool["name_prefix"] == prefix);
        let (big, small) = (of("big-").unwrap(), of("lab").unwrap());
        assert_eq!(counts(big, ["target", "wanted", "creations"]), [20, 20, 3]);
        let names = ["wanted", "under_way", "creations", "look_ups"];
        assert_eq!(counts(small, names), [2, 1, 0, 1]);
        assert_eq!(of("watched"), None, "nothing creates its accounts");
        let calls = lab.simulator.calls();
        assert_eq!((calls.create, calls.find), (0, 0));
        let runs_and_audit = 3;
        let after = lab.pool.items_of(&lab.pool.companion).await;
        assert!(after.len() <= before + runs_and_audit, "{after:?}");
        assert_eq!(lab.items().await.creations.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_plan_never_creates_an_account() {
    let lab = Refilled::with(&document(3), &[("REFILL_MODE", "plan")]).await;
    let report = lab.refill().await;
    assert_eq!(
        (&report["plan"], &report["created"]),
        (&true.into(), &0.into())
    );
    assert_eq!(report["pools"][0]["creations"], 3);
    assert_eq!(lab.accounts().len(), 0);
    assert_eq!(lab.items().await, RefillItems::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn refill_that_is_off_is_refused_and_costs_a_sync_nothing() {
    let lab = Refilled::with(&document(3), &[("REFILL_MODE", "off")]).await;
    let answer = lab
        .broker
        .client
        .admin(Method::POST, "/v1/admin/refill")
        .await;
    assert_eq!(answer.code(), "JOB_OFF");
    assert!(
        answer.message().contains("REFILL_MODE"),
        "{}",
        answer.message()
    );

    let proxy = Proxy::to(lab.pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let queries = async |mode: &str| {
        let more = [
            ("REFILL_MODE", mode),
            ("DDB_ENDPOINT_URL", endpoint.as_str()),
        ];
        let broker = super::broker(&lab.pool, &lab.base_url, &more).await;
        proxy.take_calls();
        broker.client.job("sync").await;
        proxy.take_calls()["Query"]
    };
    let (off, on) = (queries("off").await, queries("on").await);
    assert_eq!(on, off + 1, "one query for each pool");
    assert_eq!(lab.simulator.calls().find, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_without_pools_reads_no_sandbox() {
    let lab = Refilled::with(&json!({}), &[]).await;
    let proxy = Proxy::to(lab.pool.engine.endpoint()).await;
    let more = [("DDB_ENDPOINT_URL", proxy.endpoint())];
    let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
    let broker = super::broker(&lab.pool, &lab.base_url, &more).await;
    proxy.take_calls();
    let report = broker.client.job("refill").await;
    assert_eq!(report["pools"], json!([]));
    let calls = proxy.take_calls();
    assert_eq!(calls.get("Scan"), None, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_refill_creates_nothing() {
    let lab = Refilled::new(3).await;
    let client = &lab.broker.client;
    let pause = client.request(Method::PUT, "/v1/admin/pauses/refill");
    let pause = pause
        .bearer_auth(ADMIN)
        .json(&json!({ "reason": "audit of accounts" }));
    assert_eq!(client.send(pause).await.status, 200);
    let report = lab.refill().await;
    assert_eq!(report["status"], "paused");
    assert!(
        report["stopped"]
            .as_str()
            .unwrap()
            .contains("audit of accounts")
    );
    assert_eq!(lab.accounts().len(), 0);
    client
        .admin(Method::DELETE, "/v1/admin/pauses/refill")
        .await;
    assert_eq!(lab.refill().await["created"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_ends_the_wait_for_unanswered_requests() {
    let more = [("REFILL_SETTLE_SEC", "600")];
    let lab = Refilled::with(&document(3), &more).await;
    lab.write(&creation(1, CreationState::Attempted)).await;
    let client = lab.broker.client.clone();
    let run = tokio::spawn(async move { client.job("refill").await });
    // The other creations do not wait.
    while lab.accounts().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let client = &lab.broker.client;
    let pause = client.request(Method::PUT, "/v1/admin/pauses/refill");
    let pause = pause.bearer_auth(ADMIN).json(&json!({ "reason": "audit" }));
    assert_eq!(client.send(pause).await.status, 200);
    let report = run.await.unwrap();
    assert_eq!(
        (&report["status"], &report["created"]),
        (&"paused".into(), &2.into())
    );
    assert_eq!(lab.open().await["lab-r000001"], CreationState::Attempted);
}
