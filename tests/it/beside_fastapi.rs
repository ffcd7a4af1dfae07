//! The FastAPI service beside this broker: it reads every item of the pool's table, and its own items are read.

use aws_sdk_dynamodb::types::AttributeValue::{Bool, N, Null, S};
use reqwest::Method;
use sandbox_broker::{
    csp::simulator::{Call, Fault, FaultKind, Simulator},
    store::{Conversion, Item},
};
use serde_json::Value;

use crate::support::{
    Pool, START, TestBroker,
    fastapi::{counted, niosxaas_outcome, read},
    key, simulated_csp,
};

const ACCOUNTS: u64 = 40;

async fn boot(pool: &Pool, base_url: &str, shadow: &str) -> TestBroker {
    let variables = [
        ("CSP_BASE_URL", base_url),
        ("NIOSXAAS_BASE_URL", base_url.trim_end_matches("/v2")),
        ("NIOSXAAS_ENABLED", "true"),
        ("NIOSXAAS_EMAIL", "broker@example.com"),
        ("NIOSXAAS_PASSWORD", "niosxaas-password"),
        ("NIOSXAAS_SHADOW_MODE", shadow),
        ("CLEANUP_BATCH_DELAY_SEC", "0"),
        ("BACKOFF_MAX_MS", "25"),
    ];
    pool.broker_with(&variables).await
}

/// Allocates and releases a sandbox, and runs a cleanup.
async fn use_and_clean_up(broker: &TestBroker, caller: &str) {
    let id = broker.client.allocate(caller).await.sandbox_id();
    assert_eq!(broker.client.release(&id, caller).await.status, 200);
    broker.client.job("cleanup").await;
}

async fn admin(broker: &TestBroker, path: &str) -> Value {
    let answer = broker.client.admin(Method::GET, path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Brings the tables into a state with every kind of item, and returns the broker.
async fn used(pool: &Pool) -> (TestBroker, Simulator) {
    let (simulator, base_url) = simulated_csp(ACCOUNTS).await;
    let broker = boot(pool, &base_url, "false").await;
    let shadow = boot(pool, &base_url, "true").await;
    broker.client.job("sync").await;
    let hidden = simulator.accounts()[0].csp_id;
    simulator.hide(hidden, true);
    broker.client.job("sync").await;
    let fault = |on, code| Fault {
        on,
        ..Fault::always(FaultKind::Status { code })
    };
    use_and_clean_up(&broker, "cleaned").await;
    use_and_clean_up(&shadow, "skipped").await;
    simulator.inject([fault(Call::Niosxaas, 500)]);
    use_and_clean_up(&broker, "failed").await;
    simulator.inject([fault(Call::Delete, 400)]);
    use_and_clean_up(&shadow, "kept by CSP").await;
    simulator.inject([]);
    let released = broker.client.allocate("released").await.sandbox_id();
    broker.client.release(&released, "released").await;
    for caller in ["one", "two"] {
        assert_eq!(broker.client.allocate(caller).await.status, 201);
    }
    let short = broker.client.allocation("short");
    let short = short.header("X-Sandbox-Name-Prefix", "lab-");
    let short = short.body("{\"duration_minutes\": 10}");
    assert_eq!(broker.client.send(short).await.status, 201);
    broker.client.job("auto-expire").await;
    broker.client.plain("/metrics").await;
    (broker, simulator)
}

#[tokio::test(flavor = "multi_thread")]
async fn fastapi_service_reads_every_item_of_the_pools_table() {
    let pool = Pool::new().await;
    let (broker, _simulator) = used(&pool).await;
    let kinds = pool.items_of(&pool.companion).await;
    let kinds = counted(kinds.iter().map(|item| {
        let partition = item["PK"].as_s().unwrap();
        partition.split('#').next().unwrap()
    }));
    for kind in ["CLAIM", "TOMBSTONES", "JOB", "SAMPLES", "SCHEMA"] {
        assert!(kinds.contains_key(kind), "no {kind} in {kinds:?}");
    }

    // Its sync.
    let scan = pool
        .client
        .scan()
        .table_name(&pool.table)
        .projection_expression("sandbox_id");
    let ids = scan.send().await.unwrap().items.unwrap();
    assert!(ids.iter().all(|item| item["sandbox_id"].is_s()));

    // Its listing and its totals.
    let items = pool.items_of(&pool.table).await;
    let statuses = counted(items.iter().map(read));
    let stats = admin(&broker, "/v1/admin/stats").await;
    for status in [
        "available",
        "allocated",
        "pending_deletion",
        "stale",
        "deletion_failed",
    ] {
        assert_eq!(stats[status], statuses[status], "{status}");
    }
    let records = items.iter().filter_map(niosxaas_outcome);
    let records = counted(records);
    assert_eq!(statuses["deleted"], records.values().sum::<u64>());
    let sandboxes = pool.sandboxes().await.len();
    assert_eq!(
        items.len() as u64,
        sandboxes as u64 + statuses["deleted"],
        "nothing else is in the pool's table"
    );

    // Its dashboard.
    let niosxaas = admin(&broker, "/v1/admin/niosxaas").await;
    for outcome in ["cleaned", "skipped", "failed"] {
        assert_eq!(niosxaas[outcome], records[outcome], "{outcome}");
    }

    // Its queries.
    for (index, name, value) in [
        ("StatusIndex", "status", "deleted"),
        ("TrackIndex", "allocated_to_track", "cleaned"),
        ("TrackIndex", "allocated_to_track", "N/A"),
    ] {
        let query = pool
            .client
            .query()
            .table_name(&pool.table)
            .index_name(index)
            .key_condition_expression("#name = :value")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", S(value.to_owned()));
        let found = query.send().await.unwrap().items.unwrap();
        assert!(found.is_empty(), "{index} has a record: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn way_back_converts_quarantined_sandboxes_and_nothing_else() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let held = broker.client.allocate("play-1").await.sandbox_id();
    let free = pool.sandboxes().await.into_iter();
    let free: Vec<_> = free.filter(|one| one.holder.is_none()).collect();
    let unused = free[0].id().to_string();
    for (id, from) in [(&held, "allocated"), (&unused, "available")] {
        let attributes = [
            ("status", Some(S("quarantined".to_owned()))),
            ("quarantined_by", Some(S("jane".to_owned()))),
            (
                "quarantine_reason",
                Some(S("its licence has expired".to_owned())),
            ),
            ("quarantined_from", Some(S(from.to_owned()))),
        ];
        let key = key(&format!("SBX#{id}"), "META");
        pool.rewrite(&pool.table, key, &attributes).await;
    }
    let rest = async || {
        let items = pool.items_of(&pool.table).await.into_iter();
        let is_aside = |item: &Item| [&held, &unused].contains(&item["sandbox_id"].as_s().unwrap());
        let mut items: Vec<_> = items.filter(|item| !is_aside(item)).collect();
        items.sort_by_key(|item| item["PK"].as_s().unwrap().clone());
        items
    };
    let before = rest().await;

    // The broker has counted the pool, and may be running.
    broker.client.overview().await;
    let conversion = pool
        .store
        .convert_for_fastapi(&*broker.clock)
        .await
        .unwrap();
    assert_eq!(
        (
            conversion.converted,
            conversion.skipped,
            conversion.unreadable
        ),
        (2, 0, 0)
    );
    assert!(conversion.brokers_seen);
    assert_eq!(rest().await, before);
    for item in pool.items_of(&pool.table).await {
        read(&item);
    }
    for id in [&held, &unused] {
        let of_id = admin(&broker, &format!("/v1/admin/sandboxes?q={id}")).await;
        let sandbox = &of_id["sandboxes"][0];
        assert_eq!(sandbox["status"], "deletion_failed", "{sandbox}");
        assert_eq!(
            sandbox["deletion_error"],
            "in quarantine by jane: its licence has expired"
        );
        assert_eq!(sandbox["quarantined_by"], "jane");
    }

    // Ten minutes after the last count, it finds no trace of a broker, and nothing to convert.
    broker.clock.advance(std::time::Duration::from_mins(10));
    let again = pool
        .store
        .convert_for_fastapi(&*broker.clock)
        .await
        .unwrap();
    assert_eq!(again, Conversion::default());
    // On the return to this broker nobody is allocated one of them.
    for n in 0..2 {
        let id = broker
            .client
            .allocate(&format!("later-{n}"))
            .await
            .sandbox_id();
        assert!(id != held && id != unused);
    }
    assert_eq!(
        broker.client.allocate("last").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn niosxaas_records_of_the_fastapi_service_are_read() {
    let pool = Pool::new().await;
    let none = || S(String::new());
    for (id, skipped, reason) in [
        ("cleaned", Bool(false), none()),
        ("skipped", Bool(true), none()),
        ("failed", Bool(false), S("timed out".to_owned())),
        ("null", Null(true), Null(true)),
    ] {
        let put = pool.client.put_item().table_name(&pool.table);
        let put = put
            .item("PK", S(format!("NIOSXAAS#{id}")))
            .item("SK", S("CLEANUP".to_owned()))
            .item("sandbox_id", S(id.to_owned()))
            .item("sandbox_name", S(format!("lab-{id}")))
            .item("external_id", S(format!("identity/accounts/{id}")))
            .item("track_name", S("N/A".to_owned()))
            .item("allocated_to_track", S("play-1".to_owned()))
            .item("niosxaas_cleaned_at", N(START.0.to_string()))
            .item("niosxaas_cleanup_skipped", skipped)
            .item("niosxaas_cleanup_failed_reason", reason)
            .item("deleted_at", N(START.0.to_string()))
            .item("ttl", N((START.0 + 30 * 86400).to_string()));
        put.send().await.unwrap();
    }
    let broker = pool.broker().await;
    let report = admin(&broker, "/v1/admin/niosxaas").await;
    assert_eq!(
        [&report["cleaned"], &report["skipped"], &report["failed"]],
        [2, 1, 1],
        "{report}"
    );
    let mut records = report["records"].as_array().unwrap().iter();
    let failed = records.find(|record| record["sandbox_id"] == "failed");
    assert_eq!(failed.unwrap()["detail"], "timed out");
}
