//! The metrics that Prometheus scrapes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use sandbox_broker::{
    csp::simulator::{Fault, FaultKind},
    domain::Status,
};

use crate::support::{BrokerClient, Pool, Proxy, START, proxy, simulated_csp};

/// The metrics that dashboards use.
const NAMES: [&str; 31] = [
    "broker_allocate_total",
    "broker_allocate_idempotent_hits_total",
    "broker_allocate_conflicts_total",
    "broker_deletion_marked_total",
    "broker_sync_total",
    "broker_sync_sandboxes_synced_total",
    "broker_sync_sandboxes_stale_total",
    "broker_cleanup_total",
    "broker_cleanup_deleted_total",
    "broker_cleanup_failed_total",
    "broker_expiry_total",
    "broker_expiry_orphaned_total",
    "broker_niosxaas_cleanup_total",
    "broker_niosxaas_services_deleted_total",
    "broker_niosxaas_auth_total",
    "broker_pool_provisioning",
    "broker_pool_available",
    "broker_pool_expected",
    "broker_pool_allocated",
    "broker_pool_pending_deletion",
    "broker_pool_stale",
    "broker_pool_deletion_failed",
    "broker_pool_quarantined",
    "broker_pool_total",
    "broker_request_latency_seconds",
    "broker_allocation_latency_seconds",
    "broker_sync_duration_seconds",
    "broker_cleanup_duration_seconds",
    "broker_build_info",
    "process_resident_memory_bytes",
    "process_open_fds",
];

async fn scrape(client: &BrokerClient) -> String {
    let answer = client.plain("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
    answer.text
}

#[track_caller]
fn assert_has_line(metrics: &str, line: &str) {
    assert!(
        metrics.lines().any(|known| known == line),
        "missing: {line}\n{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn life_of_sandboxes_is_counted() {
    let (_simulator, base) = simulated_csp(3).await;
    let pool = Pool::new().await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base)]).await;
    let client = &broker.client;
    client.job("sync").await;
    let allocated = client.allocate("play-1").await.sandbox_id();
    client.allocate("play-1").await;
    client.allocate("play-2").await;
    client.allocate("play-3").await;
    assert_eq!(client.allocate("play-4").await.status, 409);
    client.release(&allocated, "play-1").await;
    client.release(&allocated, "play-1").await;
    client.release(&allocated, "play-2").await;
    client.release("nowhere", "play-2").await;
    client.job("cleanup").await;
    client.job("auto-expire").await;

    let metrics = scrape(client).await;
    for name in NAMES {
        assert!(
            metrics.contains(&format!("# TYPE {name} ")),
            "{name} is missing"
        );
        assert!(
            metrics.contains(&format!("# HELP {name} ")),
            "{name} has no help"
        );
    }
    for line in [
        "broker_allocate_total{outcome=\"success\"} 3",
        "broker_allocate_total{outcome=\"idempotent\"} 1",
        "broker_allocate_total{outcome=\"no_sandboxes\"} 1",
        "broker_allocate_total{outcome=\"error\"} 0",
        "broker_allocate_idempotent_hits_total 1",
        "broker_deletion_marked_total{outcome=\"success\"} 1",
        "broker_deletion_marked_total{outcome=\"idempotent\"} 1",
        "broker_deletion_marked_total{outcome=\"not_owner\"} 1",
        "broker_deletion_marked_total{outcome=\"not_found\"} 1",
        "broker_sync_total{outcome=\"success\"} 1",
        "broker_sync_sandboxes_synced_total 3",
        "broker_cleanup_total{outcome=\"success\"} 1",
        "broker_cleanup_deleted_total 1",
        "broker_expiry_total{outcome=\"success\"} 1",
        "broker_csp_calls_total{operation=\"delete\",outcome=\"success\"} 1",
        "broker_pool_available 0",
        "broker_pool_expected 0",
        "broker_pool_allocated 2",
        "broker_pool_total 2",
        "broker_breaker_state{breaker=\"csp\",state=\"closed\"} 1",
        "broker_breaker_state{breaker=\"csp\",state=\"open\"} 0",
        "broker_requests_in_flight 1",
        "broker_candidate_index_size 0",
        "broker_job_interval_seconds{job=\"cleanup\"} 300",
        &format!(
            "broker_job_last_success_timestamp_seconds{{job=\"sync\"}} {}",
            START.0
        ),
    ] {
        assert_has_line(&metrics, line);
    }
    assert!(!metrics.contains("job_last_success_timestamp_seconds{job=\"auto-delete-stale\"}"));
}

#[tokio::test]
async fn requests_with_any_path_and_method_are_counted_by_route() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    for n in 0..5 {
        client.get(&format!("sandbox-{n}"), "play-1").await;
        client.plain(&format!("/v1/invented-{n}")).await;
        let method = format!("INVENTED{n}").parse().unwrap();
        client.send(client.request(method, "/healthz")).await;
    }
    let metrics = scrape(client).await;
    for line in [
        "broker_request_latency_seconds_count{endpoint=\"/v1/sandboxes/{sandbox_id}\",method=\"GET\",status=\"404\"} 5",
        "broker_request_latency_seconds_count{endpoint=\"unknown\",method=\"GET\",status=\"404\"} 5",
        "broker_request_latency_seconds_count{endpoint=\"/healthz\",method=\"other\",status=\"405\"} 5",
    ] {
        assert_has_line(&metrics, line);
    }
    assert!(!metrics.contains("invented"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_is_counted_once_for_all_scrapes_and_never_for_callers() {
    let pool = Pool::of(3).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    // Scans for candidates are queries too, but do not count.
    let counts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&counts);
    let _gate = proxy.hold(move |call| {
        let body = call.json();
        // Those that are allocated are counted by lab.
        let is_by_lab = body["ProjectionExpression"] == "track_name, quota_slot";
        let is_count = call.operation == "Query" && (body["Select"] == "COUNT" || is_by_lab);
        counted.fetch_add(usize::from(is_count), Ordering::SeqCst);
        false
    });
    let broker = pool.broker_behind(&proxy).await;
    // The sample of the start.
    assert_eq!(counts.swap(0, Ordering::SeqCst), Status::ALL.len());
    broker.client.allocate("play-1").await;
    broker.client.allocate("play-2").await;
    assert_eq!(counts.load(Ordering::SeqCst), 0);
    join_all((0..20).map(|_| scrape(&broker.client))).await;
    let metrics = scrape(&broker.client).await;
    assert_has_line(&metrics, "broker_pool_available 1");
    // One query for each status.
    assert_eq!(counts.load(Ordering::SeqCst), Status::ALL.len());
}

#[tokio::test]
async fn metrics_with_their_own_port_are_served_only_there() {
    let pool = Pool::of(1).await;
    let broker = pool.broker_with(&[("METRICS_PORT", "0")]).await;
    assert_eq!(broker.client.plain("/metrics").await.status, 404);
    let document = broker.client.plain("/v1/openapi.json").await.json();
    assert!(document["paths"]["/metrics"].is_null());
    let address = broker.running.metrics_address().unwrap();
    let there = BrokerClient::new(format!("http://{address}"));
    assert_has_line(&scrape(&there).await, "broker_pool_available 1");
    assert_eq!(there.plain("/v1/sandboxes").await.status, 404);
}

#[tokio::test]
async fn throttles_are_counted_even_if_a_retry_succeeds() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    proxy.inject_once("TransactWriteItems", proxy::Fault::Throttling);
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    let metrics = scrape(&broker.client).await;
    for line in [
        "broker_store_throttles_total{operation=\"TransactWriteItems\"} 1",
        "broker_store_call_duration_seconds_count{operation=\"TransactWriteItems\",outcome=\"success\"} 1",
    ] {
        assert_has_line(&metrics, line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_csp_shows_in_the_metrics() {
    let (simulator, base) = simulated_csp(6).await;
    let pool = Pool::new().await;
    let broker = pool
        .broker_with(&[
            ("CSP_BASE_URL", &base),
            ("CIRCUIT_BREAKER_THRESHOLD", "3"),
            ("CLEANUP_BATCH_SIZE", "3"),
        ])
        .await;
    let client = &broker.client;
    client.job("sync").await;
    for n in 0..6 {
        let caller = format!("play-{n}");
        let allocated = client.allocate(&caller).await.sandbox_id();
        client.release(&allocated, &caller).await;
    }
    simulator.inject([Fault::always(FaultKind::Status { code: 500 })]);
    client.job("cleanup").await;
    let metrics = scrape(client).await;
    for line in [
        "broker_csp_calls_total{operation=\"delete\",outcome=\"unavailable\"} 3",
        "broker_breaker_state{breaker=\"csp\",state=\"open\"} 1",
        "broker_breaker_state{breaker=\"csp\",state=\"closed\"} 0",
        "broker_pool_pending_deletion 6",
    ] {
        assert_has_line(&metrics, line);
    }
}
