//! The pools of the policy, as operators see them.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use sandbox_broker::config::Variables;
use serde_json::{Value, json};

use crate::support::{BrokerProcess, Pool, Proxy, START, key, warning_codes};

/// A policy with a pool that accounts are created for, and one that is only watched.
fn two_pools() -> Value {
    json!({ "pool": [
        { "name_prefix": "lab-a-", "target_available": 5, "max_total": 20, "create": { "description": "Labs" } },
        { "name_prefix": "lab-b", "target_available": 2 },
    ] })
}

/// Returns a pool of sandboxes with a policy of [`two_pools`], one of whose sandboxes is held.
async fn with_two_pools() -> Pool {
    let pool = Pool::with_names(["lab-a-1", "lab-a-2", "lab-b1", "lab-c-1", "lab-", "lab-a"]).await;
    let broker = pool.broker().await;
    broker.client.set_policy(0, &two_pools()).await;
    let request = broker.client.allocation("play-1");
    let request = request.header("X-Sandbox-Name-Prefix", "lab-a-");
    assert_eq!(broker.client.send(request).await.status, 201);
    pool
}

fn lines_with<'a>(metrics: &'a str, part: &str) -> Vec<&'a str> {
    metrics.lines().filter(|line| line.contains(part)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn overview_and_metrics_have_the_counts_of_each_pool_by_name_prefix() {
    let pool = with_two_pools().await;
    let broker = pool.broker().await;
    let overview = broker.client.overview().await;
    assert_eq!(
        overview["pools"],
        json!([
            {
                "name_prefix": "lab-a-", "mode": "off", "state": "watched", "reason": null, "since": null,
                "target": 5, "target_available": 5, "schedule": null,
                "available": 1, "provisioning": 0, "under_way": 0, "allocated": 1, "quarantined": 0, "total": 2,
                "max_total": 20, "time_to_available_sec": null,
            },
            {
                "name_prefix": "lab-b", "mode": "off", "state": "watched", "reason": null, "since": null,
                "target": 2, "target_available": 2, "schedule": null,
                "available": 1, "provisioning": 0, "under_way": 0, "allocated": 0, "quarantined": 0, "total": 1,
                "max_total": null, "time_to_available_sec": null,
            },
        ])
    );
    assert_eq!(overview["counts"], broker.client.stats().await);
    let metrics = broker.client.plain("/metrics").await.text;
    assert_eq!(
        lines_with(&metrics, "{pool=\"lab-b\"}"),
        [
            "broker_pool_creations_under_way{pool=\"lab-b\"} 0",
            "broker_pool_late{pool=\"lab-b\"} 0",
            "broker_pool_ready{pool=\"lab-b\"} 1",
            "broker_pool_refill_stopped{pool=\"lab-b\"} 0",
            "broker_pool_target{pool=\"lab-b\"} 2",
            "broker_pool_warming{pool=\"lab-b\"} 0",
        ]
    );
    assert!(metrics.lines().any(|line| line == "broker_pool_expected 5"));
}

/// Returns the database calls of a count in a broker with these settings, by operation.
async fn calls_of_a_count(pool: &Pool, settings: &[(&str, &str)]) -> BTreeMap<String, usize> {
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let settings = [settings, &[("DDB_ENDPOINT_URL", endpoint.as_str())]].concat();
    let broker = pool.broker_with(&settings).await;
    proxy.until_quiet().await;
    proxy.take_calls();
    broker.client.plain("/metrics").await;
    proxy.take_calls()
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_that_nothing_fills_cost_no_call() {
    let pool = Pool::of(3).await;
    let without = calls_of_a_count(&pool, &[]).await;
    let broker = pool.broker().await;
    broker.client.set_policy(0, &two_pools()).await;
    for mode in ["off", "plan"] {
        let with_pools = calls_of_a_count(&pool, &[("REFILL_MODE", mode)]).await;
        assert_eq!(with_pools, without, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_is_off_is_shown_as_off_and_never_as_due() {
    let pool = Pool::of(30).await;
    let shown = async |settings: &[(&str, &str)]| {
        let broker = pool.broker_with(settings).await;
        let overview = broker.client.overview().await;
        let jobs = overview["jobs"].as_array().unwrap().clone();
        let shown = jobs.into_iter().filter(|job| job["is_off"] == true);
        let shown: Vec<_> = shown
            .map(|job| {
                assert_eq!(
                    (
                        &job["interval_seconds"],
                        &job["next_due_at"],
                        &job["is_overdue"]
                    ),
                    (&Value::Null, &Value::Null, &json!(false)),
                    "{job}"
                );
                job["job"].as_str().unwrap().to_owned()
            })
            .collect();
        (shown, warning_codes(&overview).len())
    };
    assert_eq!(
        shown(&[]).await,
        (vec!["check".to_owned(), "refill".to_owned()], 0)
    );
    assert_eq!(
        shown(&[("REFILL_MODE", "plan")]).await,
        (vec!["check".to_owned()], 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn event_of_the_count_has_the_numbers_that_alarms_need() {
    let pool = with_two_pools().await;
    let directory = tempfile::tempdir().unwrap();
    let more = [("LOG_FORMAT", "json"), ("LOG_LEVEL", "info")];
    let variables: Variables = pool.variables(&more);
    let broker = BrokerProcess::serve(directory.path(), &variables);
    broker.client.plain("/metrics").await;
    let events = broker.events_until(|event| event["message"] == "pool counted");
    let counted = events.last().unwrap();
    for (field, value) in [
        ("available", 5),
        ("expected", 5),
        ("provisioning", 0),
        ("pools_late", 0),
        ("pools_stopped", 0),
        ("quarantined_by_checks", 0),
    ] {
        assert_eq!(counted[field], value, "{field} of {counted}");
    }
}

/// Settings of a broker that fills pools and checks accounts. No job runs in it.
const FILLS: [(&str, &str); 5] = [
    ("REFILL_MODE", "on"),
    ("CHECK_MODE", "new"),
    ("NIOSXAAS_EMAIL", "checks@example.com"),
    ("NIOSXAAS_PASSWORD", "a-password"),
    ("POOL_LOW_THRESHOLD", "6"),
];

fn seconds_before(seconds: i64) -> AttributeValue {
    AttributeValue::N((START.0 - seconds).to_string())
}

/// Writes an item of the refill of the pool `lab-a-`.
async fn put_refill(pool: &Pool, sort: &str, attributes: &[(&str, AttributeValue)]) {
    let mut item = key("REFILL#lab-a-", sort);
    let attributes = attributes.iter().cloned();
    item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    let put = pool.client.put_item().table_name(&pool.companion);
    put.set_item(Some(item)).send().await.unwrap();
}

/// Writes a creation whose account has existed for so long, in a pool where it takes ten minutes until it is available.
async fn put_creation(pool: &Pool, age: i64, more: &[(&str, AttributeValue)]) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let number = |number: &str| AttributeValue::N(number.to_owned());
    let creation = [
        ("name", text("lab-a-r000001")),
        ("state", text("created")),
        ("external_id", text("identity/accounts/1")),
        ("intended_at", seconds_before(age)),
        ("attempted_at", seconds_before(age)),
        ("created_at", seconds_before(age)),
        ("attempts", number("1")),
    ];
    put_refill(pool, "CREATE#0000000001", &creation).await;
    let times = ["time_01", "time_02", "time_03", "time_04", "time_05"];
    let mut state = vec![
        ("last_number", number("5")),
        ("below_since", seconds_before(4000)),
    ];
    state.extend(times.map(|name| (name, number("600"))));
    state.extend_from_slice(more);
    put_refill(pool, "POOL", &state).await;
}

/// Returns the pool `lab-a-`, the overview and the metrics, as a new broker sees them.
async fn seen(pool: &Pool) -> (Value, Value, String) {
    let broker = pool.broker_with(&FILLS).await;
    let overview = broker.client.overview().await;
    let metrics = broker.client.plain("/metrics").await.text;
    (overview["pools"][0].clone(), overview, metrics)
}

#[tokio::test(flavor = "multi_thread")]
async fn account_on_its_way_counts_until_it_is_late_and_then_is_a_warning() {
    let pool = with_two_pools().await;
    put_creation(&pool, 100, &[]).await;
    let (filling, overview, metrics) = seen(&pool).await;
    assert_eq!(
        (
            &filling["state"],
            &filling["mode"],
            &filling["reason"],
            &filling["since"]
        ),
        (
            &json!("filling"),
            &json!("on"),
            &Value::Null,
            &json!(START.0 - 4000)
        )
    );
    assert_eq!(
        (&filling["under_way"], &filling["time_to_available_sec"]),
        (&json!(1), &json!(600))
    );
    assert_eq!(overview["expected_available"], 6);
    assert_eq!(warning_codes(&overview), Vec::<&str>::new());
    for line in [
        "broker_pool_expected 6",
        "broker_pool_creations_under_way{pool=\"lab-a-\"} 1",
        "broker_pool_time_to_available_seconds{pool=\"lab-a-\"} 600",
        "broker_pool_late{pool=\"lab-a-\"} 0",
    ] {
        assert!(
            metrics.lines().any(|known| known == line),
            "{line}\n{metrics}"
        );
    }

    // Four are missing: one run, and ten minutes.
    put_creation(&pool, 700, &[]).await;
    let (late, overview, metrics) = seen(&pool).await;
    assert_eq!(
        (&late["state"], &late["since"]),
        (&json!("late"), &json!(START.0 - 700 + 660))
    );
    assert_eq!(
        warning_codes(&overview),
        ["pool_low", "pool_late"],
        "{overview}"
    );
    let message = overview["warnings"][1]["message"].as_str().unwrap();
    assert!(
        message.contains("lab-a-") && message.contains("10 minutes"),
        "{message}"
    );
    assert!(
        metrics
            .lines()
            .any(|line| line == "broker_pool_late{pool=\"lab-a-\"} 1")
    );
    assert_eq!(overview["pools"][1]["state"], "watched");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_csp_is_a_warning_with_its_words() {
    let pool = with_two_pools().await;
    let stop = [
        (
            "stopped_reason",
            AttributeValue::S("HTTP 403: quota of accounts".to_owned()),
        ),
        ("stopped_at", seconds_before(50)),
    ];
    put_creation(&pool, 100, &stop).await;
    let (stopped, overview, metrics) = seen(&pool).await;
    assert_eq!(
        (&stopped["state"], &stopped["reason"], &stopped["since"]),
        (
            &json!("stopped"),
            &json!("HTTP 403: quota of accounts"),
            &json!(START.0 - 50)
        )
    );
    assert_eq!(
        warning_codes(&overview),
        ["pool_low", "refill_stopped"],
        "{overview}"
    );
    assert!(
        metrics
            .lines()
            .any(|line| line == "broker_pool_refill_stopped{pool=\"lab-a-\"} 1")
    );
}
