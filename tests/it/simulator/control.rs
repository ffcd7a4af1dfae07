//! The control of a simulator over HTTP, and its command.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Csp, TOKEN, answer, creation, message};
use crate::support::command;

/// Sends a request to the control of a simulator.
async fn control(
    http: &reqwest::Client,
    csp_base_url: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let root = csp_base_url.strip_suffix("/v2").unwrap();
    let mut request = http.request(method, format!("{root}/simulator/{path}"));
    if let Some(body) = body {
        request = request.json(&body);
    }
    answer(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_time_are_controlled_over_http() {
    let csp = Csp::new(0).await;
    let control = async |method, path: &str, body| {
        control(&csp.http, &csp.base_url, method, path, body).await
    };
    let settings = json!({
        "listing_delay_sec": 60,
        "max_accounts": 1,
        "user": { "email": "labs@example.com", "password": "Secret-1!" },
    });
    let (status, _) = control(Method::PUT, "settings", Some(settings)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (_, shown) = control(Method::GET, "settings", None).await;
    assert_eq!(
        (&shown["listing_delay_sec"], &shown["usable_delay_sec"]),
        (&60.into(), &0.into())
    );
    assert_eq!(shown["user"], json!({ "email": "labs@example.com" }));

    csp.created("lab-1").await;
    assert_eq!(csp.create("lab-2").await.0, StatusCode::BAD_REQUEST);
    assert!(csp.listed().await.is_empty());
    let minute = Some(json!({ "seconds": 60 }));
    assert_eq!(
        control(Method::POST, "advance", minute).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(csp.listed().await.len(), 1);
    let (_, created) = control(Method::GET, "created", None).await;
    assert_eq!(created[0]["name"], "lab-1");
    assert_eq!(created[0]["is_deleted"], false);
    let (_, calls) = control(Method::GET, "calls", None).await;
    assert_eq!((&calls["create"], &calls["list"]), (&2.into(), &2.into()));

    for invalid in [
        json!({ "listing_delay": 60 }),
        json!({ "usable_delay_sec": -1 }),
        json!(7),
    ] {
        let (status, answer) = control(Method::PUT, "settings", Some(invalid)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(!message(&answer).is_empty());
    }
    let unchanged = control(Method::GET, "settings", None).await.1;
    assert_eq!(unchanged, shown);
}

/// A process of `csp-simulator`, which is killed when it is dropped.
struct SimulatorProcess {
    child: Child,
    csp_base_url: String,
}

impl Drop for SimulatorProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn simulator_process(directory: &Path, arguments: &[&str]) -> SimulatorProcess {
    let mut child = command(directory, &BTreeMap::new())
        .args(["csp-simulator", "--port", "0", "--state", "csp.json"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let csp_base_url = lines
        .map_while(Result::ok)
        .find_map(|line| {
            line.trim()
                .strip_prefix("CSP_BASE_URL=")
                .map(ToOwned::to_owned)
        })
        .unwrap();
    SimulatorProcess {
        child,
        csp_base_url,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_created_in_a_process_survive_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let create = async |base: &str, name: &str| {
        let request = http
            .post(format!("{base}/sandbox/accounts"))
            .header("Authorization", TOKEN);
        answer(request.json(&creation(name))).await
    };
    let arguments = [
        "--accounts",
        "1",
        "--listing-delay-sec",
        "3600",
        "--usable-delay-sec",
        "7200",
        "--max-accounts",
        "3",
        "--unique-names",
    ];
    let first = simulator_process(directory.path(), &arguments);
    let (status, created) = create(&first.csp_base_url, "lab-1").await;
    assert!(status.is_success(), "{created}");
    assert_eq!(
        create(&first.csp_base_url, "lab-1").await.0,
        StatusCode::CONFLICT
    );
    drop(first);

    let second = simulator_process(directory.path(), &arguments);
    let base = &second.csp_base_url;
    assert_eq!(create(base, "lab-1").await.0, StatusCode::CONFLICT);
    assert!(create(base, "lab-2").await.0.is_success());
    assert_eq!(create(base, "lab-3").await.0, StatusCode::BAD_REQUEST);
    let listed = http.get(format!("{base}/current_user/accounts"));
    let (_, listed) = answer(listed.header("Authorization", TOKEN)).await;
    assert_eq!(listed["results"].as_array().unwrap().len(), 1);
    let (_, accounts) = control(&http, base, Method::GET, "accounts", None).await;
    assert_eq!(accounts.as_array().unwrap().len(), 3);
    assert_eq!(accounts[1]["id"], created["result"]["id"]);
}
