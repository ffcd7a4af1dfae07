//! Behaviour of real processes: two concurrent brokers, `kill -9`, signals, ports, the log.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;

use crate::support::{
    BrokerProcess, Pool, Proxy, Signal, assert_each_has_one, command, laptop, run_alone,
    simulated_csp,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_allocate_one_and_the_same_sandbox_to_a_caller() {
    let _alone = run_alone().await;
    let pool = Pool::of(1000).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[]);
    let (a, b) = (
        BrokerProcess::serve(directory.path(), &variables),
        BrokerProcess::serve(directory.path(), &variables),
    );
    let both = join_all((0..200).map(|n| {
        let (a, b) = (&a.client, &b.client);
        async move {
            let caller = format!("play-{n}");
            tokio::join!(a.allocate(&caller), b.allocate(&caller))
        }
    }))
    .await;
    for (of_a, of_b) in &both {
        assert_eq!(of_a.sandbox_id(), of_b.sandbox_id());
        assert_eq!(
            of_a.status.as_u16() + of_b.status.as_u16(),
            401,
            "one 201 and one 200"
        );
    }
    assert_eq!(assert_each_has_one(&pool.holdings().await), 200);
    let rest = join_all((200..1000).map(|n| {
        let client = if n % 2 == 0 { &a.client } else { &b.client };
        async move { client.allocate(&format!("play-{n}")).await.status.as_u16() }
    }))
    .await;
    assert!(rest.iter().all(|status| *status == 201), "{rest:?}");
    assert_eq!(assert_each_has_one(&pool.holdings().await), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_the_embedded_store_neither_loses_nor_duplicates_allocations() {
    let data = tempfile::tempdir().unwrap();
    let mut variables = laptop(data.path());
    variables.insert("SIMULATOR_ACCOUNTS".into(), "600".into());
    let answered: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
    for round in 0..3 {
        let broker = BrokerProcess::serve(data.path(), &variables);
        let so_far = answered.lock().unwrap().clone();
        for (caller, sandboxes) in so_far {
            let again = broker.client.allocate(&caller).await;
            assert_eq!(
                (again.status.as_u16(), again.sandbox_id()),
                (200, sandboxes[0].clone()),
                "{caller}"
            );
        }
        let enough = Arc::new(tokio::sync::Semaphore::new(0));
        let requests: Vec<_> = (0..150)
            .map(|n| {
                let (client, answered, enough) = (
                    broker.client.clone(),
                    Arc::clone(&answered),
                    Arc::clone(&enough),
                );
                tokio::spawn(async move {
                    let caller = format!("play-{round}-{n}");
                    if let Ok(answer) = client.try_send(client.allocation(&caller)).await {
                        answered
                            .lock()
                            .unwrap()
                            .insert(caller, vec![answer.sandbox_id()]);
                        enough.add_permits(1);
                    }
                })
            })
            .collect();
        let _ = enough.acquire_many(40).await.unwrap();
        broker.kill();
        join_all(requests).await;
    }
    let answered = answered.lock().unwrap().clone();
    assert!(answered.len() < 450, "some requests were interrupted");
    assert_each_has_one(&answered);
    let broker = BrokerProcess::serve(data.path(), &variables);
    // Callers without an answer may hold a sandbox: a retry returns that one, not a second one.
    let mut held = answered;
    for round in 0..3 {
        for n in 0..150 {
            let caller = format!("play-{round}-{n}");
            let id = broker.client.allocate(&caller).await.sandbox_id();
            assert_eq!(
                held.entry(caller).or_insert_with(|| vec![id.clone()])[0],
                id
            );
        }
    }
    assert_eq!(assert_each_has_one(&held), 450);
    assert_eq!(broker.client.stats().await["allocated"], 450);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_broker_on_the_same_data_fails_with_a_message() {
    let data = tempfile::tempdir().unwrap();
    let variables = laptop(data.path());
    let _first = BrokerProcess::serve(data.path(), &variables);
    let second = command(data.path(), &variables)
        .env("PORT", "0")
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert!(stderr.contains("in use by another broker"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn port_in_use_is_an_error_with_the_address() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = command(data.path(), &laptop(data.path()))
        .env("PORT", &port)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_preserves_the_pool_and_the_simulated_csp() {
    let data = tempfile::tempdir().unwrap();
    let variables = laptop(data.path());
    let mut first = BrokerProcess::serve(data.path(), &variables);
    let id = first.client.allocate("play-1").await.sandbox_id();
    first.signal(Signal::INT);
    assert!(first.wait().success());
    let second = BrokerProcess::serve(data.path(), &variables);
    assert_eq!(second.client.allocate("play-1").await.sandbox_id(), id);
    assert_eq!(second.client.stats().await["total"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_running_requests_and_accepts_no_new_ones() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[("DDB_ENDPOINT_URL", &proxy.endpoint())]);
    let mut broker = BrokerProcess::serve(directory.path(), &variables);
    let held = proxy.hold_operation("TransactWriteItems");
    let client = broker.client.clone();
    let running = tokio::spawn(async move { client.allocate("play-1").await });
    held.wait_for_one().await;
    broker.signal(Signal::TERM);
    broker.events_until(|event| event["message"] == "stopping");
    let health = || broker.client.request(Method::GET, "/healthz");
    let is_refused = async || {
        let answer = broker
            .client
            .try_send(health().header("Connection", "close"))
            .await;
        answer.is_err_and(|error| error.is_connect())
    };
    while !is_refused().await {}
    held.open();
    assert_eq!(running.await.unwrap().status, 201);
    assert!(broker.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_at_its_deadline() {
    use sandbox_broker::csp::simulator::{Fault, FaultKind};
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(1).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[("CSP_BASE_URL", &base_url), ("SHUTDOWN_TIMEOUT_SEC", "1")]);
    let mut broker = BrokerProcess::serve(directory.path(), &variables);
    simulator.inject([Fault::always(FaultKind::Hang)]);
    let client = broker.client.clone();
    tokio::spawn(async move {
        let request = client
            .request(Method::POST, "/v1/admin/sync")
            .bearer_auth(crate::support::ADMIN);
        client.try_send(request).await
    });
    while simulator.calls().list == 0 {
        tokio::task::yield_now().await;
    }
    let began = std::time::Instant::now();
    broker.signal(Signal::TERM);
    broker.wait();
    assert!(
        began.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_one_json_event_without_tokens() {
    let pool = Pool::of(3).await;
    let directory = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::serve(directory.path(), &pool.variables(&[]));
    let client = &broker.client;
    let allocated = client
        .send(
            client
                .allocation("play-1")
                .header("X-Instruqt-Track-ID", "cloud-security-101"),
        )
        .await;
    client.allocate("play-1").await;
    client.extend(&allocated.sandbox_id(), "play-1", 1).await;
    let replaced = client.replace(&allocated.sandbox_id(), "play-1").await;
    client.replace(&allocated.sandbox_id(), "play-1").await;
    client.release(&allocated.sandbox_id(), "play-1").await;
    client.get("unknown", "play-1").await;
    client
        .send(
            client
                .request(Method::POST, "/v1/allocate")
                .bearer_auth("wrong-secret")
                .header("X-Track-ID", "x"),
        )
        .await;
    client.plain("/nowhere").await;
    broker.signal(Signal::TERM);
    let events = broker.events_until(|event| event["message"] == "stopped");
    assert!(broker.wait().success());
    let requests: Vec<_> = events
        .iter()
        .filter(|event| event["message"] == "request")
        .collect();
    let shown: Vec<_> = requests
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
            (
                text("action"),
                text("outcome"),
                event["status"].as_u64().unwrap(),
                text("track_id"),
                text("sandbox_id"),
            )
        })
        .collect();
    let (id, new) = (allocated.sandbox_id(), replaced.sandbox_id());
    let expected = [
        ("allocate", "allocated", 201, "play-1", id.as_str()),
        ("allocate", "replayed", 200, "play-1", &id),
        ("extend_sandbox", "unchanged", 200, "play-1", &id),
        ("replace_sandbox", "replaced", 201, "play-1", &new),
        ("replace_sandbox", "replayed", 200, "play-1", &new),
        ("mark_for_deletion", "success", 200, "play-1", &id),
        ("get_sandbox", "SANDBOX_NOT_FOUND", 404, "play-1", "unknown"),
        ("allocate", "UNAUTHORIZED", 401, "-", "-"),
        ("unknown_route", "NOT_FOUND", 404, "-", "-"),
    ]
    .map(|(action, outcome, status, track, sandbox)| {
        (
            action.to_owned(),
            outcome.to_owned(),
            status,
            track.to_owned(),
            sandbox.to_owned(),
        )
    });
    assert_eq!(shown, expected);
    for event in &requests {
        for field in [
            "timestamp",
            "level",
            "message",
            "request_id",
            "action",
            "outcome",
            "status",
            "latency_ms",
        ] {
            assert!(!event[field].is_null(), "{field}: {event}");
        }
    }
    assert_eq!(requests[0]["lab"], "cloud-security-101");
    assert!(requests[1]["lab"].is_null());
    assert_eq!(requests[3]["replaced_id"], *id);
    assert_eq!(requests[3]["lab"], "cloud-security-101");
    assert_eq!(
        requests[0]["request_id"].as_str(),
        allocated.header("x-request-id")
    );
    let log = events.iter().map(Value::to_string).collect::<String>();
    for secret in [
        crate::support::TRACK,
        crate::support::ADMIN,
        "csp-token",
        "wrong-secret",
    ] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_of_the_environment_is_not_used_for_loopback() {
    let data = tempfile::tempdir().unwrap();
    let mut variables = laptop(data.path());
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        variables.insert(name.into(), "http://127.0.0.1:9".into());
    }
    let broker = BrokerProcess::serve(data.path(), &variables);
    assert_eq!(broker.client.stats().await["available"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_during_the_start_stops_the_broker() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let held = proxy.hold_operation("GetItem");
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[("DDB_ENDPOINT_URL", &proxy.endpoint())]);
    let mut child = command(directory.path(), &variables)
        .arg("serve")
        .spawn()
        .unwrap();
    held.wait_for_one().await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap())
        .await
        .unwrap();
    assert!(status.success(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_broker_with_a_simulated_csp_are_marked() {
    let data = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::serve(data.path(), &laptop(data.path()));
    let allocated = broker.client.allocate("play-1").await;
    assert_eq!(allocated.header("x-csp-mode"), Some("simulated"));
    let health = broker.client.plain("/healthz").await;
    assert_eq!(health.json()["csp_mode"], "simulated");
    let pool = Pool::of(1).await;
    let live = pool.broker().await;
    let allocated = live.client.allocate("play-1").await;
    assert_eq!(
        (allocated.status.as_u16(), allocated.header("x-csp-mode")),
        (201, None)
    );
    assert_eq!(
        live.client.plain("/healthz").await.json()["csp_mode"],
        "live"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn token_that_is_configured_for_both_roles_has_both() {
    let pool = Pool::of(1).await;
    let both = [("BROKER_ADMIN_TOKEN", crate::support::TRACK)];
    let broker = pool.broker_with(&both).await;
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    let stats = broker.client.request(Method::GET, "/v1/admin/stats");
    let answer = broker
        .client
        .send(stats.bearer_auth(crate::support::TRACK))
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_the_process_at_once() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[
        ("DDB_ENDPOINT_URL", &proxy.endpoint()),
        ("SHUTDOWN_TIMEOUT_SEC", "600"),
    ]);
    let mut broker = BrokerProcess::serve(directory.path(), &variables);
    let held = proxy.hold_operation("TransactWriteItems");
    let client = broker.client.clone();
    tokio::spawn(async move { client.try_send(client.allocation("play-1")).await });
    held.wait_for_one().await;
    broker.signal(Signal::TERM);
    broker.events_until(|event| event["message"] == "stopping");
    broker.signal(Signal::INT);
    assert_eq!(broker.wait().code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn port_of_the_metrics_is_named_if_it_is_taken_and_on_the_other_port() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut variables = laptop(data.path());
    variables.insert("METRICS_PORT".into(), port.clone());
    let output = command(data.path(), &variables)
        .env("PORT", "0")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains(&format!(
            "cannot listen on 127.0.0.1:{port}, the address of HOST and METRICS_PORT"
        )),
        "{stderr}"
    );
    variables.insert("METRICS_PORT".into(), "0".into());
    let broker = BrokerProcess::serve(data.path(), &variables);
    let answer = broker.client.plain("/metrics").await;
    assert_eq!(answer.status, 404);
    assert!(answer.message().contains("METRICS_PORT"), "{answer:?}");
}
