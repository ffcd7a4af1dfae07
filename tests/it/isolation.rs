//! The isolation of a broker on the embedded engine from other users of the machine and from web pages.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use reqwest::{Method, StatusCode, header};
use sandbox_broker::config::Variables;

use crate::support::{BrokerProcess, TestBroker, command};

/// The variables of a broker on the embedded engine with its data in `directory`.
fn laptop(directory: &Path, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let data = directory.join("data");
    let all = [
        ("DATA_DIR", data.to_str().unwrap()),
        ("SIMULATOR_ACCOUNTS", "5"),
    ];
    all.iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn port_of(base: &str) -> u16 {
    base.rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_engine_has_no_port() {
    let directory = tempfile::tempdir().unwrap();
    let live = [
        ("CSP_MODE", "live"),
        ("CSP_BASE_URL", "http://127.0.0.1:9/v2"),
        ("CSP_API_TOKEN", "token"),
    ];
    let broker = BrokerProcess::serve(directory.path(), &laptop(directory.path(), &live));
    let port = port_of(&broker.client.base);
    assert_eq!(broker.listening_ports(), BTreeSet::from([port]));
}

#[tokio::test(flavor = "multi_thread")]
async fn simulator_inside_the_broker_answers_no_other_client() {
    let directory = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::serve(directory.path(), &laptop(directory.path(), &[]));
    let mut ports = broker.listening_ports();
    assert!(ports.remove(&port_of(&broker.client.base)));
    assert_eq!(ports.len(), 1, "the simulator");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = format!("http://127.0.0.1:{}", ports.first().unwrap());
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/v2/current_user/accounts"),
        (Method::DELETE, "/v2/sandbox/accounts/1"),
        (Method::POST, "/v2/session/users/sign_in"),
        (Method::GET, "/simulator/accounts"),
        (Method::PUT, "/simulator/faults"),
        (Method::OPTIONS, "/simulator/faults"),
        (Method::GET, "/0/simulator/accounts"),
    ] {
        let request = http
            .request(method.clone(), format!("{base}{path}"))
            .header(header::AUTHORIZATION, "Token simulated")
            .header(header::ORIGIN, "https://example.com")
            .header("Access-Control-Request-Method", "PUT")
            .header("X-Amz-Target", "DynamoDB_20120810.ListTables")
            .json(&serde_json::json!([]));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {path}");
        let headers = answer.headers();
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_the_embedded_engine_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let variables = laptop(directory.path(), &[]);
    let names = || -> BTreeSet<String> {
        let files = fs::read_dir(&data).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let assert_private = || {
        assert_eq!(mode(&data), 0o700);
        for name in names() {
            assert_eq!(mode(&data.join(&name)), 0o600, "{name}");
        }
    };
    let broker = BrokerProcess::serve(directory.path(), &variables);
    let expected = [
        "csp-simulator.json",
        "lock",
        "pool.sqlite",
        "pool.sqlite-shm",
        "pool.sqlite-wal",
    ];
    assert_eq!(names(), expected.map(str::to_owned).into());
    assert_private();
    // A killed broker leaves every file.
    broker.kill();
    for name in names() {
        fs::set_permissions(data.join(name), Permissions::from_mode(0o666)).unwrap();
    }
    fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
    let _broker = BrokerProcess::serve(directory.path(), &variables);
    assert_private();
}

#[tokio::test(flavor = "multi_thread")]
async fn symbolic_link_in_the_data_directory_stops_the_start_and_its_target_is_untouched() {
    for name in [
        "lock",
        "pool.sqlite",
        "pool.sqlite-wal",
        "csp-simulator.json",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (data, target) = (
            directory.path().join("data"),
            directory.path().join("target"),
        );
        fs::create_dir(&data).unwrap();
        fs::write(&target, "{}").unwrap();
        symlink(&target, data.join(name)).unwrap();
        let start = command(
            directory.path(),
            &laptop(directory.path(), &[("PORT", "0")]),
        )
        .output();
        let output = start.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert!(
            stderr.contains(&format!("{name} is a symbolic link")),
            "{name}: {stderr}"
        );
        assert_eq!(fs::read(&target).unwrap(), b"{}", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web_page_cannot_use_the_default_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let more = [("CORS_ALLOWED_ORIGINS", "*"), ("PORT", "0")];
    let variables: Variables = laptop(directory.path(), &more);
    let broker = TestBroker::boot(variables).await;
    let request = || {
        let request = broker.client.request(Method::GET, "/v1/admin/stats");
        request.bearer_auth("dev-admin-token")
    };
    let own_page = request().header(header::ORIGIN, "http://localhost:3000");
    for allowed in [request(), own_page] {
        assert_eq!(broker.client.send(allowed).await.status, StatusCode::OK);
    }
    let other_page = request().header(header::ORIGIN, "https://example.com");
    // The page's own name, which it made resolve to 127.0.0.1.
    let rebound = request().header(header::HOST, "example.com:8080");
    for refused in [other_page, rebound] {
        let answer = broker.client.send(refused).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::UNAUTHORIZED, "UNAUTHORIZED".to_owned())
        );
    }
}
