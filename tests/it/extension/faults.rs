//! Extensions whose answer is lost between the broker and the database, or with the broker.

use reqwest::Method;
use serde_json::json;

use super::{HOUR, MAXIMUM, allocate, assert_outlives, claim, held, leases, stored};
use crate::support::{
    BrokerProcess, Pool, Proxy, START, TRACK, TestBroker,
    proxy::{Fault, Script},
};

/// A broker behind a proxy, and a sandbox that `play-1` holds for two of at most eight hours.
async fn behind_a_proxy() -> (Pool, Proxy, TestBroker, String) {
    let (pool, _, id) = held().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let variables = [("DDB_ENDPOINT_URL", endpoint.as_str()), MAXIMUM];
    let broker = pool.broker_with(&variables).await;
    (pool, proxy, broker, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_whose_answer_is_lost_on_its_way_is_made_once_and_answered() {
    for fault in [
        Fault::DropRequest,
        Fault::DropAnswer,
        Fault::CutAnswer,
        Fault::Conflict,
    ] {
        let (pool, proxy, broker, id) = behind_a_proxy().await;
        proxy.inject_once("TransactWriteItems", fault);
        let answer = broker.client.extend(&id, "play-1", 300).await;
        assert_eq!(answer.status, 200, "{fault:?}: {answer:?}");
        assert_eq!(proxy.injected()[&fault], 1);
        let sandbox = stored(&pool, &id).await;
        assert_eq!(sandbox.lease.extensions, 1, "{fault:?}");
        assert_eq!(answer.json()["expires_at"], sandbox.expires_at.unwrap().0);
        let again = broker.client.extend(&id, "play-1", 300).await;
        assert_eq!(again.json(), answer.json());
        assert_eq!(stored(&pool, &id).await, sandbox, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_without_any_answer_is_made_with_its_claim_or_not_at_all() {
    for (fault, is_made) in [(Fault::DropAnswer, true), (Fault::DropRequest, false)] {
        let (pool, proxy, broker, id) = behind_a_proxy().await;
        let before = leases(&pool).await;
        for _ in 0..3 {
            // Each attempt of the SDK meets the fault.
            proxy.inject_once("TransactWriteItems", fault);
        }
        let answer = broker.client.extend(&id, "play-1", 300).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (503, "STORE_UNAVAILABLE".into())
        );
        let end = START.0 + 5 * HOUR;
        if is_made {
            assert_eq!(stored(&pool, &id).await.expires_at.unwrap().0, end);
            assert_outlives(&claim(&pool).await.1, end);
        } else {
            assert_eq!(leases(&pool).await, before);
        }
        let again = broker.client.extend(&id, "play-1", 300).await;
        assert_eq!(again.json()["expires_at"], end);
        assert_outlives(&claim(&pool).await.1, end);
        assert_eq!(stored(&pool, &id).await.lease.extensions, 1, "{fault:?}");
        let metrics = broker.client.plain("/metrics").await.text;
        let line = r#"broker_extensions_total{outcome="error"} 1"#;
        assert!(metrics.lines().any(|it| it == line), "{metrics}");
    }
}

/// Kills a broker at each call of an extension: before it reads the sandbox, before it writes, and after it has written,
/// before it has the answer.
#[tokio::test(flavor = "multi_thread")]
async fn broker_killed_at_any_step_leaves_the_allocation_and_its_claim_with_the_same_end() {
    for (operation, arrives) in [
        ("GetItem", false),
        ("TransactWriteItems", false),
        ("TransactWriteItems", true),
    ] {
        let pool = Pool::of(1).await;
        let proxy = Proxy::to(pool.engine.endpoint()).await;
        let directory = tempfile::tempdir().unwrap();
        let endpoint = proxy.endpoint();
        let variables = pool.variables(&[("DDB_ENDPOINT_URL", endpoint.as_str()), MAXIMUM]);
        let broker = BrokerProcess::serve(directory.path(), &variables);
        let id = allocate(&broker.client, "play-1").await;
        let before = stored(&pool, &id).await.expires_at;
        if operation == "TransactWriteItems" && !arrives {
            // The call is held back and then lost with its broker.
            proxy.inject_once(operation, Fault::DropRequest);
        }
        let key = format!("SBX#{id}");
        let gate = proxy.hold(move |call| {
            call.operation == operation && call.json().to_string().contains(&key)
        });
        let request = tokio::spawn({
            let (id, client) = (id.clone(), broker.client.clone());
            async move {
                let path = format!("/v1/sandboxes/{id}/extend");
                let request = client.request(Method::POST, &path);
                let request = request
                    .bearer_auth(TRACK)
                    .header("X-Instruqt-Sandbox-ID", "play-1")
                    .json(&json!({ "minutes": 300 }));
                client.try_send(request).await.is_err()
            }
        });
        gate.wait_for_one().await;
        broker.kill();
        gate.open();
        assert!(request.await.unwrap(), "it was answered");
        proxy.until_quiet().await;
        let left = stored(&pool, &id).await;
        assert_eq!(left.expires_at > before, arrives, "{operation}");
        assert_eq!(left.lease.extensions, u32::from(arrives), "{operation}");
        assert_outlives(&claim(&pool).await.1, left.expires_at.unwrap().0);
        proxy.play(Script::default());
        let next = BrokerProcess::serve(directory.path(), &variables);
        // Time has passed, so only a shorter extension adds nothing to the first one.
        let minutes = if arrives { 240 } else { 300 };
        let again = next.client.extend(&id, "play-1", minutes).await;
        let after = stored(&pool, &id).await;
        assert_eq!(again.json()["expires_at"], after.expires_at.unwrap().0);
        assert_eq!(after.lease.extensions, 1, "{operation}");
        assert_outlives(&claim(&pool).await.1, after.expires_at.unwrap().0);
    }
}
