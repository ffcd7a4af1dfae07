//! The migration of a table that the FastAPI service wrote, and both services on one table.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue::{N, Null, S};
use reqwest::Method;
use sandbox_broker::{
    clock::Clock,
    config::Config,
    csp::simulator::{Call, Fault, FaultKind},
    domain::LeaseTerms,
    store::{Holders, Item, PoolStore},
    telemetry::metrics::Metrics,
};

use crate::support::{Pool, Proxy, START, fastapi, proxy, simulated_csp};

/// A sandbox item as the FastAPI service writes it: no claim, and NULL for attributes that are not set.
async fn put_as_fastapi(
    pool: &Pool,
    id: &str,
    caller: Option<&str>,
    key: Option<&str>,
    allocated_at: i64,
) {
    let mut item: HashMap<String, _> = HashMap::from([
        ("PK".into(), S(format!("SBX#{id}"))),
        ("SK".into(), S("META".into())),
        ("sandbox_id".into(), S(id.into())),
        ("name".into(), S(format!("lab-{id}"))),
        ("external_id".into(), S(format!("identity/accounts/{id}"))),
        (
            "status".into(),
            S(if caller.is_some() {
                "allocated"
            } else {
                "available"
            }
            .into()),
        ),
        ("allocated_at".into(), N(allocated_at.to_string())),
        ("lab_duration_hours".into(), N("4".into())),
        ("deletion_retry_count".into(), N("0".into())),
        ("deletion_requested_at".into(), Null(true)),
        ("track_name".into(), Null(true)),
    ]);
    item.extend(caller.map(|caller| ("allocated_to_track".to_owned(), S(caller.into()))));
    item.extend(key.map(|key| ("idempotency_key".to_owned(), S(key.into()))));
    pool.client
        .put_item()
        .table_name(&pool.table)
        .set_item(Some(item))
        .send()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_in_a_fastapi_table_keep_their_sandboxes() {
    let pool = Pool::new().await;
    for n in 0..30 {
        let caller = format!("play-{n}");
        // The FastAPI service stores the caller's id as the default key; its older items have no key.
        let key = (n % 2 == 0).then_some(caller.as_str());
        put_as_fastapi(
            &pool,
            &format!("held-{n}"),
            Some(&caller),
            key,
            START.0 - 60,
        )
        .await;
        put_as_fastapi(&pool, &format!("free-{n}"), None, None, 0).await;
    }
    let broker = pool.broker().await;
    for n in 0..30 {
        let answer = broker.client.allocate(&format!("play-{n}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.sandbox_id()),
            (200, format!("held-{n}"))
        );
        assert_eq!(answer.json()["expires_at"], START.0 - 60 + 48 * 3600);
    }
    assert_eq!(broker.client.allocate("newcomer").await.status, 201);
    assert_eq!(broker.client.release("held-3", "play-3").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_migration_changes_nothing() {
    let pool = Pool::new().await;
    put_as_fastapi(&pool, "held", Some("play-1"), Some("key-1"), START.0).await;
    let terms = LeaseTerms {
        lab_duration_hours: 4,
        inherited_hours: 48,
        grace: std::time::Duration::ZERO,
    };
    let first = pool.store.migrate(terms, START).await.unwrap();
    assert_eq!(
        (first.allocated, first.claims_written, first.duplicates),
        (1, 1, 0)
    );
    let second = pool.store.migrate(terms, START).await.unwrap();
    assert_eq!(
        (second.allocated, second.claims_written, second.duplicates),
        (1, 0, 0)
    );
}

/// Its holder may repeat its setup at the same time: that transaction writes the same claim.
#[tokio::test(flavor = "multi_thread")]
async fn missing_claim_is_written_after_conflicts_with_an_allocation() {
    let pool = Pool::new().await;
    put_as_fastapi(&pool, "held", Some("play-1"), None, START.0 - 60).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let config = Config::from_variables(&pool.variables(&[])).unwrap();
    let store = PoolStore::connect(&config.store, Some(&proxy.endpoint()), Metrics::new()).await;
    let mut holders = Holders::default();
    for sandbox in pool.sandboxes().await {
        holders.add(sandbox);
    }
    for _ in 0..2 {
        proxy.inject_once("PutItem", proxy::Fault::Conflict);
    }
    let written = store.write_missing_claims(holders, config.terms).await;
    assert_eq!(written.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_with_two_sandboxes_of_the_fastapi_service_keeps_the_newer_one() {
    let pool = Pool::new().await;
    put_as_fastapi(
        &pool,
        "older",
        Some("play-1"),
        Some("play-1"),
        START.0 - 100,
    )
    .await;
    put_as_fastapi(&pool, "newer", Some("play-1"), Some("play-1"), START.0 - 50).await;
    let broker = pool.broker().await;
    assert_eq!(broker.client.allocate("play-1").await.sandbox_id(), "newer");
    for id in ["older", "newer"] {
        assert_eq!(
            broker.client.release(id, "play-1").await.status,
            200,
            "both can be released"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_refuses_to_start_on_a_table_of_a_newer_schema() {
    let pool = Pool::new().await;
    pool.client
        .put_item()
        .table_name(&pool.companion)
        .item("PK", S("SCHEMA".into()))
        .item("SK", S("SCHEMA".into()))
        .item("version", N("99".into()))
        .send()
        .await
        .unwrap();
    let config = sandbox_broker::config::Config::from_variables(&pool.variables(&[])).unwrap();
    let clock: std::sync::Arc<dyn Clock> =
        std::sync::Arc::new(sandbox_broker::clock::ManualClock::new(START));
    let error = sandbox_broker::app::RunningBroker::start(&config, clock, 1)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("schema version 99"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_without_a_duration_can_be_released_and_expires() {
    let pool = Pool::new().await;
    for (id, caller) in [("one", "play-1"), ("two", "play-2")] {
        put_as_fastapi(&pool, id, Some(caller), None, START.0).await;
        pool.client
            .update_item()
            .table_name(&pool.table)
            .key("PK", S(format!("SBX#{id}")))
            .key("SK", S("META".into()))
            .update_expression("REMOVE lab_duration_hours")
            .send()
            .await
            .unwrap();
    }
    let broker = pool.broker().await;
    assert_eq!(broker.client.release("one", "play-1").await.status, 200);
    broker.clock.advance(std::time::Duration::from_hours(49));
    assert_eq!(
        broker.client.release("two", "play-2").await.code(),
        "ALLOCATION_EXPIRED"
    );
    assert_eq!(broker.client.job("auto-expire").await["expired"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn allocations_of_a_concurrent_fastapi_service_are_replayed_after_a_migration() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    // One caller is new. The other has released a sandbox of this broker before, so it has an obsolete claim.
    let released = client.allocate("returning").await.sandbox_id();
    client.release(&released, "returning").await;
    for caller in ["new", "returning"] {
        put_as_fastapi(
            &pool,
            &format!("of-{caller}"),
            Some(caller),
            Some(caller),
            START.0,
        )
        .await;
    }
    let held_here = client.allocate("here").await.sandbox_id();
    let terms = LeaseTerms {
        lab_duration_hours: 4,
        inherited_hours: 48,
        grace: std::time::Duration::ZERO,
    };
    let migration = pool.store.migrate(terms, START).await.unwrap();
    assert_eq!((migration.allocated, migration.claims_written), (3, 2));
    for caller in ["new", "returning"] {
        let answer = client.allocate(caller).await;
        assert_eq!(
            (answer.status.as_u16(), answer.sandbox_id()),
            (200, format!("of-{caller}"))
        );
    }
    assert_eq!(client.allocate("here").await.sandbox_id(), held_here);
}

/// The reason why docs/operations.md says to stop the FastAPI service's sync first.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_sync_of_the_fastapi_service_can_make_a_held_sandbox_available() {
    let pool = Pool::new().await;
    put_as_fastapi(&pool, "only", None, None, 0).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    assert_eq!(client.allocate("play-1").await.sandbox_id(), "only");
    // The sync writes the item as it read it before the allocation.
    put_as_fastapi(&pool, "only", None, None, 0).await;
    assert_eq!(
        client.get("only", "play-1").await.code(),
        "NOT_SANDBOX_OWNER"
    );
    // This broker has recorded the sandbox as consumed, but another one has not.
    assert_eq!(client.allocate("play-2").await.status, 409);
    let other = pool.broker().await;
    let allocated = other.client.allocate("play-2").await;
    assert_eq!(
        (allocated.status.as_u16(), allocated.sandbox_id()),
        (201, "only".to_owned())
    );
}

fn text(item: &Item, name: &str) -> String {
    item[name].as_s().unwrap().clone()
}

fn is_audit_record(item: &Item) -> bool {
    text(item, "PK").starts_with("AUDIT#")
}

/// Brings the tables into the layout of an earlier build: all items in the pool's table.
async fn make_earlier(pool: &Pool) {
    for mut item in pool.items_of(&pool.companion).await {
        let key = |item: &Item| {
            let key = ["PK", "SK"].map(|name| (name.to_owned(), item[name].clone()));
            Some(key.into())
        };
        let delete = pool.client.delete_item().table_name(&pool.companion);
        delete.set_key(key(&item)).send().await.unwrap();
        if text(&item, "PK").starts_with("TOMBSTONES#") {
            let id = text(&item, "SK");
            item.insert("PK".to_owned(), S(format!("GONE#{id}")));
            item.insert("SK".to_owned(), S("GONE".to_owned()));
        }
        // An earlier build has neither.
        if text(&item, "PK") == "UNREADABLE" || is_audit_record(&item) {
            continue;
        }
        if text(&item, "PK") == "SCHEMA" {
            item.insert("version".to_owned(), N("1".to_owned()));
        }
        put(pool, &pool.table, item).await;
    }
    let record = [
        ("PK", S("NIOSXAAS#4711".to_owned())),
        ("SK", S("CLEANUP".to_owned())),
        ("sandbox_id", S("4711".to_owned())),
        ("outcome", S("failed".to_owned())),
        ("detail", S("timed out".to_owned())),
        ("deleted_at", N(START.0.to_string())),
    ];
    let record = record.map(|(name, value)| (name.to_owned(), value));
    put(pool, &pool.table, record.into()).await;
}

async fn put(pool: &Pool, table: &str, item: Item) {
    let put = pool.client.put_item().table_name(table);
    put.set_item(Some(item)).send().await.unwrap();
}

/// Returns all items in the order of their keys.
async fn sorted(pool: &Pool) -> Vec<Item> {
    let mut items = pool.items().await;
    items.sort_by_key(|item| (text(item, "PK"), text(item, "SK")));
    items
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_an_earlier_build_are_migrated_after_it_was_stopped() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(10).await;
    let variables = [("CSP_BASE_URL", base_url.as_str())];
    let broker = pool.broker_with(&variables).await;
    broker.client.job("sync").await;
    let held = broker.client.allocate("holder").await.sandbox_id();
    let gone = broker.client.allocate("gone").await.sandbox_id();
    broker.client.release(&gone, "gone").await;
    simulator.inject([Fault {
        on: Call::Delete,
        ..Fault::always(FaultKind::Forget)
    }]);
    assert_eq!(broker.client.job("cleanup").await["deleted"], 1);
    drop(broker);
    let before = pool.items_of(&pool.companion).await;
    let before = before.iter().filter(|item| !is_audit_record(item)).count();
    make_earlier(&pool).await;

    // A broker does not know whether others of the earlier build are running.
    let config = sandbox_broker::config::Config::from_variables(&pool.variables(&variables));
    let clock = std::sync::Arc::new(sandbox_broker::clock::ManualClock::new(START));
    let refused = sandbox_broker::app::RunningBroker::start(&config.unwrap(), clock, 1).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("table migrate"), "{error}");

    // A migration that was interrupted after a write has left an item in both tables.
    let items = pool.items_of(&pool.table).await;
    let claim = items
        .iter()
        .find(|item| text(item, "PK").starts_with("CLAIM#"));
    put(&pool, &pool.companion, claim.unwrap().clone()).await;

    let terms = LeaseTerms {
        lab_duration_hours: 4,
        inherited_hours: 48,
        grace: std::time::Duration::ZERO,
    };
    let migration = pool.store.migrate(terms, START).await.unwrap();
    // The schema item and the number of unreadable items are written anew, and the NIOSXaaS record is converted.
    assert_eq!((migration.moved, migration.claims_written), (before - 1, 0));
    let migrated = sorted(&pool).await;
    let repeated = pool.store.migrate(terms, START).await.unwrap();
    assert_eq!((repeated.moved, repeated.claims_written), (0, 0));
    assert_eq!(sorted(&pool).await, migrated);
    assert_eq!(pool.items_of(&pool.companion).await.len(), before);
    for item in pool.items_of(&pool.table).await {
        fastapi::read(&item);
        if text(&item, "PK") == "SCHEMA" {
            assert_eq!(
                item["version"],
                N("2".to_owned()),
                "earlier builds refuse to start"
            );
        }
    }

    let broker = pool.broker_with(&variables).await;
    assert_eq!(broker.client.allocate("holder").await.sandbox_id(), held);
    let report = broker.client.job("sync").await;
    assert_eq!(
        (&report["inserted"], &report["unreadable"]),
        (&0.into(), &0.into())
    );
    let shown = broker.client.admin(Method::GET, "/v1/admin/niosxaas").await;
    assert_eq!(shown.json()["records"][0]["detail"], "timed out");
    let runs = broker.client.admin(Method::GET, "/v1/admin/jobs").await;
    let runs = runs.json()["runs"].as_array().unwrap().clone();
    let cleanups = runs.iter().filter(|run| run["job"] == "cleanup");
    assert_eq!(cleanups.count(), 1, "{runs:?}");
}
