//! Behaviour of real processes: two concurrent brokers, `kill -9`, signals, the command line.

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;

use crate::support::{
    BrokerProcess, Pool, Proxy, Signal, assert_each_has_one, command, run_alone, simulated_csp,
};

fn laptop(data: &Path) -> BTreeMap<String, String> {
    let data = data.to_str().unwrap();
    [
        ("DATA_DIR", data),
        ("BROKER_API_TOKEN", crate::support::TRACK),
        ("BROKER_ADMIN_TOKEN", crate::support::ADMIN),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

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
    let id = allocated.sandbox_id();
    let expected = [
        ("allocate", "allocated", 201, "play-1", id.as_str()),
        ("allocate", "replayed", 200, "play-1", &id),
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
async fn commands_print_their_result_and_return_an_exit_code() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(25).await;
    let directory = tempfile::tempdir().unwrap();
    let table = format!("{}-created", pool.table);
    let variables = pool.variables(&[("CSP_BASE_URL", &base_url), ("DDB_TABLE_NAME", &table)]);
    let run = async |arguments: &[&str]| {
        let mut command = command(directory.path(), &variables);
        command.args(arguments);
        // The simulator answers from this runtime, so its threads must stay free.
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, _, stderr) = run(&["serve"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("table create"), "{stderr}");
    let json = |text: &str| serde_json::from_str::<Value>(text.trim()).unwrap();
    let (code, stdout, _) = run(&["table", "create"]).await;
    assert_eq!((code, &json(&stdout)["result"]), (0, &"created".into()));
    let (code, stdout, _) = run(&["table", "create"]).await;
    assert_eq!((code, &json(&stdout)["result"]), (0, &"existed".into()));
    let (code, stdout, _) = run(&["job", "sync"]).await;
    assert_eq!((code, &json(&stdout)["inserted"]), (0, &25.into()));
    let (code, stdout, _) = run(&["table", "migrate"]).await;
    assert_eq!((code, &json(&stdout)["allocated"]), (0, &0.into()));
    simulator.inject([sandbox_broker::csp::simulator::Fault::always(
        sandbox_broker::csp::simulator::FaultKind::Status { code: 401 },
    )]);
    let (code, stdout, stderr) = run(&["job", "sync"]).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("CSP_API_TOKEN"), "{stderr}");
}

#[test]
fn check_config_shows_the_settings_without_the_secrets() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join(".env"),
        "PORT=9999\nBROKER_API_TOKEN=from-dot-env\n",
    )
    .unwrap();
    let none = BTreeMap::new();
    let output = command(directory.path(), &none)
        .arg("check-config")
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(shown.contains("PORT=9999\n"), "{shown}");
    assert!(shown.contains("BROKER_API_TOKEN=[redacted]\n"), "{shown}");
    assert!(
        shown.contains("LAB_DURATION_HOURS=4  (default)\n"),
        "{shown}"
    );
    assert!(!shown.contains("from-dot-env"), "{shown}");
    let below = directory.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let output = command(&below, &none).arg("check-config").output().unwrap();
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("PORT=8080  (default)"),
        "no .env of a parent"
    );
    std::fs::write(below.join(".env"), "PORT=1\nmy very secret token\n").unwrap();
    let output = command(&below, &none).arg("check-config").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("line 2 of .env is not NAME=value") && !stderr.contains("secret"),
        "{stderr}"
    );
    let wrong = command(directory.path(), &none)
        .env("STORE", "redis")
        .env("PORT", "x")
        .arg("check-config")
        .output();
    let output = wrong.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("STORE: got \"redis\"") && stderr.contains("PORT: got \"x\""),
        "{stderr}"
    );
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
async fn healthcheck_succeeds_only_while_the_broker_is_up() {
    let pool = Pool::of(1).await;
    let directory = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::serve(directory.path(), &pool.variables(&[]));
    let port = broker.client.base.rsplit(':').next().unwrap().to_owned();
    let ask = |host: &str| {
        let mut asking = pool.variables(&[("PORT", &port), ("HOST", host)]);
        asking.insert("HTTP_PROXY".into(), "http://127.0.0.1:9".into());
        command(directory.path(), &asking)
            .arg("healthcheck")
            .output()
            .unwrap()
    };
    for host in ["127.0.0.1", "0.0.0.0"] {
        let output = ask(host);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    broker.kill();
    let output = ask("127.0.0.1");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("/healthz does not answer"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dollar_in_a_token_of_dotenv_is_part_of_it() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(
        data.path().join(".env"),
        "\u{feff}export BROKER_API_TOKEN=Tr4ck$ecret9\r\nBROKER_ADMIN_TOKEN='$ecretAdmin1' # admins\r\nDATA_DIR=${HERE}/pool\r\n",
    )
    .unwrap();
    let here = data.path().to_str().unwrap().to_owned();
    let broker = BrokerProcess::serve(data.path(), &[("HERE".to_owned(), here)].into());
    let status = async |token: &str| {
        let request = broker.client.request(Method::GET, "/v1/admin/stats");
        broker
            .client
            .send(request.bearer_auth(token))
            .await
            .status
            .as_u16()
    };
    assert_eq!(status("$ecretAdmin1").await, 200);
    assert_eq!(status("Tr4ck$ecret9").await, 403);
    for wrong in [
        "Tr4ck",
        "dev-admin-token",
        "dev-track-token",
        "$ecretAdmin1 # admins",
    ] {
        assert_eq!(status(wrong).await, 401, "{wrong}");
    }
    assert!(data.path().join("pool").is_dir());
}

#[test]
fn dotenv_is_visible_to_libraries_and_a_folder_of_that_name_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let check = || {
        command(directory.path(), &BTreeMap::new())
            .arg("check-config")
            .output()
            .unwrap()
    };
    std::fs::create_dir(directory.path().join(".env")).unwrap();
    let output = check();
    assert!(output.status.success(), "{output:?}");
    std::fs::remove_dir(directory.path().join(".env")).unwrap();
    // Read by the library that loads certificate authorities, not by the broker.
    std::fs::write(
        directory.path().join(".env"),
        "SSL_CERT_FILE=/nowhere.pem\nSTORE=dynamodb\nBROKER_API_TOKEN=a\nBROKER_ADMIN_TOKEN=b\nCSP_API_TOKEN=c\n",
    )
    .unwrap();
    let output = command(directory.path(), &BTreeMap::new())
        .args(["table", "create"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("SSL_CERT_FILE=/nowhere.pem"), "{stderr}");
    std::fs::write(directory.path().join(".env"), [b'A', b'=', 0xff]).unwrap();
    let stderr = String::from_utf8(check().stderr).unwrap();
    assert!(stderr.contains(".env is not UTF-8 text"), "{stderr}");
}

#[test]
fn settings_of_the_fastapi_service_alone_do_not_start_a_simulated_pool() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("DDB_TABLE_NAME", "SandboxPool"),
        ("CSP_BASE_URL", "https://csp.infoblox.com/v2"),
        ("CSP_API_TOKEN", "csp-token"),
        ("BROKER_API_TOKEN", "track-token"),
        ("BROKER_ADMIN_TOKEN", "admin-token"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let variables = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let output = command(directory.path(), &variables)
        .arg("serve")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains(
            "STORE: got nothing, although DDB_TABLE_NAME, CSP_BASE_URL, CSP_API_TOKEN is set"
        ),
        "{stderr}"
    );
    assert!(!directory.path().join("data").exists());
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

/// A port that nothing listens on any more.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// A device on which every write fails, as on a full disk.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn output_that_cannot_be_written_changes_no_exit_code() {
    let data = tempfile::tempdir().unwrap();
    let variables = laptop(data.path());
    let run = |arguments: &[&str], more: &[(&str, &str)]| {
        let mut command = command(data.path(), &variables);
        command.args(arguments).envs(more.iter().copied());
        command.stdout(full()).stderr(full());
        command.status().unwrap().code()
    };
    assert_eq!(run(&["job", "sync"], &[]), Some(0));
    assert_eq!(run(&["table", "create"], &[]), Some(0));
    assert_eq!(run(&["table", "migrate"], &[]), Some(0));
    assert_eq!(run(&["check-config"], &[]), Some(0));
    assert_eq!(run(&["serve"], &[("STORE", "redis")]), Some(1));
    assert_eq!(run(&["job", "sync"], &[("CSP_MODE", "live")]), Some(1));
    assert_eq!(run(&["healthcheck"], &[("PORT", "9")]), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_cannot_be_written_ends_no_server() {
    for (stdout, stderr) in [
        (Stdio::from(full()), Stdio::null()),
        (Stdio::piped(), Stdio::null()),
        (Stdio::null(), Stdio::from(full())),
        (Stdio::null(), Stdio::piped()),
    ] {
        let data = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut child = command(data.path(), &laptop(data.path()))
            .arg("serve")
            .env("PORT", &port)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        // The pipe has no reader.
        drop((child.stdout.take(), child.stderr.take()));
        let client = crate::support::BrokerClient::new(format!("http://127.0.0.1:{port}"));
        while client.try_send(client.allocation("play-1")).await.is_err() {
            assert_eq!(child.try_wait().unwrap(), None);
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM)
            .unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap())
            .await
            .unwrap();
        assert!(status.success(), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_certificate_authorities_stop_only_brokers_that_need_them() {
    let data = tempfile::tempdir().unwrap();
    let empty = data.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for file in ["", "/nowhere.pem", empty.to_str().unwrap()] {
        let mut variables = laptop(data.path());
        variables.insert("SSL_CERT_FILE".into(), file.into());
        variables.insert(
            "OTEL_EXPORTER_OTLP_ENDPOINT".into(),
            "http://127.0.0.1:9".into(),
        );
        let broker = BrokerProcess::serve(data.path(), &variables);
        let port = broker.client.base.rsplit(':').next().unwrap().to_owned();
        let health = command(data.path(), &variables)
            .arg("healthcheck")
            .env("PORT", port)
            .output()
            .unwrap();
        assert!(health.status.success(), "{health:?}");
        broker.kill();
        for (name, value) in [
            ("CSP_BASE_URL", "https://csp.example.com/v2"),
            ("DDB_ENDPOINT_URL", "https://db.example.com"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example.com"),
        ] {
            let pool = Pool::new().await;
            let mut variables = pool.variables(&[("SSL_CERT_FILE", file), (name, value)]);
            variables.remove("LOG_LEVEL");
            let output = command(data.path(), &variables)
                .arg("serve")
                .output()
                .unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(
                stderr.contains(&format!("SSL_CERT_FILE={file}")) && stderr.contains("remove it"),
                "{stderr}"
            );
        }
    }
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
