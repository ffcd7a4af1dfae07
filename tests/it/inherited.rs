//! Inherited allocations, which the FastAPI service made: their end, and both services on one table.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue::{N, S};
use reqwest::Method;
use serde_json::Value;

use crate::support::{Pool, START, TestBroker, simulated_csp};

const HOUR: i64 = 3600;

/// Writes an available sandbox as the sync of the FastAPI service does (`put_sandbox` in its `app/db/dynamodb.py`): the
/// whole item, always with a duration of four hours, without attributes that are not set.
async fn sync_as_fastapi(pool: &Pool, id: &str) {
    let at = N((START.0 - 60 * HOUR).to_string());
    let item = HashMap::from([
        ("PK".to_owned(), S(format!("SBX#{id}"))),
        ("SK".to_owned(), S("META".to_owned())),
        ("sandbox_id".to_owned(), S(id.to_owned())),
        ("name".to_owned(), S(format!("lab-{id}"))),
        (
            "external_id".to_owned(),
            S(format!("identity/accounts/{id}")),
        ),
        ("status".to_owned(), S("available".to_owned())),
        ("lab_duration_hours".to_owned(), N("4".to_owned())),
        ("deletion_retry_count".to_owned(), N("0".to_owned())),
        ("allocated_at".to_owned(), N("0".to_owned())),
        ("last_synced".to_owned(), at.clone()),
        ("created_at".to_owned(), at.clone()),
        ("updated_at".to_owned(), at),
    ]);
    let put = pool.client.put_item().table_name(&pool.table);
    put.set_item(Some(item)).send().await.unwrap();
}

/// Allocates a sandbox as the FastAPI service does (`atomic_allocate`): neither a duration nor an end.
async fn allocate_as_fastapi(pool: &Pool, id: &str, caller: &str, at: i64) {
    sync_as_fastapi(pool, id).await;
    pool.client
        .update_item()
        .table_name(&pool.table)
        .key("PK", S(format!("SBX#{id}")))
        .key("SK", S("META".to_owned()))
        .update_expression(
            "SET #status = :allocated, allocated_to_track = :track_id, allocated_at = :now, \
             idempotency_key = :idem_key, updated_at = :now, track_name = :track_name",
        )
        .condition_expression("attribute_exists(PK) AND #status = :available")
        .expression_attribute_names("#status", "status")
        .expression_attribute_values(":allocated", S("allocated".to_owned()))
        .expression_attribute_values(":available", S("available".to_owned()))
        .expression_attribute_values(":track_id", S(caller.to_owned()))
        .expression_attribute_values(":idem_key", S(caller.to_owned()))
        .expression_attribute_values(":track_name", S("Cloud Security 101".to_owned()))
        .expression_attribute_values(":now", N(at.to_string()))
        .send()
        .await
        .unwrap();
}

/// The ages of the allocations, in hours.
const AGES: [i64; 5] = [1, 5, 20, 47, 49];

/// Boots a broker on a table with allocations of the FastAPI service: for each age one to replay, one to release, one
/// to expire.
async fn broker_after_fastapi(more: &[(&str, &str)]) -> (Pool, TestBroker) {
    let pool = Pool::new().await;
    for age in AGES {
        for purpose in ["replay", "release", "expire"] {
            let name = format!("{purpose}-{age}");
            allocate_as_fastapi(&pool, &name, &format!("Jane {name}"), START.0 - age * HOUR).await;
        }
    }
    for n in 0..10 {
        sync_as_fastapi(&pool, &format!("free-{n}")).await;
    }
    let broker = pool.broker_with(more).await;
    (pool, broker)
}

async fn sandbox(broker: &TestBroker, id: &str) -> Value {
    let path = format!("/v1/admin/sandboxes?limit=1000&q={id}");
    let body = broker.client.admin(Method::GET, &path).await.json();
    let found = body["sandboxes"].as_array().unwrap().iter();
    let mut found = found.filter(|sandbox| sandbox["sandbox_id"] == id);
    found.next().unwrap().clone()
}

/// Checks release, replay, listing and expiry of allocations that last for `hours` and half an hour of grace.
async fn assert_inherited_allocations_last_for(hours: i64, more: &[(&str, &str)]) {
    let (_pool, broker) = broker_after_fastapi(more).await;
    let client = &broker.client;
    let own = client.allocate("own").await;
    let is_over = |age: i64| age > hours;
    for age in AGES {
        let end = START.0 - age * HOUR + hours * HOUR;
        let listed = sandbox(&broker, &format!("expire-{age}")).await;
        assert_eq!(listed["expires_at"], end, "{age} h");
        assert_eq!(listed["lab_duration_hours"], hours);

        let held = format!("release-{age}");
        let caller = format!("Jane {held}");
        assert_eq!(client.get(&held, &caller).await.json()["expires_at"], end);
        let released = client.release(&held, &caller).await;
        let status = if is_over(age) { 403 } else { 200 };
        assert_eq!(released.status, status, "{age} h: {released:?}");

        let held = format!("replay-{age}");
        let repeated = client.allocate(&format!("Jane {held}")).await;
        assert_eq!(repeated.sandbox_id() == held, !is_over(age), "{age} h");
        if !is_over(age) {
            assert_eq!(
                (repeated.status.as_u16(), &repeated.json()["expires_at"]),
                (200, &end.into())
            );
        }
    }
    // The overdue ones: those to expire, and those whose release was refused. A repeated setup has expired the others.
    let over = AGES.iter().filter(|age| is_over(**age)).count();
    let report = client.job("auto-expire?force=true").await;
    assert_eq!(report["expired"], 2 * over, "{report}");
    for age in AGES {
        let left = sandbox(&broker, &format!("expire-{age}")).await;
        let status = if is_over(age) {
            "pending_deletion"
        } else {
            "allocated"
        };
        assert_eq!(left["status"], status, "{age} h");
    }
    let own = sandbox(&broker, &own.sandbox_id()).await;
    let own_hours = more.first().map_or(4, |(_, hours)| hours.parse().unwrap());
    assert_eq!(own["expires_at"], START.0 + own_hours * HOUR);
}

#[tokio::test(flavor = "multi_thread")]
async fn inherited_allocations_last_48_hours_unless_the_duration_is_configured() {
    assert_inherited_allocations_last_for(48, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inherited_allocations_last_for_the_configured_duration() {
    assert_inherited_allocations_last_for(48, &[("LAB_DURATION_HOURS", "48")]).await;
    assert_inherited_allocations_last_for(6, &[("LAB_DURATION_HOURS", "6")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_of_this_broker_states_its_end_for_both_services() {
    let pool = Pool::new().await;
    sync_as_fastapi(&pool, "only").await;
    let broker = pool.broker_with(&[("LAB_DURATION_HOURS", "3")]).await;
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    let items = pool.items().await;
    let item = items
        .iter()
        .find(|item| item["PK"] == S("SBX#only".to_owned()));
    let item = item.unwrap();
    assert_eq!(item["expires_at"], N((START.0 + 3 * HOUR).to_string()));
    assert_eq!(item["lab_duration_hours"], N("3".to_owned()));
}

/// A shorter duration than the configured one: the query for overdue allocations must not leave it out.
#[tokio::test(flavor = "multi_thread")]
async fn allocation_expires_by_its_own_end_under_any_configured_duration() {
    let pool = Pool::of(1).await;
    let short = pool.broker_with(&[("LAB_DURATION_HOURS", "1")]).await;
    assert_eq!(short.client.allocate("play-1").await.status, 201);
    let long = pool.broker_with(&[("LAB_DURATION_HOURS", "100")]).await;
    long.clock.advance(Duration::from_mins(90));
    assert_eq!(long.client.job("auto-expire").await["expired"], 0);
    long.clock.advance(Duration::from_secs(1));
    assert_eq!(long.client.job("auto-expire").await["expired"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_writes_the_claims_of_allocations_that_a_concurrent_fastapi_service_makes() {
    let pool = Pool::new().await;
    let (_simulator, base_url) = simulated_csp(3).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    let client = &broker.client;
    client.job("sync").await;
    // After the migration at the start of the broker.
    allocate_as_fastapi(&pool, "theirs", "Jane Doe", START.0 - 20 * HOUR).await;
    assert_eq!(client.job("sync").await["claims_written"], 1);
    let repeated = client.allocate("Jane Doe").await;
    assert_eq!(
        (repeated.status.as_u16(), repeated.sandbox_id()),
        (200, "theirs".to_owned())
    );
    assert_eq!(client.job("sync").await["claims_written"], 0);
}

/// The FastAPI service puts whole items back, without the attributes that it does not know. Therefore the end of one of
/// this broker's allocations cannot stay on an item that the FastAPI service allocates later.
#[tokio::test(flavor = "multi_thread")]
async fn end_of_an_earlier_allocation_is_not_read_for_a_later_one() {
    let pool = Pool::new().await;
    sync_as_fastapi(&pool, "only").await;
    let broker = pool.broker().await;
    assert_eq!(broker.client.allocate("first").await.status, 201);
    // Its sync had read the item before that allocation.
    allocate_as_fastapi(&pool, "only", "second", START.0 + 60).await;
    let listed = sandbox(&broker, "only").await;
    assert_eq!(listed["expires_at"], START.0 + 60 + 48 * HOUR);
}
