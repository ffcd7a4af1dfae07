//! The command line: settings and `.env`, output, exit codes.

use std::{collections::BTreeMap, fs::File, process::Stdio};

use reqwest::Method;
use serde_json::Value;

use crate::support::{BrokerProcess, Pool, Signal, command, laptop, simulated_csp};

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
    let (code, stdout, stderr) = run(&["table", "to-fastapi"]).await;
    let expected = serde_json::json!({
        "converted": 0, "made_stale": 0, "skipped": 0, "unreadable": 0, "brokers_seen": false
    });
    assert_eq!((code, json(&stdout), stderr.as_str()), (0, expected, ""));
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
    assert_eq!(run(&["table", "to-fastapi"], &[]), Some(0));
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
