//! The sync job: differences, guards, faults of CSP, concurrent allocations.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use sandbox_broker::{
    csp::simulator::{Call, Fault, FaultKind, Simulator},
    domain::{Account, SandboxId, Status},
    store::{Change, tombstone_key},
};
use serde_json::{Value, json};

use crate::support::{Pool, Proxy, START, TestBroker, simulated_csp};

async fn broker_with_csp(accounts: u64) -> (Pool, Simulator, TestBroker) {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(accounts).await;
    let broker = pool
        .broker_with(&[
            ("CSP_BASE_URL", &base_url),
            ("CSP_TIMEOUT_READ_SEC", "1"),
            ("BACKOFF_MAX_MS", "25"),
        ])
        .await;
    (pool, simulator, broker)
}

async fn sync(broker: &TestBroker) -> Value {
    broker.client.job("sync").await
}

async fn by_status(pool: &Pool) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for sandbox in pool.sandboxes().await {
        *counts.entry(sandbox.status.as_str()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn first_sync_fills_the_pool_and_its_sandboxes_can_be_allocated_immediately() {
    let (_pool, simulator, broker) = broker_with_csp(60).await;
    let report = sync(&broker).await;
    assert_eq!(
        (&report["status"], &report["synced"], &report["inserted"]),
        (&"completed".into(), &60.into(), &60.into())
    );
    let answer = broker.client.allocate("play-1").await;
    assert_eq!(answer.status, 201);
    let account = simulator
        .accounts()
        .into_iter()
        .find(|account| account.csp_id.to_string() == answer.sandbox_id());
    assert_eq!(answer.json()["name"], account.unwrap().name);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_without_differences_writes_no_sandbox() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let (_simulator, base_url) = simulated_csp(60).await;
    let broker = pool
        .broker_with(&[
            ("CSP_BASE_URL", &base_url),
            ("DDB_ENDPOINT_URL", &proxy.endpoint()),
        ])
        .await;
    sync(&broker).await;
    proxy.take_calls();
    let report = sync(&broker).await;
    assert_eq!(
        (&report["synced"], &report["inserted"], &report["updated"]),
        (&60.into(), &0.into(), &0.into())
    );
    let calls = proxy.take_calls();
    let bookkeeping = [
        // The state of CSP.
        ("GetItem".to_owned(), 1),
        ("PutItem".to_owned(), 2),
        ("Query".to_owned(), 4),
        ("Scan".to_owned(), 1),
        // The run record, with the audit record of its start.
        ("TransactWriteItems".to_owned(), 1),
        ("UpdateItem".to_owned(), 2),
    ];
    assert_eq!(
        calls,
        bookkeeping.into(),
        "the sandboxes and tombstones are read; only the lease, the records of the run and the number of \
         unreadable items are written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unlisted_sandbox_becomes_stale_and_is_restored_when_listed_again() {
    let (pool, simulator, broker) = broker_with_csp(10).await;
    sync(&broker).await;
    simulator.inject([Fault {
        times: Some(1),
        ..Fault::always(FaultKind::Halved)
    }]);
    assert_eq!(sync(&broker).await["marked_stale"], 5);
    assert_eq!(
        by_status(&pool).await,
        [("available", 5), ("stale", 5)].into()
    );
    for n in 0..5 {
        assert_eq!(
            broker.client.allocate(&format!("play-{n}")).await.status,
            201
        );
    }
    assert_eq!(
        broker.client.allocate("play-5").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    assert_eq!(sync(&broker).await["restored"], 5);
    assert_eq!(broker.client.allocate("play-5").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_without_most_accounts_marks_nothing_stale_unless_forced() {
    let (pool, simulator, broker) = broker_with_csp(12).await;
    sync(&broker).await;
    simulator.inject([Fault::always(FaultKind::Empty)]);
    let report = sync(&broker).await;
    assert_eq!(report["marked_stale"], 0);
    assert!(
        report["stale_guard"]
            .as_str()
            .unwrap()
            .contains("force=true"),
        "{report}"
    );
    for account in simulator.accounts().iter().take(7) {
        simulator.remove_account(account.csp_id).unwrap();
    }
    simulator.inject([]);
    assert_eq!(
        sync(&broker).await["marked_stale"],
        0,
        "7 of 12 are more than half"
    );
    assert_eq!(by_status(&pool).await, [("available", 12)].into());
    let forced = broker
        .client
        .admin(Method::POST, "/v1/admin/sync?force=true")
        .await
        .json();
    assert_eq!(forced["marked_stale"], 7);
    let rejected = broker
        .client
        .admin(Method::POST, "/v1/admin/sync?force=maybe")
        .await;
    assert_eq!(
        (rejected.status.as_u16(), rejected.code().as_str()),
        (400, "INVALID_PARAMETER")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_never_changes_a_sandbox_that_has_or_had_a_holder() {
    let (pool, simulator, broker) = broker_with_csp(4).await;
    sync(&broker).await;
    let held = broker.client.allocate("play-1").await.sandbox_id();
    let released = broker.client.allocate("play-2").await.sandbox_id();
    broker.client.release(&released, "play-2").await;
    let before = pool.sandboxes().await;
    for account in simulator.accounts() {
        if [&held, &released].contains(&&account.csp_id.to_string()) {
            simulator.remove_account(account.csp_id).unwrap();
        }
    }
    sync(&broker).await;
    let find = |all: &[sandbox_broker::domain::Sandbox], id: &str| {
        all.iter()
            .find(|sandbox| sandbox.id().as_str() == id)
            .cloned()
            .unwrap()
    };
    let after = pool.sandboxes().await;
    for id in [&held, &released] {
        assert_eq!(find(&after, id), find(&before, id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn used_sandbox_marked_stale_by_another_service_is_not_restored() {
    let (pool, _simulator, broker) = broker_with_csp(1).await;
    sync(&broker).await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    pool.client
        .update_item()
        .table_name(&pool.table)
        .key(
            "PK",
            aws_sdk_dynamodb::types::AttributeValue::S(format!("SBX#{id}")),
        )
        .key(
            "SK",
            aws_sdk_dynamodb::types::AttributeValue::S("META".into()),
        )
        .update_expression("SET #s = :stale")
        .expression_attribute_names("#s", "status")
        .expression_attribute_values(
            ":stale",
            aws_sdk_dynamodb::types::AttributeValue::S("stale".into()),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(sync(&broker).await["restored"], 0);
    let restore = [Change::Restore(
        crate::support::account(&id),
        Status::Available,
    )];
    assert_eq!(
        pool.store.apply(None, &restore, 4, START).await.unwrap(),
        [false],
        "the condition of the write rejects it too"
    );
    let sandbox = pool
        .store
        .get(&SandboxId::parse(&id).unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(sandbox.status, Status::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstone_prevents_the_insertion_of_its_sandbox_only() {
    let (pool, simulator, broker) = broker_with_csp(30).await;
    let gone = simulator.accounts()[7].csp_id.to_string();
    pool.client
        .put_item()
        .table_name(&pool.companion)
        .set_item(Some(tombstone_key(&SandboxId::parse(&gone).unwrap())))
        .send()
        .await
        .unwrap();
    assert_eq!(sync(&broker).await["inserted"], 29);
    assert!(
        pool.sandboxes()
            .await
            .iter()
            .all(|sandbox| sandbox.id().as_str() != gone)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_and_duplicate_entries_are_skipped_and_counted() {
    let (pool, simulator, broker) = broker_with_csp(20).await;
    sync(&broker).await;
    simulator.inject([
        Fault {
            on: Call::List,
            times: Some(1),
            ..Fault::always(FaultKind::Broken)
        },
        Fault {
            on: Call::List,
            times: Some(1),
            ..Fault::always(FaultKind::Duplicates)
        },
    ]);
    let report = sync(&broker).await;
    assert_eq!(
        (
            &report["synced"],
            &report["skipped"],
            &report["marked_stale"]
        ),
        (&19.into(), &5.into(), &0.into())
    );
    let report = sync(&broker).await;
    assert_eq!(
        (
            &report["synced"],
            &report["duplicates"],
            &report["inserted"]
        ),
        (&20.into(), &20.into(), &0.into())
    );
    assert_eq!(by_status(&pool).await, [("available", 20)].into());
}

/// An entry of CSP's list.
fn entry(csp_id: impl Into<Value>, uuid: &str) -> Value {
    json!({
        "id": format!("identity/accounts/{uuid}"), "name": format!("lab-{uuid}"), "csp_id": csp_id.into(),
        "account_type": "sandbox", "state": "active",
    })
}

async fn sync_with(broker: &TestBroker, simulator: &Simulator, body: Value) -> Value {
    simulator.inject([Fault::always(FaultKind::Answer { body })]);
    sync(broker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_unicode_costs_no_account() {
    let (pool, simulator, broker) = broker_with_csp(20).await;
    simulator.inject([Fault::always(FaultKind::Garbled)]);
    let report = sync(&broker).await;
    assert_eq!(
        (&report["inserted"], &report["skipped"]),
        (&20.into(), &0.into())
    );
    let sandboxes = pool.sandboxes().await;
    let repaired = sandboxes
        .iter()
        .filter(|sandbox| sandbox.account.name == "lab \u{fffd}");
    assert_eq!(repaired.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_attribute_of_another_type_costs_no_account() {
    let (_pool, simulator, broker) = broker_with_csp(0).await;
    let mut accounts = [entry(1, "a"), entry(2, "b")];
    accounts[0]["sfdc_account_id"] = json!(123);
    accounts[1]["created_at"] = json!(1_774_000_000);
    let report = sync_with(&broker, &simulator, json!({ "results": accounts })).await;
    assert_eq!(
        (&report["inserted"], &report["skipped"]),
        (&2.into(), &0.into()),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn list_may_be_bare_and_an_absent_one_is_empty() {
    let (pool, simulator, broker) = broker_with_csp(0).await;
    let accounts = [entry(1, "a"), entry(2, "b")];
    for list in [json!(accounts), json!({ "result": accounts })] {
        assert_eq!(sync_with(&broker, &simulator, list).await["synced"], 2);
    }
    for empty in [json!(null), json!({}), json!({ "results": null })] {
        let report = sync_with(&broker, &simulator, empty).await;
        assert_eq!(
            (&report["synced"], &report["marked_stale"]),
            (&0.into(), &0.into())
        );
        assert!(report["stale_guard"].is_string(), "{report}");
    }
    assert_eq!(by_status(&pool).await, [("available", 2)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn account_under_two_ids_is_one_sandbox() {
    let (pool, simulator, broker) = broker_with_csp(0).await;
    let list = json!({ "results": [entry(1, "a"), entry(2, "a"), entry(3, "b")] });
    let report = sync_with(&broker, &simulator, list).await;
    assert_eq!(
        (
            &report["synced"],
            &report["inserted"],
            &report["duplicates"]
        ),
        (&2.into(), &2.into(), &1.into())
    );
    for n in 0..2 {
        let answer = broker.client.allocate(&format!("play-{n}")).await;
        assert_eq!(answer.status, 201);
    }
    let renumbered = json!({ "results": [entry(8, "a"), entry(9, "b")] });
    let report = sync_with(&broker, &simulator, renumbered).await;
    assert_eq!(report["inserted"], 0);
    assert_eq!(by_status(&pool).await, [("allocated", 2)].into());
    assert_eq!(
        broker.client.allocate("play-2").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn account_is_pooled_once_it_has_a_positive_csp_id() {
    let (pool, simulator, broker) = broker_with_csp(0).await;
    let mut without = entry(1, "d");
    without.as_object_mut().unwrap().remove("csp_id");
    let list =
        json!({ "results": [entry(0, "a"), entry(-1, "b"), entry(json!(null), "c"), without] });
    let report = sync_with(&broker, &simulator, list).await;
    assert_eq!(
        (
            &report["synced"],
            &report["inserted"],
            &report["unnumbered"]
        ),
        (&0.into(), &0.into(), &4.into())
    );
    let list = json!({ "results": [entry(1, "a"), entry(2, "x/"), entry(3, "x?y")] });
    let report = sync_with(&broker, &simulator, list).await;
    assert_eq!(
        (&report["inserted"], &report["skipped"]),
        (&1.into(), &2.into()),
        "an account that cannot be deleted is not pooled"
    );
    assert_eq!(by_status(&pool).await, [("available", 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn second_available_sandbox_of_an_account_becomes_stale() {
    let (pool, simulator, broker) = broker_with_csp(0).await;
    // As earlier versions, and the FastAPI service, have inserted them.
    for id in ["0", "7"] {
        let account = Account {
            external_id: "identity/accounts/a".to_owned(),
            ..crate::support::account(id)
        };
        pool.apply(vec![Change::Insert(account, Status::Available)])
            .await;
    }
    let list = json!({ "results": [entry(7, "a")] });
    let report = sync_with(&broker, &simulator, list.clone()).await;
    assert_eq!(
        (&report["marked_stale"], &report["duplicates"]),
        (&1.into(), &1.into())
    );
    assert_eq!(sync_with(&broker, &simulator, list).await["restored"], 0);
    assert_eq!(broker.client.allocate("play-1").await.sandbox_id(), "7");
    assert_eq!(
        broker.client.allocate("play-2").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn paged_list_is_read_to_the_end() {
    let (pool, simulator, broker) = broker_with_csp(25).await;
    simulator.inject([Fault::always(FaultKind::Paged { size: 10 })]);
    for inserted in [25, 0] {
        let report = sync(&broker).await;
        assert_eq!(
            (
                &report["synced"],
                &report["inserted"],
                &report["marked_stale"]
            ),
            (&25.into(), &inserted.into(), &0.into())
        );
        assert!(report["stale_guard"].is_null(), "{report}");
    }
    assert_eq!(simulator.calls().list, 6);
    assert_eq!(by_status(&pool).await, [("available", 25)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_list_marks_nothing_stale_unless_forced() {
    let (pool, simulator, broker) = broker_with_csp(12).await;
    sync(&broker).await;
    simulator.add_accounts(1).unwrap();
    let first_page = Fault::always(FaultKind::FirstPage { size: 10 });
    let no_second_page = [
        Fault {
            times: Some(1),
            ..first_page.clone()
        },
        Fault::always(FaultKind::Status { code: 400 }),
    ];
    for faults in [vec![first_page.clone()], no_second_page.into()] {
        simulator.inject(faults);
        let report = sync(&broker).await;
        assert_eq!(report["marked_stale"], 0);
        assert!(
            report["stale_guard"].as_str().unwrap().contains("10 of 13"),
            "{report}"
        );
    }
    assert_eq!(by_status(&pool).await, [("available", 12)].into());
    simulator.inject([first_page]);
    let forced = broker.client.job("sync?force=true").await;
    assert_eq!(forced["marked_stale"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_failure_of_csp_is_retried() {
    let (_pool, simulator, broker) = broker_with_csp(5).await;
    for kind in [
        FaultKind::Status { code: 500 },
        FaultKind::Html,
        FaultKind::Reset,
        FaultKind::Hang,
        FaultKind::RateLimit {
            retry_after_sec: Some(1),
        },
    ] {
        simulator.inject([Fault {
            times: Some(1),
            ..Fault::always(kind.clone())
        }]);
        let report = sync(&broker).await;
        assert_eq!(report["synced"], 5, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_failure_of_csp_is_reported_and_changes_nothing() {
    let (pool, simulator, broker) = broker_with_csp(6).await;
    sync(&broker).await;
    let cases = [
        (
            FaultKind::Status { code: 500 },
            503,
            "CSP_UNAVAILABLE",
            "60",
        ),
        (
            FaultKind::Status { code: 503 },
            503,
            "CSP_UNAVAILABLE",
            "60",
        ),
        (FaultKind::Html, 503, "CSP_UNAVAILABLE", "60"),
        (FaultKind::Hang, 503, "CSP_UNAVAILABLE", "60"),
        (
            FaultKind::RateLimit {
                retry_after_sec: Some(900),
            },
            503,
            "CSP_UNAVAILABLE",
            "900",
        ),
        (FaultKind::Status { code: 401 }, 502, "CSP_ERROR", ""),
        (FaultKind::Status { code: 403 }, 502, "CSP_ERROR", ""),
        (FaultKind::Status { code: 400 }, 502, "CSP_ERROR", ""),
    ];
    for (kind, status, code, retry_after) in cases {
        simulator.inject([Fault::always(kind.clone())]);
        let answer = broker.client.admin(Method::POST, "/v1/admin/sync").await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{kind:?}"
        );
        assert_eq!(
            answer.header("retry-after").unwrap_or_default(),
            retry_after,
            "{kind:?}"
        );
    }
    assert_eq!(by_status(&pool).await, [("available", 6)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_continues_after_its_client_disconnects() {
    let (pool, simulator, broker) = broker_with_csp(30).await;
    simulator.inject([Fault {
        times: Some(1),
        ..Fault::always(FaultKind::Slow { delay_ms: 300 })
    }]);
    let request = broker
        .client
        .request(Method::POST, "/v1/admin/sync")
        .bearer_auth(crate::support::ADMIN);
    let disconnected = broker
        .client
        .try_send(request.timeout(Duration::from_millis(100)))
        .await;
    assert!(disconnected.unwrap_err().is_timeout());
    broker.client.finished_runs().await;
    assert_eq!(by_status(&pool).await, [("available", 30)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_syncs_and_allocations_lose_no_sandbox() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(300).await;
    let variables = [("CSP_BASE_URL", base_url.as_str())];
    let (broker, other) = (
        pool.broker_with(&variables).await,
        pool.broker_with(&variables).await,
    );
    sync(&broker).await;
    // Every other list lacks half of the accounts, so sandboxes repeatedly become stale and are restored.
    simulator.inject([Fault {
        every: Some(2),
        ..Fault::always(FaultKind::Halved)
    }]);
    let syncs = async {
        for _ in 0..20 {
            sync(&broker).await;
            sync(&other).await;
        }
    };
    let allocations = async {
        let mut allocated: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for n in 0..150 {
            let client = if n % 2 == 0 {
                &broker.client
            } else {
                &other.client
            };
            let caller = format!("play-{n}");
            let answer = client.allocate(&caller).await;
            if answer.status.is_success() {
                allocated.insert(caller, vec![answer.sandbox_id()]);
            }
        }
        allocated
    };
    let ((), allocated) = tokio::join!(syncs, allocations);
    assert!(!allocated.is_empty());
    crate::support::assert_each_has_one(&allocated);
    assert_eq!(pool.holdings().await, allocated);
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_unused_sandbox_can_be_allocated_when_csp_lists_it_again() {
    let (pool, _simulator, broker) = broker_with_csp(1).await;
    sync(&broker).await;
    // The broker does not see this removal, so its index still contains the candidate.
    let id = pool.sandboxes().await[0].id().clone();
    pool.apply(vec![Change::MarkStale(id, Status::Available)])
        .await;
    let removed = pool.sandboxes().await.remove(0);
    pool.apply(vec![Change::Remove(Box::new(removed))]).await;
    assert_eq!(
        broker.client.allocate("play-1").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    assert_eq!(sync(&broker).await["inserted"], 1);
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
}
