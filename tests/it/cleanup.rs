//! The cleanup job: deletions, retries, resurfaced sandboxes and NIOSXaaS services.

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::{
    csp::simulator::{Call, Fault, FaultKind, Simulator},
    domain::Status,
};
use serde_json::Value;

use crate::support::{Pool, Proxy, START, TestBroker, fastapi, simulated_csp};

/// Settings that remove the pauses meant for the real CSP.
const FAST: [(&str, &str); 3] = [
    ("CLEANUP_BATCH_DELAY_SEC", "0"),
    ("CSP_TIMEOUT_READ_SEC", "1"),
    ("BACKOFF_MAX_MS", "25"),
];

async fn broker_with_csp(accounts: u64, more: &[(&str, &str)]) -> (Pool, Simulator, TestBroker) {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(accounts).await;
    let variables: Vec<_> = FAST
        .into_iter()
        .chain(more.iter().copied())
        .chain([("CSP_BASE_URL", base_url.as_str())])
        .collect();
    let broker = pool.broker_with(&variables).await;
    broker.client.job("sync").await;
    (pool, simulator, broker)
}

/// Allocates and releases `count` sandboxes. Returns their ids.
async fn used(broker: &TestBroker, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let caller = format!("play-{n}");
        let id = broker.client.allocate(&caller).await.sandbox_id();
        assert_eq!(broker.client.release(&id, &caller).await.status, 200);
        ids.push(id);
    }
    ids
}

fn fault_on(on: Call, kind: FaultKind) -> Fault {
    Fault {
        on,
        ..Fault::always(kind)
    }
}

async fn shown(broker: &TestBroker, id: &str) -> Value {
    let page = broker
        .client
        .admin(Method::GET, &format!("/v1/admin/sandboxes?q={id}"))
        .await
        .json();
    page["sandboxes"][0].clone()
}

fn is_listed(simulator: &Simulator, id: &str) -> bool {
    simulator
        .accounts()
        .iter()
        .any(|account| account.csp_id.to_string() == id)
}

#[tokio::test(flavor = "multi_thread")]
async fn released_sandboxes_are_deleted_from_csp_and_the_table() {
    let (pool, simulator, broker) = broker_with_csp(40, &[]).await;
    let ids = used(&broker, 25).await;
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["due"], &report["deleted"], &report["deferred"]),
        (&25.into(), &25.into(), &0.into())
    );
    assert_eq!(simulator.accounts().len(), 15);
    assert!(ids.iter().all(|id| !is_listed(&simulator, id)));
    assert_eq!(pool.sandboxes().await.len(), 15);
    assert_eq!(
        broker.client.release(&ids[0], "play-0").await.code(),
        "SANDBOX_NOT_FOUND"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn csp_outage_of_a_quarter_of_an_hour_only_delays_deletions() {
    let (pool, simulator, broker) = broker_with_csp(200, &[]).await;
    used(&broker, 200).await;
    let before = simulator.calls().delete;
    let faults = [
        FaultKind::Status { code: 500 },
        FaultKind::Html,
        FaultKind::RateLimit {
            retry_after_sec: Some(30),
        },
        FaultKind::Hang,
        FaultKind::Status { code: 503 },
    ];
    // A run every four minutes for sixteen minutes, each with another kind of fault.
    for fault in faults {
        simulator.inject([Fault::always(fault)]);
        let report = broker.client.job("cleanup").await;
        assert_eq!(
            (&report["deleted"], &report["failed"]),
            (&0.into(), &0.into()),
            "{report}"
        );
        broker.clock.advance(Duration::from_mins(4));
    }
    let during = simulator.calls().delete - before;
    // At a fixed pace, each of the five runs would send all 200 requests.
    assert!(during < 5 * 200 / 10, "{during} requests");
    simulator.inject([]);
    let mut runs = 0;
    while broker.client.stats().await["total"] != 0 {
        runs += 1;
        assert!(runs < 20, "{}", broker.client.stats().await);
        let report = broker.client.job("cleanup").await;
        assert_eq!(report["failed"], 0, "{report}");
        broker.clock.advance(Duration::from_mins(5));
    }
    assert_eq!(simulator.accounts().len(), 0);
    assert!(pool.sandboxes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_failure_is_recorded_and_retried_later() {
    let (_pool, simulator, broker) =
        broker_with_csp(1, &[("CIRCUIT_BREAKER_THRESHOLD", "1000")]).await;
    let id = used(&broker, 1).await.remove(0);
    simulator.inject([fault_on(Call::Delete, FaultKind::Status { code: 500 })]);
    for attempt in 1..8 {
        broker.client.job("cleanup").await;
        let sandbox = shown(&broker, &id).await;
        assert_eq!(sandbox["status"], "pending_deletion", "{sandbox}");
        assert_eq!(sandbox["deletion_retry_count"], attempt, "{sandbox}");
        assert!(
            sandbox["deletion_error"]
                .as_str()
                .unwrap()
                .contains("HTTP 500"),
            "{sandbox}"
        );
        assert_eq!(broker.client.job("cleanup").await["due"], 0, "not due yet");
        broker.clock.advance(Duration::from_mins(90));
    }
    assert_eq!(
        broker.client.job("cleanup").await["failed"],
        1,
        "the eighth attempt is the last"
    );
    assert_eq!(shown(&broker, &id).await["status"], "deletion_failed");
    simulator.inject([]);
    broker.clock.advance(Duration::from_mins(90));
    assert_eq!(broker.client.job("cleanup").await["due"], 0);
    let report = broker.client.job("cleanup?retry_failed=true").await;
    assert_eq!(
        (&report["requeued"], &report["deleted"]),
        (&1.into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_rejection_fails_only_its_own_sandbox() {
    let (_pool, simulator, broker) = broker_with_csp(5, &[("CLEANUP_BATCH_SIZE", "1")]).await;
    used(&broker, 5).await;
    simulator.inject([Fault {
        times: Some(1),
        ..fault_on(Call::Delete, FaultKind::Status { code: 400 })
    }]);
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["deleted"], &report["failed"]),
        (&4.into(), &1.into())
    );
    let failed = broker
        .client
        .admin(Method::GET, "/v1/admin/sandboxes?status=deletion_failed")
        .await
        .json();
    assert!(
        failed["sandboxes"][0]["deletion_error"]
            .as_str()
            .unwrap()
            .contains("HTTP 400"),
        "{failed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_token_stops_the_run_without_counting_attempts() {
    for (on, code, calls) in [(Call::Delete, 401, 1), (Call::Any, 403, 10)] {
        let (pool, simulator, broker) = broker_with_csp(30, &[]).await;
        used(&broker, 30).await;
        let before = simulator.calls().delete;
        simulator.inject([fault_on(on, FaultKind::Status { code })]);
        let answer = broker.client.admin(Method::POST, "/v1/admin/cleanup").await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (502, "CSP_ERROR")
        );
        assert_eq!(simulator.calls().delete - before, calls, "HTTP {code}");
        for sandbox in pool.sandboxes().await {
            assert_eq!(
                (sandbox.status, sandbox.maintenance.deletion_retry_count),
                (Status::PendingDeletion, 0)
            );
        }
        simulator.inject([]);
        assert_eq!(broker.client.job("cleanup").await["deleted"], 30);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn account_that_csp_refuses_to_delete_delays_no_other() {
    let (pool, simulator, broker) = broker_with_csp(40, &[]).await;
    let ids = used(&broker, 40).await;
    let refused: Vec<u64> = ids[..10].iter().map(|id| id.parse().unwrap()).collect();
    let fault = |code| Fault {
        accounts: refused.clone(),
        ..fault_on(Call::Delete, FaultKind::Status { code })
    };
    simulator.inject([fault(403)]);
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["deleted"], &report["deferred"], &report["failed"]),
        (&30.into(), &10.into(), &0.into())
    );
    for (attempts, code) in (2..).zip([409, 423, 425, 403, 403, 403]) {
        broker.clock.advance(Duration::from_mins(90));
        simulator.inject([fault(code)]);
        let report = broker.client.job("cleanup").await;
        assert_eq!(
            (&report["due"], &report["deferred"], &report["stopped"]),
            (&10.into(), &10.into(), &Value::Null),
            "HTTP {code}"
        );
        let sandbox = shown(&broker, &ids[0]).await;
        assert_eq!(sandbox["deletion_retry_count"], attempts);
        let error = sandbox["deletion_error"].as_str().unwrap();
        assert!(error.contains(&code.to_string()), "{error}");
    }
    broker.clock.advance(Duration::from_mins(90));
    assert_eq!(broker.client.job("cleanup").await["failed"], 10);
    simulator.inject([]);
    let report = broker.client.job("cleanup?retry_failed=true").await;
    assert_eq!(
        (&report["requeued"], &report["deleted"]),
        (&10.into(), &10.into())
    );
    assert!(pool.sandboxes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn token_without_the_right_to_delete_counts_attempts() {
    let (_pool, simulator, broker) = broker_with_csp(10, &[]).await;
    used(&broker, 10).await;
    simulator.inject([fault_on(Call::Delete, FaultKind::Status { code: 403 })]);
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["status"], &report["deferred"]),
        (&"completed".into(), &10.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_whose_deletion_keeps_failing_do_not_starve_the_others() {
    let (_pool, simulator, broker) = broker_with_csp(40, &[]).await;
    let ids = used(&broker, 40).await;
    simulator.inject([Fault {
        accounts: ids[..10].iter().map(|id| id.parse().unwrap()).collect(),
        ..fault_on(Call::Delete, FaultKind::Status { code: 500 })
    }]);
    let mut deleted = 0;
    // A run every five minutes, for half an hour.
    for _ in 0..6 {
        deleted += broker.client.job("cleanup").await["deleted"]
            .as_u64()
            .unwrap();
        broker.clock.advance(Duration::from_mins(5));
    }
    assert_eq!(deleted, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_that_is_gone_counts_as_deleted() {
    let (pool, simulator, broker) = broker_with_csp(3, &[]).await;
    used(&broker, 3).await;
    simulator.inject([fault_on(Call::Delete, FaultKind::Status { code: 410 })]);
    assert_eq!(broker.client.job("cleanup").await["deleted"], 3);
    assert!(pool.sandboxes().await.is_empty());
}

/// Returns the largest number of deletions that CSP serves at the same time during a cleanup of 12 sandboxes.
async fn concurrent_deletions(more: &[(&str, &str)]) -> usize {
    let (_pool, simulator, broker) = broker_with_csp(12, more).await;
    used(&broker, 12).await;
    simulator.inject([fault_on(Call::Delete, FaultKind::Slow { delay_ms: 50 })]);
    let before = simulator.accounts().len();
    let _ = simulator.take_deletion_requests();
    let mut most = 0;
    let mut started = 0;
    let cleanup = broker.client.job("cleanup");
    tokio::pin!(cleanup);
    loop {
        tokio::select! {
            report = &mut cleanup => {
                assert_eq!(report["deleted"], 12);
                return most;
            }
            () = tokio::time::sleep(Duration::from_millis(2)) => {
                started += simulator.take_deletion_requests().len();
                let finished = before - simulator.accounts().len();
                most = most.max(started.saturating_sub(finished));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_follow_each_other_unless_concurrency_is_configured() {
    assert_eq!(
        concurrent_deletions(&[("CLEANUP_BATCH_SIZE", "50")]).await,
        1
    );
    let most = concurrent_deletions(&[("CLEANUP_CONCURRENCY", "4")]).await;
    assert!((2..=4).contains(&most), "{most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_between_the_deletions_from_csp_and_table_is_repaired_by_the_next_run() {
    let (pool, simulator, broker) = broker_with_csp(3, &[]).await;
    for id in used(&broker, 3).await {
        // The state after a run that crashed between the two deletions.
        simulator.remove_account(id.parse().unwrap()).unwrap();
    }
    assert_eq!(broker.client.job("cleanup").await["deleted"], 3);
    assert!(pool.sandboxes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_whose_answer_was_lost_succeeds_when_retried() {
    let (pool, simulator, broker) = broker_with_csp(3, &[]).await;
    used(&broker, 3).await;
    simulator.inject([Fault {
        times: Some(3),
        ..fault_on(Call::Delete, FaultKind::Reset)
    }]);
    assert_eq!(broker.client.job("cleanup").await["deferred"], 3);
    broker.clock.advance(Duration::from_mins(2));
    assert_eq!(broker.client.job("cleanup").await["deleted"], 3);
    assert!(pool.sandboxes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_sandbox_is_not_inserted_from_a_list_fetched_before_its_deletion() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(2).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let syncing = pool
        .broker_with(&[
            ("CSP_BASE_URL", &base_url),
            ("DDB_ENDPOINT_URL", &proxy.endpoint()),
        ])
        .await;
    let cleaning = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    syncing.client.job("sync").await;
    let id = used(&cleaning, 1).await.remove(0);
    let held = proxy.hold_operation("Scan");
    let sync = async {
        let client = syncing.client.clone();
        client.job("sync").await
    };
    let deletion = async {
        held.wait_for_one().await;
        assert_eq!(cleaning.client.job("cleanup").await["deleted"], 1);
        assert!(!is_listed(&simulator, &id));
        held.open();
    };
    let (report, ()) = tokio::join!(sync, deletion);
    assert_eq!(
        (&report["synced"], &report["inserted"]),
        (&2.into(), &0.into())
    );
    assert!(
        pool.sandboxes()
            .await
            .iter()
            .all(|sandbox| sandbox.id().as_str() != id)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resurfaced_sandbox_is_deleted_again_and_never_available() {
    let (pool, simulator, broker) = broker_with_csp(2, &[]).await;
    let id = used(&broker, 1).await.remove(0);
    simulator.inject([Fault {
        times: Some(1),
        ..fault_on(Call::Delete, FaultKind::Forget)
    }]);
    assert_eq!(broker.client.job("cleanup").await["deleted"], 1);
    assert!(is_listed(&simulator, &id));
    for _ in 0..5 {
        broker.clock.advance(Duration::from_mins(11));
        let report = broker.client.job("sync").await;
        assert_eq!(
            (&report["inserted"], &report["reinstated"]),
            (&0.into(), &0.into())
        );
    }
    broker.clock.advance(Duration::from_mins(6));
    assert_eq!(broker.client.job("sync").await["reinstated"], 1);
    let sandbox = shown(&broker, &id).await;
    assert_eq!(
        (&sandbox["status"], &sandbox["allocated_to_track"]),
        (&"pending_deletion".into(), &"play-0".into())
    );
    assert_eq!(broker.client.job("cleanup").await["deleted"], 1);
    assert!(!is_listed(&simulator, &id));
    assert_eq!(broker.client.job("sync").await["inserted"], 0);
    assert_eq!(pool.sandboxes().await.len(), 1);
}

fn niosxaas(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let enabled = [
        ("NIOSXAAS_ENABLED", "true"),
        ("NIOSXAAS_EMAIL", "broker@example.com"),
        ("NIOSXAAS_PASSWORD", "niosxaas-password"),
        ("NIOSXAAS_SHADOW_MODE", "false"),
        ("NIOSXAAS_TIMEOUT_SEC", "1"),
    ];
    enabled.into_iter().chain(more.iter().copied()).collect()
}

/// Starts a broker with NIOSXaaS enabled, on a simulator with 20 accounts.
async fn with_services(more: &[(&'static str, &'static str)]) -> (Pool, Simulator, TestBroker) {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(20).await;
    let root = base_url.trim_end_matches("/v2").to_owned();
    let mut variables = niosxaas(more);
    variables.extend(FAST);
    let variables: Vec<(&str, &str)> = variables
        .into_iter()
        .chain([
            ("CSP_BASE_URL", base_url.as_str()),
            ("NIOSXAAS_BASE_URL", root.as_str()),
        ])
        .collect();
    let broker = pool.broker_with(&variables).await;
    broker.client.job("sync").await;
    (pool, simulator, broker)
}

async fn records(pool: &Pool) -> Vec<String> {
    let items = pool.items_of(&pool.table).await;
    let mut outcomes: Vec<_> = items
        .iter()
        .filter_map(fastapi::niosxaas_outcome)
        .map(str::to_owned)
        .collect();
    outcomes.sort();
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_the_lab_are_deleted_before_the_accounts_with_one_sign_in() {
    let (pool, simulator, broker) = with_services(&[]).await;
    // CSP keeps the accounts, because the simulator removes the services of a deleted account.
    simulator.inject([fault_on(Call::Delete, FaultKind::Forget)]);
    used(&broker, 20).await;
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["deleted"], &report["niosxaas_cleaned"]),
        (&20.into(), &20.into()),
        "{report}"
    );
    assert_eq!(simulator.calls().sign_ins, 1);
    assert!(
        simulator
            .services()
            .iter()
            .all(|(_, name)| *name == "another-service")
    );
    assert_eq!(simulator.services().len(), 4);
    assert_eq!(records(&pool).await, vec!["cleaned"; 20]);
    let shown = broker.client.admin(Method::GET, "/v1/admin/niosxaas").await;
    let mut shown = shown.json();
    let listed = shown["records"].take();
    assert_eq!(
        shown,
        serde_json::json!({
            "is_enabled": true, "is_shadow": false, "cleaned": 20, "skipped": 0, "failed": 0, "pending": 0,
            "records": null
        })
    );
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 20);
    assert!(
        listed
            .iter()
            .all(|one| one["outcome"] == "cleaned" && one["at"] == START.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_service_name_matches_every_service() {
    let (_pool, simulator, broker) = with_services(&[("NIOSXAAS_SERVICE_NAME", "")]).await;
    simulator.inject([fault_on(Call::Delete, FaultKind::Forget)]);
    used(&broker, 20).await;
    broker.client.job("cleanup").await;
    assert!(simulator.services().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_deletes_no_service_and_reports_the_number() {
    let (pool, simulator, broker) = with_services(&[("NIOSXAAS_SHADOW_MODE", "true")]).await;
    let before = simulator.services().len();
    simulator.inject([fault_on(Call::Delete, FaultKind::Status { code: 500 })]);
    let id = used(&broker, 1).await.remove(0);
    broker.client.job("cleanup").await;
    assert_eq!(simulator.services().len(), before);
    let sandbox = shown(&broker, &id).await;
    assert!(
        sandbox["niosxaas_cleanup_skipped"]
            .as_str()
            .unwrap()
            .contains("shadow mode"),
        "{sandbox}"
    );
    assert_eq!(records(&pool).await, ["skipped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_session_is_renewed() {
    let (pool, simulator, broker) = with_services(&[("CLEANUP_BATCH_SIZE", "1")]).await;
    used(&broker, 3).await;
    simulator.inject([fault_on(Call::Delete, FaultKind::Slow { delay_ms: 200 })]);
    let ending = async {
        while simulator.calls().delete == 0 {
            tokio::task::yield_now().await;
        }
        simulator.end_sessions();
    };
    let (report, ()) = tokio::join!(broker.client.job("cleanup"), ending);
    assert_eq!(
        (&report["deleted"], &report["niosxaas_cleaned"]),
        (&3.into(), &3.into()),
        "{report}"
    );
    assert_eq!(simulator.calls().sign_ins, 2);
    assert_eq!(records(&pool).await, vec!["cleaned"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_niosxaas_never_prevents_the_deletion_of_an_account() {
    for fault in [
        FaultKind::Status { code: 500 },
        FaultKind::Html,
        FaultKind::Hang,
    ] {
        let (pool, simulator, broker) = with_services(&[]).await;
        used(&broker, 20).await;
        simulator.inject([fault_on(Call::Niosxaas, fault.clone())]);
        let report = broker.client.job("cleanup").await;
        assert_eq!(report["deleted"], 20, "{fault:?}: {report}");
        assert!(simulator.accounts().is_empty());
        let outcomes = records(&pool).await;
        assert_eq!(outcomes.len(), 20);
        assert!(
            outcomes.contains(&"skipped".to_owned()),
            "the circuit breaker opened: {outcomes:?}"
        );
        assert!(simulator.calls().niosxaas <= 20, "{:?}", simulator.calls());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_on_every_page_are_deleted() {
    let (_pool, simulator, broker) = with_services(&[("NIOSXAAS_SERVICE_NAME", "")]).await;
    // Ten accounts have a service of the lab, four another one, and two of them both.
    assert_eq!(simulator.services().len(), 14);
    simulator.inject([
        fault_on(Call::Delete, FaultKind::Forget),
        fault_on(Call::Niosxaas, FaultKind::Paged { size: 1 }),
    ]);
    used(&broker, 20).await;
    let report = broker.client.job("cleanup").await;
    assert_eq!(report["niosxaas_cleaned"], 20, "{report}");
    assert_eq!(simulator.services(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_that_is_gone_is_no_failed_cleanup_of_services() {
    let (pool, simulator, broker) = with_services(&[("CIRCUIT_BREAKER_THRESHOLD", "2")]).await;
    for id in used(&broker, 20).await {
        simulator.remove_account(id.parse().unwrap()).unwrap();
    }
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["deleted"], &report["niosxaas_failed"]),
        (&20.into(), &0.into()),
        "{report}"
    );
    assert_eq!(records(&pool).await, vec!["skipped"; 20]);
    let shown = broker.client.admin(Method::GET, "/v1/admin/niosxaas").await;
    assert_eq!(
        shown.json()["records"][0]["detail"],
        "the account no longer exists"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_account_does_not_stop_the_cleanup_of_other_services() {
    let (_pool, simulator, broker) = with_services(&[("CIRCUIT_BREAKER_THRESHOLD", "2")]).await;
    used(&broker, 20).await;
    // After the sign-in, the switches to five accounts are denied.
    simulator.inject([
        Fault {
            times: Some(1),
            ..fault_on(Call::Niosxaas, FaultKind::Slow { delay_ms: 0 })
        },
        Fault {
            times: Some(5),
            ..fault_on(Call::Niosxaas, FaultKind::Status { code: 403 })
        },
    ]);
    let report = broker.client.job("cleanup").await;
    assert_eq!(
        (&report["niosxaas_failed"], &report["niosxaas_cleaned"]),
        (&5.into(), &15.into()),
        "{report}"
    );
    assert_eq!(simulator.calls().sign_ins, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_niosxaas_user_is_named_and_not_signed_in_again_for_each_account() {
    for code in [400_u16, 401, 403, 404] {
        let (_pool, simulator, broker) = with_services(&[]).await;
        used(&broker, 20).await;
        simulator.inject([fault_on(Call::Niosxaas, FaultKind::Status { code })]);
        let report = broker.client.job("cleanup").await;
        assert_eq!(
            (&report["deleted"], &report["niosxaas_failed"]),
            (&20.into(), &5.into()),
            "HTTP {code}: {report}"
        );
        let shown = broker.client.admin(Method::GET, "/v1/admin/niosxaas").await;
        assert!(!shown.text.contains("CSP_API_TOKEN"), "{}", shown.text);
        let outcome = match code {
            401 | 403 => "unauthorized",
            _ => "unavailable",
        };
        let metrics = broker.client.plain("/metrics").await.text;
        let signed_in = format!(
            r#"broker_csp_calls_total{{operation="niosxaas_sign_in",outcome="{outcome}"}} 5"#
        );
        assert!(metrics.contains(&signed_in), "HTTP {code}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_without_services_are_not_checked_again() {
    let (_pool, simulator, broker) = with_services(&[]).await;
    let id = used(&broker, 1).await.remove(0);
    simulator.inject([fault_on(Call::Delete, FaultKind::Status { code: 500 })]);
    broker.client.job("cleanup").await;
    assert!(shown(&broker, &id).await["niosxaas_cleaned_at"].is_u64());
    let calls = simulator.calls().niosxaas;
    simulator.inject([]);
    broker.clock.advance(Duration::from_mins(2));
    assert_eq!(broker.client.job("cleanup").await["deleted"], 1);
    assert_eq!(simulator.calls().niosxaas, calls);
}
