//! The files of the dashboard, and the admin API that it calls.

use reqwest::{Method, StatusCode, header};
use sandbox_broker::{
    clock::UnixSeconds,
    csp::simulator::{Call, Fault, FaultKind},
    domain::{Activity, AuditAction, Flow, PoolCounts, Role, SAMPLE_SPAN, SandboxId, Status},
    store::Change,
};
use serde_json::{Value, json};

use crate::support::{Pool, Proxy, START, proxy, simulated_csp, warning_codes};

#[tokio::test(flavor = "multi_thread")]
async fn page_and_files_have_a_policy_and_tags() {
    let pool = Pool::of(1).await;
    let broker = pool.broker_with(&[("API_BASE_PATH", "/api/v2")]).await;
    let page = broker.client.plain("/dashboard").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(
        page.text.contains(r#"data-api="./api/v2""#),
        "{}",
        page.text
    );
    let mut files = 0;
    for file in page
        .text
        .split('"')
        .filter(|text| text.starts_with("dashboard/"))
    {
        let file = &format!("/{file}");
        let answer = broker.client.plain(file).await;
        assert_eq!(answer.status, 200, "{file}");
        let kind = answer.header("content-type").unwrap();
        assert!(
            [
                "text/javascript; charset=utf-8",
                "text/css; charset=utf-8",
                "image/svg+xml"
            ]
            .contains(&kind),
            "{file}: {kind}"
        );
        let tag = answer.header("etag").unwrap();
        let again = broker
            .client
            .request(Method::GET, file)
            .header(header::IF_NONE_MATCH, tag);
        let again = broker.client.send(again).await;
        assert_eq!(
            (again.status, again.text.as_str()),
            (StatusCode::NOT_MODIFIED, ""),
            "{file}"
        );
        files += 1;
    }
    assert!(files >= 2, "{}", page.text);
    for missing in [
        "/dashboard/none.js",
        "/dashboard/index.html",
        "/dashboard/../Cargo.toml",
        "/dashboard/%2e%2e/Cargo.toml",
    ] {
        let answer = broker.client.plain(missing).await;
        assert_eq!(answer.status, 404, "{missing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overview_has_the_state_of_the_pool_and_warnings() {
    let pool = Pool::of(30).await;
    let (simulator, base_url) = simulated_csp(0).await;
    let settings = [
        ("CSP_BASE_URL", base_url.as_str()),
        ("POOL_LOW_THRESHOLD", "29"),
        ("GRACE_PERIOD_MINUTES", "7"),
    ];
    let broker = pool.broker_with(&settings).await;
    let initial = broker.client.overview().await;
    assert_eq!(warning_codes(&initial), Vec::<&str>::new());
    assert_eq!(initial["counts"], broker.client.stats().await);
    assert_eq!(
        (&initial["at"], &initial["counted_at"]),
        (&json!(START.0), &json!(START.0))
    );
    assert_eq!(initial["lasts_for_seconds"], Value::Null);
    assert_eq!(initial["grace_period_seconds"], 420);
    let jobs = initial["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 7);
    assert_eq!(jobs[0]["interval_seconds"], 600);
    assert_eq!(jobs[0]["next_due_at"], START.0);
    assert_eq!(jobs[6]["interval_seconds"], Value::Null);
    assert_eq!(initial["expected_available"], 30);
    assert_eq!(initial["pools"], json!([]));

    // A new broker has no earlier count.
    for n in 0..2 {
        let caller = format!("play-{n}");
        let id = broker.client.allocate(&caller).await.sandbox_id();
        broker.client.release(&id, &caller).await;
    }
    let rejection = FaultKind::Status { code: 401 };
    simulator.inject([Fault {
        on: Call::Delete,
        ..Fault::always(rejection)
    }]);
    broker.client.admin(Method::POST, "/v1/admin/cleanup").await;
    let broker = pool.broker_with(&settings).await;
    let low = broker.client.overview().await;
    assert_eq!(
        warning_codes(&low)[..2],
        ["pool_low", "job_failed"],
        "{low}"
    );
    assert_eq!(low["jobs"][1]["last_run"]["state"], "failed");
    assert_eq!(low["counts"]["available"], 28);

    let free: Vec<_> = pool
        .sandboxes()
        .await
        .into_iter()
        .filter(|one| one.holder.is_none())
        .collect();
    let stale = free
        .iter()
        .map(|one| Change::MarkStale(SandboxId::clone(one.id()), Status::Available));
    pool.apply(stale.collect()).await;
    let broker = pool.broker_with(&settings).await;
    assert_eq!(
        warning_codes(&broker.client.overview().await)[0],
        "pool_empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn job_without_success_for_three_intervals_is_overdue() {
    let pool = Pool::of(30).await;
    let broker = pool.broker().await;
    broker.client.job("auto-expire").await;
    broker.clock.advance(std::time::Duration::from_mins(29));
    assert_eq!(
        broker.client.overview().await["jobs"][2]["is_overdue"],
        false
    );
    broker.clock.advance(std::time::Duration::from_mins(2));
    let late = broker.client.overview().await;
    assert_eq!(late["jobs"][2]["is_overdue"], true);
    assert_eq!(warning_codes(&late), ["job_overdue"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_have_the_allocations_of_every_broker_and_outlive_it() {
    let pool = Pool::of(10).await;
    let (one, other) = (pool.broker().await, pool.broker().await);
    for (n, broker) in [&one, &other, &one].into_iter().enumerate() {
        let caller = format!("play-{n}");
        let id = broker.client.allocate(&caller).await.sandbox_id();
        if n == 0 {
            // A script that received no answer repeats the request.
            for _ in 0..3 {
                assert_eq!(broker.client.release(&id, &caller).await.status, 200);
            }
        }
    }
    // A scrape makes a broker count the pool and add to the samples.
    one.client.plain("/metrics").await;
    other.client.plain("/metrics").await;
    drop((one, other));
    let broker = pool.broker().await;
    let samples = broker
        .client
        .admin(Method::GET, "/v1/admin/samples")
        .await
        .json();
    let begin = START.0.div_euclid(300) * 300;
    assert_eq!(
        samples,
        json!({ "every_seconds": SAMPLE_SPAN.as_secs(), "samples": [{
            "at": begin, "available": 7, "allocated": 2, "pending_deletion": 1, "stale": 0, "deletion_failed": 0,
            "provisioning": 0,
            "quarantined": 0,
            "allocations": 3, "releases": 1
        }] })
    );
    let overview = broker.client.overview().await;
    assert_eq!(overview["allocations_last_hour"], 3);
    assert_eq!(overview["releases_last_hour"], 1);
    assert!(
        overview["lasts_for_seconds"].as_u64().unwrap() >= 700,
        "{overview}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_have_a_sample_from_the_start_of_a_broker() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let samples = broker
        .client
        .admin(Method::GET, "/v1/admin/samples")
        .await
        .json();
    assert_eq!(samples["samples"].as_array().unwrap().len(), 1, "{samples}");
    assert_eq!(samples["samples"][0]["available"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_starts_without_a_first_sample_that_cannot_be_written() {
    let pool = Pool::of(4).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    // The SDK makes three attempts. Nothing else is updated at the start.
    for _ in 0..3 {
        proxy.inject_once("UpdateItem", proxy::Fault::ServerError);
    }
    let endpoint = proxy.endpoint();
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    assert!(proxy.injected()[&proxy::Fault::ServerError] > 0);
    let samples = |path: &'static str| {
        let client = &broker.client;
        async move { client.admin(Method::GET, path).await.json()["samples"].clone() }
    };
    assert_eq!(samples("/v1/admin/samples").await, json!([]));
    broker.client.overview().await;
    assert_eq!(samples("/v1/admin/samples").await[0]["available"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_overview_counts_earlier_allocations() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    broker.client.allocate("play-1").await;
    broker.client.allocate("play-2").await;
    let overview = broker.client.overview().await;
    assert_eq!(overview["counts"]["allocated"], 2);
    assert_eq!(overview["allocations_last_hour"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_separate_for_each_interval_and_found_by_time() {
    let pool = Pool::of(1).await;
    let counts = PoolCounts {
        available: 4,
        ..PoolCounts::default()
    };
    let flow = Flow {
        allocations: 2,
        releases: 1,
    };
    let hour = 3600;
    for ago in [25 * hour, 2 * hour, 2 * hour - 10, 1] {
        let now = UnixSeconds(START.0 / 300 * 300 + 20 - ago);
        pool.store.add_sample(counts, flow, now).await.unwrap();
    }
    let broker = pool.broker().await;
    let seen = |hours: u64| {
        let path = format!("/v1/admin/samples?hours={hours}");
        let client = &broker.client;
        async move {
            let samples = client.admin(Method::GET, &path).await.json();
            let samples = samples["samples"].as_array().unwrap().clone();
            samples
                .iter()
                .map(|sample| sample["allocations"].as_u64().unwrap())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(seen(1).await, [2]);
    assert_eq!(seen(3).await, [4, 2]);
    assert_eq!(seen(48).await, [2, 4, 2]);
    for hours in ["0", "169", "many"] {
        let path = format!("/v1/admin/samples?hours={hours}");
        assert_eq!(
            broker.client.admin(Method::GET, &path).await.status,
            400,
            "{hours}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_the_dashboard_are_for_admins_only() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    for path in [
        "/v1/admin/overview",
        "/v1/admin/samples",
        "/v1/admin/niosxaas",
    ] {
        let anonymous = broker.client.plain(path).await;
        assert_eq!(anonymous.status, 401, "{path}");
        let track = broker
            .client
            .request(Method::GET, path)
            .bearer_auth(crate::support::TRACK);
        assert_eq!(broker.client.send(track).await.status, 403, "{path}");
    }
}

#[test]
fn lists_of_the_dashboard_have_every_value_of_the_api() {
    let has = |file: &str, name: &str| {
        assert!(file.contains(&format!("\"{name}\"")), "{name} is missing");
    };
    let activities = include_str!("../../dashboard/pauses/activities.js");
    for activity in Activity::ALL {
        has(activities, activity.as_str());
    }
    let actions = include_str!("../../dashboard/lib/audit-record.js");
    for action in AuditAction::ALL {
        has(actions, action.as_str());
    }
    let roles = include_str!("../../dashboard/tokens/create-token.js");
    for role in Role::ALL {
        has(roles, role.as_str());
    }
}
