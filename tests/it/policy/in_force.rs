//! The policy in force: on the broker that changed it, on others, and in processes of jobs.

use std::time::{Duration, Instant};

use reqwest::header;
use sandbox_broker::broker::polling::MAX_DELAY;
use serde_json::{Value, json};

use super::{document, set, status};
use crate::support::{BrokerClient, Pool, TestBroker, command, simulated_csp};

/// Allocates for the lab, and returns the duration of the allocation in minutes.
async fn duration(client: &BrokerClient, caller: &str) -> i64 {
    let request = client.allocation_in("cloud-101", caller);
    let answer = client.send(request.header(header::ACCEPT, "*/*")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let body = answer.json();
    let time = |name: &str| body[name].as_i64().unwrap();
    (time("expires_at") - time("allocated_at")) / 60
}

async fn until_in_force(client: &BrokerClient, version: u32) -> Duration {
    let began = Instant::now();
    while status(client).await["version"] != version {
        assert!(
            began.elapsed() < MAX_DELAY * 6,
            "version {version} is not in force"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn version_is_in_force_at_once_where_it_was_set_and_elsewhere_within_five_seconds() {
    let pool = Pool::of(6).await;
    let (one, other) = tokio::join!(pool.broker(), pool.broker());
    assert_eq!(
        status(&one.client).await,
        json!({ "version": 0, "author": null, "at": null, "fault": null })
    );
    assert_eq!(
        duration(&one.client, "play-0").await,
        4 * 60,
        "LAB_DURATION_HOURS"
    );
    for version in 1..=2 {
        let minutes = 30 * version;
        let changed = set(&one.client, version - 1, &document(minutes)).await;
        let caller = format!("play-{version}");
        assert_eq!(duration(&one.client, &caller).await, i64::from(minutes));
        let took = until_in_force(&other.client, version).await;
        println!("in force on the other broker after {took:?}");
        // Twice as long, for a machine that is busy with other tests.
        assert!(took < MAX_DELAY * 2, "{took:?}");
        let caller = format!("play-{version}-elsewhere");
        assert_eq!(duration(&other.client, &caller).await, i64::from(minutes));
        let expected = json!({
            "version": version, "author": "env-admin", "at": changed["at"], "fault": null,
        });
        assert_eq!(status(&other.client).await, expected);
    }
    let metrics = other.client.plain("/metrics").await.text;
    for line in ["broker_policy_version 2", "broker_policy_readable 1"] {
        assert!(metrics.lines().any(|known| known == line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn process_of_a_job_begins_with_the_version_in_force() {
    let pool = Pool::new().await;
    let (_simulator, base_url) = simulated_csp(1).await;
    let variables = pool.variables(&[("CSP_BASE_URL", &base_url), ("LOG_LEVEL", "info")]);
    let broker = TestBroker::boot(variables.clone()).await;
    set(&broker.client, 0, &document(30)).await;
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), &variables);
    command.args(["job", "sync"]);
    // The simulator answers from this runtime, so its threads must stay free.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stderr).unwrap();
    let event = log.lines().find(|line| line.contains("policy in force"));
    let event = event.unwrap_or_else(|| panic!("{log}"));
    let event: Value = serde_json::from_str(event).unwrap_or_else(|_| panic!("{event}"));
    assert_eq!(
        (&event["version"], &event["author"]),
        (&1.into(), &"env-admin".into())
    );
}
