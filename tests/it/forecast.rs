//! The forecast of the pools.

use reqwest::{Method, RequestBuilder};
use sandbox_broker::domain::Status;
use serde_json::{Value, json};

use crate::support::{ADMIN, Answer, BrokerClient, Pool, Proxy, START, TestBroker};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const REFILL: [(&str, &str); 1] = [("REFILL_MODE", "on")];

fn request(client: &BrokerClient, query: &str) -> RequestBuilder {
    let path = format!("/v1/admin/forecast{query}");
    client.request(Method::GET, &path).bearer_auth(ADMIN)
}

/// Returns a time after the start, as a schedule states it.
fn time(seconds: i64) -> String {
    let timestamp = jiff::Timestamp::from_second(START.0 + seconds).unwrap();
    timestamp.to_string()
}

/// Returns the forecast for a time after the start.
async fn forecast(client: &BrokerClient, seconds: i64) -> Value {
    let answer = client
        .send(request(client, &format!("?at={}", time(seconds))))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Returns the forecast of the only pool.
async fn of_pool(client: &BrokerClient, seconds: i64) -> Value {
    forecast(client, seconds).await["pools"][0].clone()
}

/// A broker on a pool of available sandboxes, with a policy for them.
async fn broker_with(sandboxes: usize, pool: &Value, more: &[(&str, &str)]) -> (Pool, TestBroker) {
    let store = Pool::of(sandboxes).await;
    let broker = store.broker_with(more).await;
    let mut pool = pool.clone();
    pool["name_prefix"] = "lab-adventure".into();
    broker
        .client
        .set_policy(0, &json!({ "pool": [pool] }))
        .await;
    (store, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn time_has_to_be_ahead_by_90_days_at_most() {
    let (_pool, broker) = broker_with(1, &json!({ "target_available": 1 }), &[]).await;
    let client = &broker.client;
    let send = async |query: String| client.send(request(client, &query)).await;
    let takes =
        "at takes a date and time with an offset, such as 2026-11-28T10:00:00Z, or Unix seconds.";
    let past = "at has passed; a forecast takes a time from now on.";
    let too_far = "at must be at most 90 days ahead.";
    for (at, message) in [
        (String::new(), takes),
        ("tomorrow".to_owned(), takes),
        ("2026-11-28T10:00:00".to_owned(), takes),
        (time(-10 * MINUTE), past),
        ("0".to_owned(), past),
        ("-9223372036854775808".to_owned(), past),
        (time(90 * 24 * HOUR + 1), too_far),
        (i64::MAX.to_string(), too_far),
    ] {
        let answer: Answer = send(format!("?at={at}")).await;
        assert_eq!(answer.status, 400, "{at}: {answer:?}");
        assert_eq!(
            (answer.code().as_str(), answer.message().as_str()),
            ("INVALID_PARAMETER", message),
            "{at}"
        );
    }
    let missing = "at is missing; it takes a date and time with an offset, such as 2026-11-28T10:00:00Z, or Unix seconds.";
    for query in ["", "?"] {
        let answer = send(query.to_owned()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "INVALID_PARAMETER"),
            "{query}"
        );
        assert_eq!(answer.message(), missing, "{query}");
    }
    for query in ["?at=1&at=2", "?when=1795000000", "?at=1795000000&pool=lab"] {
        let answer = send(query.to_owned()).await;
        assert_eq!(answer.code(), "INVALID_PARAMETER", "{query}");
    }
    // Now, in each form, also where the two clocks differ a little.
    let now = START.0;
    for at in [
        now.to_string(),
        (now - 30).to_string(),
        time(0),
        time(0).replace('Z', "+00:00"),
        time(0).replace('Z', "%2B00:00"),
    ] {
        let answer = send(format!("?at={at}")).await;
        assert_eq!(answer.status, 200, "{at}: {answer:?}");
        assert_eq!(
            (answer.json()["at"].as_i64(), answer.json()["now"].as_i64()),
            (Some(now), Some(now))
        );
    }
    let last = forecast(client, 90 * 24 * HOUR).await;
    assert_eq!(last["pools"][0]["available"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forecast_without_pools_is_empty_and_makes_no_call() {
    let pool = Pool::of(3).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let labs = json!({ "lab": [{ "id": "cloud-101", "max_held": 5 }] });
    broker.client.set_policy(0, &labs).await;
    proxy.until_quiet().await;
    proxy.take_calls();
    let empty = forecast(&broker.client, HOUR).await;
    assert_eq!(empty["pools"], json!([]));
    assert!(!empty["assumptions"].as_array().unwrap().is_empty());
    assert_eq!(proxy.take_calls().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn class_is_warm_when_it_begins_and_the_answer_says_why() {
    let class = json!({ "from": time(20 * HOUR), "to": time(22 * HOUR), "target_available": 60 });
    let policy =
        json!({ "target_available": 12, "max_total": 120, "create": {}, "schedule": [class] });
    let (_pool, broker) = broker_with(12, &policy, &REFILL).await;
    let client = &broker.client;
    let begin = forecast(client, 20 * HOUR).await;
    let schedule = json!({
        "from": START.0 + 20 * HOUR, "to": START.0 + 22 * HOUR, "target_available": 60, "lead_minutes": null,
    });
    assert_eq!(
        begin["pools"],
        json!([{
            "name_prefix": "lab-adventure", "target": 60, "schedule": schedule, "available": 60, "available_now": 12,
            "arriving": 0, "created": 48, "warming": 0, "total": 60, "max_total": 120, "time_to_available_sec": 1800,
            "shortfall": null, "assumptions": [
                "A new sandbox is available after 1800 s, PROVISION_TIMEOUT_MINUTES: fewer than 5 have been measured."
            ],
        }])
    );
    let assumptions = begin["assumptions"].to_string();
    for sentence in [
        "nobody allocates or releases a sandbox",
        "REFILL_MODE is on: refill creates at most 5 sandboxes every 60 s",
        "CHECK_MODE is off: a new sandbox is available when a sync, every 600 s",
        "at most 600 s after their grace period",
    ] {
        assert!(assumptions.contains(sentence), "{sentence}: {assumptions}");
    }
    // 48 sandboxes are ten runs; with half an hour each, the first ones are begun 40 minutes before.
    let (early, in_lead) = (20 * HOUR - 45 * MINUTE, 20 * HOUR - 35 * MINUTE);
    assert_eq!(of_pool(client, early).await["total"], 12);
    let in_lead = of_pool(client, in_lead).await;
    assert_eq!(
        (&in_lead["target"], &in_lead["available"]),
        (&json!(12), &json!(12))
    );
    assert!(in_lead["warming"].as_u64() >= Some(20), "{in_lead}");
}

#[tokio::test(flavor = "multi_thread")]
async fn class_that_comes_too_soon_is_ready_later() {
    let class = json!({ "from": time(20 * MINUTE), "to": time(4 * HOUR), "target_available": 20 });
    let policy = json!({ "create": {}, "schedule": [class] });
    let (_pool, broker) = broker_with(8, &policy, &REFILL).await;
    let client = &broker.client;
    let begin = of_pool(client, 20 * MINUTE).await;
    assert_eq!(
        (&begin["target"], &begin["available"]),
        (&json!(20), &json!(8))
    );
    let shortfall = &begin["shortfall"];
    assert_eq!(shortfall["missing"], 12);
    assert_eq!(
        shortfall["reason"],
        "12 are being created then: a new sandbox is expected to take 1800 s."
    );
    // Three runs, and half an hour.
    let reached_at = shortfall["reached_at"].as_i64().unwrap() - START.0;
    assert_eq!(reached_at, 33 * MINUTE);
    assert_eq!(of_pool(client, reached_at).await["shortfall"], Value::Null);
    assert_eq!(
        of_pool(client, reached_at - 1).await["shortfall"]["missing"],
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_allocations_make_room_below_the_maximum() {
    let policy = json!({ "target_available": 10, "max_total": 11, "create": {} });
    let (pool, broker) = broker_with(10, &policy, &REFILL).await;
    let client = &broker.client;
    for play in ["play-1", "play-2", "play-3"] {
        let terms = json!({ "duration_minutes": 60 });
        let allocated = client.send(client.allocation(play).json(&terms)).await;
        assert_eq!(allocated.status, 201, "{allocated:?}");
    }
    let held = pool.sandboxes().await;
    let held = held
        .iter()
        .find(|sandbox| sandbox.status == Status::Allocated)
        .unwrap();
    let free = pool.sandboxes().await;
    let free = free
        .iter()
        .find(|sandbox| sandbox.status == Status::Available)
        .unwrap();
    let set_aside = json!({ "reason": "looks odd", "until": START.0 + 2 * HOUR });
    let answer = client
        .act(free.id().as_str(), "quarantine", &set_aside)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = client
        .act(held.id().as_str(), "release", &json!({ "reason": "left" }))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Six are available, one is quarantined until two hours from now, two are held for an hour, one waits for deletion.
    let now = of_pool(client, 0).await;
    assert_eq!((&now["available"], &now["total"]), (&json!(6), &json!(10)));
    // One is created at once, one when cleanup has run.
    let soon = of_pool(client, 50 * MINUTE).await;
    assert_eq!(
        (&soon["available"], &soon["created"], &soon["total"]),
        (&json!(8), &json!(2), &json!(11))
    );
    let shortfall = &soon["shortfall"];
    assert_eq!(shortfall["missing"], 2);
    assert_eq!(
        shortfall["reason"],
        "The pool will have 11 sandboxes in all statuses but stale, and its max_total is 11."
    );
    // The allocations end after an hour, with half an hour of grace; auto-expire and cleanup run every five minutes.
    let reached_at = shortfall["reached_at"].as_i64().unwrap() - START.0;
    assert!(
        (130 * MINUTE..=131 * MINUTE).contains(&reached_at),
        "{reached_at}"
    );
    let later = of_pool(client, reached_at).await;
    assert_eq!(
        (&later["available"], &later["shortfall"]),
        (&json!(11), &Value::Null)
    );
    // The one in quarantine has returned.
    let at_last = of_pool(client, 3 * HOUR).await;
    assert_eq!(
        (&at_last["arriving"], &at_last["total"]),
        (&json!(1), &json!(11))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reason_of_a_shortfall_names_the_obstacle_to_refill() {
    let refill_off = "Nothing is created: REFILL_MODE is off.";
    let watched = "Nothing fills this pool: the policy has no create for it.";
    for (create, mode, reason) in [
        (json!({}), "off", refill_off),
        (
            json!({}),
            "plan",
            "Nothing is created: REFILL_MODE is plan.",
        ),
        (json!(null), "on", watched),
    ] {
        let policy = json!({ "target_available": 5, "create": create });
        let (_pool, broker) = broker_with(2, &policy, &[("REFILL_MODE", mode)]).await;
        let forecast = forecast(&broker.client, 24 * HOUR).await;
        let pool = &forecast["pools"][0];
        assert_eq!(
            (&pool["available"], &pool["shortfall"]["missing"]),
            (&json!(2), &json!(3))
        );
        assert_eq!(
            pool["shortfall"],
            json!({ "missing": 3, "reason": reason, "reached_at": null })
        );
        assert!(
            pool["assumptions"]
                .as_array()
                .unwrap()
                .contains(&reason.into()),
            "{pool}"
        );
        let about_refill = format!("REFILL_MODE is {mode}");
        assert!(
            forecast["assumptions"].to_string().contains(&about_refill),
            "{forecast}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_delay_expected_sandboxes() {
    let policy = json!({ "target_available": 5, "create": {} });
    let (_pool, broker) = broker_with(2, &policy, &REFILL).await;
    let client = &broker.client;
    let pause = async |activity: &str, body: Value| {
        let path = format!("/v1/admin/pauses/{activity}");
        let request = client
            .request(Method::PUT, &path)
            .bearer_auth(ADMIN)
            .json(&body);
        let answer = client.send(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let reached_at = async || {
        let shortfall = of_pool(client, 0).await["shortfall"].clone();
        shortfall["reached_at"].as_i64().map(|at| at - START.0)
    };
    assert_eq!(reached_at().await, Some(31 * MINUTE));
    pause(
        "sync",
        json!({ "reason": "migration", "until": START.0 + 2 * HOUR }),
    )
    .await;
    assert_eq!(reached_at().await, Some(2 * HOUR));
    pause(
        "refill",
        json!({ "reason": "migration", "until": START.0 + 3 * HOUR }),
    )
    .await;
    assert_eq!(reached_at().await, Some(3 * HOUR + 30 * MINUTE));
    pause("refill", json!({ "reason": "no budget" })).await;
    assert_eq!(reached_at().await, None);
    let forecast = forecast(client, HOUR).await;
    let reason = &forecast["pools"][0]["shortfall"]["reason"];
    assert_eq!(
        reason,
        "Refill is paused until an operator ends that: no budget"
    );
    let assumptions = forecast["assumptions"].to_string();
    let until = time(2 * HOUR);
    for sentence in [
        "Refill is paused until an operator ends that, and stays so.".to_owned(),
        format!("Sync and checks are paused until {until}, and not longer."),
    ] {
        assert!(assumptions.contains(&sentence), "{sentence}: {assumptions}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forecast_without_the_database_is_unavailable() {
    let pool = Pool::of(1).await;
    let mut proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let policy = json!({ "pool": [{ "name_prefix": "lab", "target_available": 1 }] });
    broker.client.set_policy(0, &policy).await;
    proxy.switch_off().await;
    let answer = broker
        .client
        .send(request(&broker.client, &format!("?at={}", START.0)))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "STORE_UNAVAILABLE")
    );
}
