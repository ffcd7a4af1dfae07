//! CSP down for an hour, an account that never gets usable, and a pool in which CSP refuses to create accounts: the rest goes
//! on, operators see what is wrong, and nothing needs a hand once it is mended.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use sandbox_broker::{
    csp::simulator::{AccountDelays, Call, Fault, FaultKind, Settings},
    domain::Status,
};
use serde_json::{Value, json};

use super::world::{World, policy, pool_entry, run_jobs, run_until_settled};
use crate::support::{BrokerClient, TestBroker, warning_codes};

const MINUTE: Duration = Duration::from_mins(1);

fn refuse(names: &str) -> Fault {
    Fault {
        on: Call::Create,
        names: vec![names.to_owned()],
        ..Fault::always(FaultKind::Refuse {
            code: 403,
            message: "no more accounts in this contract".to_owned(),
        })
    }
}

/// Runs the jobs, which may fail.
async fn try_jobs(client: &BrokerClient) {
    for job in ["refill", "sync", "check"] {
        client
            .admin(Method::POST, &format!("/v1/admin/{job}"))
            .await;
    }
}

/// Returns the overview of a new broker, which has no counts of some seconds ago.
async fn overview_now(world: &World, broker: &TestBroker) -> Value {
    let other = world.broker_at(Arc::clone(&broker.clock), &[]).await;
    other.client.overview().await
}

/// Returns the pool with this prefix in the overview.
fn pool_of<'a>(overview: &'a Value, prefix: &str) -> &'a Value {
    let pools = overview["pools"].as_array().unwrap();
    let pool = pools.iter().find(|pool| pool["name_prefix"] == prefix);
    pool.unwrap_or_else(|| panic!("{overview}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_of_an_hour_only_delays_creations_and_checks() {
    const TARGET: usize = 12;
    let world = World::new().await;
    let breaker = [("CIRCUIT_BREAKER_THRESHOLD", "3"), ("REFILL_BATCH", "3")];
    let broker = world.broker(&breaker).await;
    broker.client.set_policy(0, &policy(TARGET)).await;
    // Three are available, three not checked yet, and one or more may exist without an answer.
    run_jobs(&broker.client).await;
    broker.client.job("refill").await;
    broker.client.job("sync").await;
    world.simulator.inject([Fault {
        on: Call::Create,
        ..Fault::always(FaultKind::LostAnswer { code: 502 })
    }]);
    try_jobs(&broker.client).await;
    let before = world.simulator.created_accounts().len();
    assert!(before > 6, "{before}");
    let down = FaultKind::Status { code: 503 };
    world.simulator.inject([Fault::always(down)]);
    let calls = world.simulator.calls();
    for _ in 0..30 {
        broker.clock.advance(MINUTE * 2);
        world.simulator.advance(MINUTE * 2).unwrap();
        try_jobs(&broker.client).await;
    }
    let of_an_hour = world.simulator.calls().faulty - calls.faulty;
    assert!(of_an_hour < 600, "{of_an_hour} calls of a CSP that is down");
    let overview = overview_now(&world, &broker).await;
    assert_ne!(warning_codes(&overview), [""; 0], "{overview}");
    assert_eq!(world.simulator.created_accounts().len(), before);
    assert_eq!(world.in_status(Status::Quarantined).await, []);
    assert_eq!(broker.client.allocate("student").await.status, 201);

    world.simulator.inject([]);
    run_until_settled(&world, &broker, MINUTE).await;
    assert_eq!(world.in_status(Status::Available).await.len(), TARGET);
    assert_eq!(world.simulator.accounts().len(), TARGET + 1);
    assert_eq!(world.in_status(Status::Quarantined).await, []);
    let overview = overview_now(&world, &broker).await;
    assert_eq!(warning_codes(&overview), [""; 0], "{overview}");
}

#[tokio::test(flavor = "multi_thread")]
async fn account_that_never_gets_usable_holds_up_no_other_and_is_replaced() {
    let world = World::new().await;
    world.simulator.configure(Settings {
        accounts: vec![AccountDelays {
            names: vec!["lab-r000002".to_owned()],
            usable_delay: Some(Duration::from_hours(10_000)),
            ..AccountDelays::default()
        }],
        ..Settings::default()
    });
    let broker = world.broker(&[]).await;
    broker.client.set_policy(0, &policy(4)).await;
    run_jobs(&broker.client).await;
    assert_eq!(world.in_status(Status::Available).await.len(), 3);
    for _ in 0..29 {
        broker.clock.advance(MINUTE);
        broker.client.job("check").await;
    }
    assert_eq!(world.in_status(Status::Provisioning).await.len(), 1);
    run_until_settled(&world, &broker, MINUTE).await;
    let quarantined = world.in_status(Status::Quarantined).await;
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0].account.name, "lab-r000002");
    assert!(quarantined[0].quarantine.reason.is_some());
    assert_eq!(world.in_status(Status::Available).await.len(), 4);
    assert_eq!(world.simulator.accounts().len(), 5);
    let overview = overview_now(&world, &broker).await;
    let pool = pool_of(&overview, "lab");
    assert_eq!(
        (&pool["state"], &pool["quarantined"]),
        (&json!("full"), &json!(1))
    );
}

/// Lets a minute pass in each tenth of a second, in which the schedule runs every job, until the condition holds.
async fn pass_minutes_until(
    world: &World,
    broker: &TestBroker,
    mut is_met: impl AsyncFnMut() -> bool,
) {
    for _ in 0..600 {
        if is_met().await {
            return;
        }
        broker.clock.advance(MINUTE);
        world.simulator.advance(MINUTE).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not come: {}", broker.client.overview().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_that_csp_refuses_leaves_the_others_alone_and_goes_on_by_itself() {
    let world = World::new().await;
    let schedule = [
        ("RUN_JOBS", "true"),
        ("SYNC_INTERVAL_SEC", "1"),
        ("CHECK_INTERVAL_SEC", "1"),
        ("REFILL_INTERVAL_SEC", "1"),
    ];
    world.simulator.inject([refuse("left-*")]);
    let broker = world.broker(&schedule).await;
    let pools = json!({ "pool": [pool_entry("left", 3), pool_entry("right", 3)] });
    broker.client.set_policy(0, &pools).await;
    let is_split = async || {
        let is_stopped = world.refill_items("left").await.state.stop.is_some();
        is_stopped && world.in_status(Status::Available).await.len() == 3
    };
    pass_minutes_until(&world, &broker, is_split).await;
    let overview = overview_now(&world, &broker).await;
    assert_eq!(pool_of(&overview, "right")["state"], "full", "{overview}");
    let left = pool_of(&overview, "left");
    assert_eq!(left["state"], "stopped", "{overview}");
    let reason = left["reason"].as_str().unwrap();
    assert!(
        reason.contains("no more accounts in this contract"),
        "{reason}"
    );
    assert!(
        warning_codes(&overview).contains(&"refill_stopped"),
        "{overview}"
    );
    // One attempt in a quarter of an hour.
    let before = world.simulator.calls().create;
    for _ in 0..10 {
        broker.clock.advance(MINUTE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(world.simulator.calls().create <= before + 1);

    world.simulator.inject([]);
    let is_full = async || world.in_status(Status::Available).await.len() == 6;
    pass_minutes_until(&world, &broker, is_full).await;
    assert_eq!(world.simulator.accounts().len(), 6);
    let overview = overview_now(&world, &broker).await;
    assert_eq!(pool_of(&overview, "left")["state"], "full", "{overview}");
    let codes = warning_codes(&overview);
    assert!(!codes.contains(&"refill_stopped"), "{overview}");
}
