//! State that jobs write to the companion table for other processes: every job is a process of its own, beside a broker
//! that runs none.

use std::{path::Path, sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use sandbox_broker::{
    clock::{Clock, ManualClock, SystemClock},
    config::Variables,
    csp::simulator::{Fault, FaultKind, Simulator},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    BrokerProcess, Pool, Proxy, TestBroker, command, proxy, simulated_csp, warning_codes,
};

/// A pool with a broker that runs no jobs, and a simulated CSP.
struct Deployment {
    pool: Pool,
    simulator: Simulator,
    directory: TempDir,
    variables: Variables,
    serve: BrokerProcess,
}

impl Deployment {
    async fn new(accounts: u64, more: &[(&str, &str)]) -> Self {
        let pool = Pool::new().await;
        let (simulator, base_url) = simulated_csp(accounts).await;
        let fixed = [
            ("CSP_BASE_URL", base_url.as_str()),
            ("CLEANUP_BATCH_SIZE", "1"),
            ("CLEANUP_BATCH_DELAY_SEC", "0"),
        ];
        let variables = pool.variables(&[&fixed, more].concat());
        let directory = tempfile::tempdir().unwrap();
        let serve = BrokerProcess::serve(directory.path(), &variables);
        let deployment = Self {
            pool,
            simulator,
            directory,
            variables,
            serve,
        };
        deployment.job("sync").await.unwrap();
        deployment
    }

    /// Runs a job in a process of its own. Returns its report, or its output on stderr.
    async fn job(&self, name: &'static str) -> Result<Value, String> {
        run_job(self.directory.path(), &self.variables, name).await
    }

    /// Allocates and releases `count` sandboxes of plays whose names begin with `prefix`.
    async fn release(&self, prefix: &str, count: usize) {
        for n in 0..count {
            let caller = format!("{prefix}-{n}");
            let id = self.serve.client.allocate(&caller).await.sandbox_id();
            self.serve.client.release(&id, &caller).await;
        }
    }

    async fn overview(&self) -> Value {
        self.serve.client.overview().await
    }

    /// Returns the metrics of the broker. It reads the tables at most once a minute, so only the first scrape of a test
    /// shows the jobs before it.
    async fn metrics(&self) -> String {
        self.serve.client.plain("/metrics").await.text
    }
}

async fn run_job(
    directory: &Path,
    variables: &Variables,
    name: &'static str,
) -> Result<Value, String> {
    let mut command = command(directory, variables);
    command.args(["job", name]);
    // The simulator answers from this runtime, so its threads must stay free.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

#[track_caller]
fn assert_has_lines(metrics: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            metrics.lines().any(|known| known == *line),
            "missing: {line}\n{metrics}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_counts_the_failures_of_several_processes_and_stops_the_next() {
    let deployment = Deployment::new(8, &[]).await;
    deployment
        .simulator
        .inject([Fault::always(FaultKind::Status { code: 500 })]);
    deployment.release("early", 3).await;
    let first = deployment.job("cleanup").await.unwrap();
    assert_eq!(
        (&first["deferred"], &first["stopped"]),
        (&3.into(), &Value::Null)
    );
    deployment.release("late", 3).await;
    let second = deployment.job("cleanup").await.unwrap();
    assert_eq!(second["deferred"], 3);
    assert_eq!(
        deployment.simulator.calls().delete,
        5,
        "five failures in a row open the breaker"
    );
    let third = deployment.job("cleanup").await.unwrap();
    assert!(
        third["stopped"].as_str().unwrap().contains("unavailable"),
        "{third}"
    );
    assert_eq!(deployment.simulator.calls().delete, 5);

    assert_has_lines(
        &deployment.metrics().await,
        &[
            "broker_breaker_state{breaker=\"csp\",state=\"open\"} 1",
            "broker_breaker_state{breaker=\"csp\",state=\"closed\"} 0",
            "broker_breaker_openings_total{breaker=\"csp\"} 1",
            "broker_job_deferred{job=\"cleanup\"} 1",
            "broker_job_finished_total{job=\"cleanup\",outcome=\"success\"} 3",
            "broker_job_sandboxes_total{job=\"sync\",result=\"inserted\"} 8",
        ],
    );
    let overview = deployment.overview().await;
    assert_eq!(overview["breakers"][0]["state"], "open");
    assert!(
        warning_codes(&overview).contains(&"breaker_open"),
        "{overview}"
    );
    let state = deployment.pool.store.csp_state().await.unwrap().state;
    assert!(state.pace < 1.0, "{state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn expirations_of_a_process_are_in_samples_and_metrics() {
    let deployment = Deployment::new(3, &[]).await;
    let clock = Arc::new(ManualClock::new(
        SystemClock.now() - Duration::from_hours(100),
    ));
    let earlier = TestBroker::boot_at(deployment.variables.clone(), clock).await;
    for n in 0..3 {
        earlier.client.allocate(&format!("play-{n}")).await;
    }
    assert_eq!(deployment.job("auto-expire").await.unwrap()["expired"], 3);
    assert_has_lines(
        &deployment.metrics().await,
        &["broker_job_sandboxes_total{job=\"auto-expire\",result=\"expired\"} 3"],
    );
    let overview = deployment.overview().await;
    assert_eq!(overview["releases_last_hour"], 3, "{overview}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_credentials_show_until_a_process_succeeds() {
    let deployment = Deployment::new(1, &[]).await;
    deployment
        .simulator
        .inject([Fault::always(FaultKind::Status { code: 401 })]);
    deployment.job("sync").await.unwrap_err();
    let metrics = deployment.metrics().await;
    assert_has_lines(
        &metrics,
        &[
            "broker_credentials_rejected{service=\"csp\"} 1",
            "broker_credentials_rejected{service=\"niosxaas\"} 0",
            "broker_job_finished_total{job=\"sync\",outcome=\"error\"} 1",
        ],
    );
    let failed_at = "broker_job_last_failure_timestamp_seconds{job=\"sync\"}";
    assert!(metrics.contains(failed_at), "{metrics}");
    let overview = deployment.overview().await;
    assert!(
        warning_codes(&overview).contains(&"credentials_rejected"),
        "{overview}"
    );
    deployment.simulator.inject([]);
    deployment.job("sync").await.unwrap();
    let overview = deployment.overview().await;
    assert!(
        !warning_codes(&overview).contains(&"credentials_rejected"),
        "{overview}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_cannot_be_read_or_written_stops_no_job() {
    let deployment = Deployment::new(2, &[]).await;
    let companion = &deployment.pool.companion;
    let put = deployment.pool.client.put_item().table_name(companion);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    put.item("PK", text("CSP"))
        .item("SK", text("STATE"))
        .item("version", text("damaged"))
        .send()
        .await
        .unwrap();
    deployment.release("play", 1).await;
    assert_eq!(deployment.job("cleanup").await.unwrap()["deleted"], 1);

    let proxy = Proxy::to(deployment.pool.engine.endpoint()).await;
    let mut variables = deployment.variables.clone();
    variables.insert("DDB_ENDPOINT_URL".to_owned(), proxy.endpoint());
    let broker = TestBroker::boot(variables).await;
    deployment.release("late", 1).await;
    // The run's first GetItem reads the state; the SDK makes three attempts.
    for _ in 0..3 {
        proxy.inject_once("GetItem", proxy::Fault::ServerError);
    }
    assert_eq!(broker.client.job("cleanup").await["deleted"], 1);
    assert_eq!(proxy.injected()[&proxy::Fault::ServerError], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn allocations_of_a_broker_that_stops_are_in_the_samples() {
    let deployment = Deployment::new(2, &[]).await;
    let variables = &deployment.variables;
    let mut other = BrokerProcess::serve(deployment.directory.path(), variables);
    other.client.allocate("play-1").await;
    other.signal(crate::support::Signal::TERM);
    assert!(other.wait().success());
    assert_eq!(deployment.overview().await["allocations_last_hour"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_csp_without_a_usable_version_is_replaced() {
    let pool = Pool::new().await;
    for version in [
        AttributeValue::S("3".to_owned()),
        AttributeValue::Null(true),
        AttributeValue::N("-1".to_owned()),
        AttributeValue::N(i64::MAX.to_string()),
        AttributeValue::N("9".repeat(30)),
    ] {
        let put = pool.client.put_item().table_name(&pool.companion);
        put.item("PK", AttributeValue::S("CSP".to_owned()))
            .item("SK", AttributeValue::S("STATE".to_owned()))
            .item("version", version.clone())
            .send()
            .await
            .unwrap();
        let mut known = pool.store.csp_state().await.unwrap();
        known.state.pace = 0.5;
        let written = pool.store.put_csp_state(known.state, known.version).await;
        assert!(written.unwrap(), "{version:?}");
        let stored = pool.store.csp_state().await.unwrap();
        assert_eq!(stored.state, known.state);
        let repeated = pool.store.put_csp_state(known.state, known.version).await;
        assert!(!repeated.unwrap(), "another process has written in between");
    }
}
