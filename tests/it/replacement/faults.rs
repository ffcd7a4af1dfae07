//! Lost answers, and brokers that are killed.

use futures_util::future::join;

use crate::support::{BrokerProcess, Pool, Proxy, TestBroker, proxy::Fault};

/// A broker behind a proxy, another one that is not, and the sandbox that `play-1` holds.
async fn behind_a_proxy(count: usize) -> (Pool, Proxy, [TestBroker; 2], String) {
    let pool = Pool::of(count).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let behind = pool.broker_behind(&proxy).await;
    let id = behind.client.allocate("play-1").await.sandbox_id();
    let brokers = [behind, pool.broker().await];
    (pool, proxy, brokers, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn replacement_whose_answer_is_lost_on_its_way_is_made_once_and_answered() {
    for fault in [
        Fault::DropRequest,
        Fault::DropAnswer,
        Fault::CutAnswer,
        Fault::Conflict,
    ] {
        let (pool, proxy, [broker, other], old) = behind_a_proxy(3).await;
        proxy.inject_once("TransactWriteItems", fault);
        let answer = broker.client.replace(&old, "play-1").await;
        assert_eq!(answer.status, 201, "{fault:?}: {answer:?}");
        assert_eq!(proxy.injected()[&fault], 1);
        assert_eq!(pool.holdings().await["play-1"], [answer.sandbox_id()]);
        let again = other.client.replace(&old, "play-1").await;
        assert_eq!((again.status.as_u16(), again.json()), (200, answer.json()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replacement_without_any_answer_is_made_once_however_often_it_is_repeated() {
    for (fault, is_made) in [(Fault::DropAnswer, true), (Fault::DropRequest, false)] {
        let (pool, proxy, brokers, old) = behind_a_proxy(3).await;
        for _ in 0..3 {
            // Each attempt of the SDK meets the fault.
            proxy.inject_once("TransactWriteItems", fault);
        }
        let answer = brokers[0].client.replace(&old, "play-1").await;
        let expected = (503, "STORE_UNAVAILABLE".to_owned());
        assert_eq!((answer.status.as_u16(), answer.code()), expected);
        let held = pool.holdings().await["play-1"].clone();
        assert_eq!((held.len(), held[0] != old), (1, is_made));
        let [next, last] = [&brokers[1], &brokers[0]].map(|it| it.client.replace(&old, "play-1"));
        let (next, last) = (next.await, last.await);
        let status = if is_made { 200 } else { 201 };
        assert_eq!((next.status.as_u16(), last.status.as_u16()), (status, 200));
        assert_eq!(next.json(), last.json());
        assert_eq!(pool.holdings().await["play-1"], [next.sandbox_id()]);
    }
}

/// A replacement may move the claim between the two reads of a retry that finds the pool empty.
#[tokio::test(flavor = "multi_thread")]
async fn retry_of_an_allocation_during_a_replacement_is_not_refused() {
    let (pool, proxy, [broker, other], old) = behind_a_proxy(1).await;
    let key = format!("SBX#{old}");
    let gate = proxy
        .hold(move |call| call.operation == "GetItem" && call.json().to_string().contains(&key));
    let retry = broker.client.allocate("play-1");
    let replacing = async {
        gate.wait_for_one().await;
        pool.add(["lab-more"]).await;
        let replaced = other.client.replace(&old, "play-1").await;
        gate.open();
        replaced
    };
    let (retried, replaced) = join(retry, replacing).await;
    assert_eq!(replaced.status, 201, "{replaced:?}");
    assert_eq!(
        (retried.status.as_u16(), retried.json()),
        (200, replaced.json())
    );
}

/// Kills a broker at each call of a replacement: before it reads the sandbox, before it writes, and after it has written,
/// before it has the answer.
#[tokio::test(flavor = "multi_thread")]
async fn broker_killed_at_any_step_has_replaced_the_sandbox_or_not() {
    for (operation, arrives) in [
        ("GetItem", false),
        ("TransactWriteItems", false),
        ("TransactWriteItems", true),
    ] {
        let pool = Pool::of(3).await;
        let proxy = Proxy::to(pool.engine.endpoint()).await;
        let directory = tempfile::tempdir().unwrap();
        let endpoint = proxy.endpoint();
        let variables = pool.variables(&[
            ("DDB_ENDPOINT_URL", endpoint.as_str()),
            ("LOG_LEVEL", "info"),
        ]);
        let broker = BrokerProcess::serve(directory.path(), &variables);
        let next = BrokerProcess::serve(directory.path(), &variables);
        let old = broker.client.allocate("play-1").await.sandbox_id();
        if operation == "TransactWriteItems" && !arrives {
            // The call is held back and then lost with its broker.
            proxy.inject_once(operation, Fault::DropRequest);
        }
        let key = format!("SBX#{old}");
        let gate = proxy.hold(move |call| {
            call.operation == operation && call.json().to_string().contains(&key)
        });
        let (client, id) = (broker.client.clone(), old.clone());
        let request = tokio::spawn(async move {
            let request = client.replacement(&id, "play-1");
            client.try_send(request).await.is_err()
        });
        gate.wait_for_one().await;
        broker.kill();
        gate.open();
        assert!(request.await.unwrap(), "it was answered");
        proxy.until_quiet().await;
        let held = pool.holdings().await["play-1"].clone();
        assert_eq!((held.len(), held[0] != old), (1, arrives), "{operation}");
        let again = next.client.replace(&old, "play-1").await;
        let status = if arrives { 200 } else { 201 };
        assert_eq!(again.status, status, "{again:?}");
        assert_eq!(pool.holdings().await["play-1"], [again.sandbox_id()]);
    }
}
