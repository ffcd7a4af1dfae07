//! Checks beside other writers: a change of the sandbox between an answer of CSP and its record prevails.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use sandbox_broker::{
    csp::simulator::{Call, FaultKind},
    domain::Status,
};
use serde_json::{Value, json};

use super::{Checked, MINUTE, settings};
use crate::support::{BrokerProcess, Proxy, TestBroker, key};

/// Runs a check of a broker behind a proxy, which holds its first write of a sandbox until `meanwhile` is done.
async fn check_held(checked: &Checked, mode: &str, meanwhile: impl AsyncFnOnce()) -> Value {
    let proxy = Proxy::to(checked.pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let further = [
        ("DDB_ENDPOINT_URL", endpoint.as_str()),
        ("CHECK_MAX_FAILURES", "1"),
    ];
    let variables = settings(mode, &checked.base_url, &further);
    let variables = checked.pool.variables(&variables);
    let broker = TestBroker::boot_at(variables, checked.broker.clock.clone()).await;
    let gate = proxy.hold(|call| {
        call.operation == "TransactWriteItems" && call.json().to_string().contains("SBX#")
    });
    let changing = async {
        gate.wait_for_one().await;
        meanwhile().await;
        gate.open();
    };
    let (report, ()) = tokio::join!(broker.client.job("check"), changing);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_during_a_recheck_prevails() {
    for fault in [None, Some(FaultKind::Status { code: 422 })] {
        let checked = Checked::new("new", 1, &[]).await;
        checked.sync().await;
        assert_eq!(checked.check().await["usable"], 1);
        checked.broker.clock.advance(Duration::from_hours(48));
        if let Some(fault) = fault {
            checked.inject(Call::Groups, fault, &[]);
        }
        let report = check_held(&checked, "all", async || {
            checked.broker.client.allocate("play-1").await.sandbox_id();
        })
        .await;
        assert_eq!(
            (&report["usable"], &report["failed"], &report["quarantined"]),
            (&json!(0), &json!(0), &json!(0)),
            "{report}"
        );
        let sandbox = checked.pool.sandboxes().await.remove(0);
        assert_eq!(sandbox.status, Status::Allocated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_syncs_prevail_over_a_check() {
    for is_usable in [true, false] {
        for (action, expected) in [
            ("quarantine", "quarantined"),
            ("delete", "pending_deletion"),
            ("stale", "stale"),
        ] {
            let checked = Checked::new("new", 1, &[]).await;
            checked.sync().await;
            let id = checked.ids()[0];
            if !is_usable {
                checked.inject(Call::Groups, FaultKind::Status { code: 422 }, &[]);
            }
            let report = check_held(&checked, "new", async || {
                if action == "stale" {
                    checked.simulator.hide(id, true);
                    let client = &checked.broker.client;
                    client.job("sync?force=true").await;
                } else {
                    let because = json!({ "reason": "looks odd" });
                    let client = &checked.broker.client;
                    let done = client.act(&id.to_string(), action, &because).await;
                    assert_eq!(done.status, 200, "{done:?}");
                }
            })
            .await;
            assert_eq!(
                (&report["usable"], &report["quarantined"]),
                (&json!(0), &json!(0)),
                "{report}"
            );
            let sandbox = checked.sandbox(&id.to_string()).await;
            assert_eq!(sandbox["status"], expected, "{sandbox}");
            assert_ne!(sandbox["quarantined_by"], "check");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_run_loses_nothing_and_the_next_one_goes_on() {
    let checked = Checked::new("new", 6, &[]).await;
    checked.sync().await;
    let last = *checked.ids().last().unwrap();
    checked.inject(Call::Groups, FaultKind::Hang, &[last]);
    let more = [("CSP_TIMEOUT_READ_SEC", "60"), ("RUN_JOBS", "true")];
    let mut more = settings("new", &checked.base_url, &more);
    // The schedule of the process starts the check.
    more.push(("CHECK_INTERVAL_SEC", "1"));
    more.push(("SYNC_INTERVAL_SEC", "604800"));
    let directory = tempfile::tempdir().unwrap();
    let process = BrokerProcess::serve(directory.path(), &checked.pool.variables(&more));
    while checked.count("available").await < 5 {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    process.kill();
    checked.mend();
    // The lease of the dead process is over.
    let over = [("lease_until", Some(AttributeValue::N("0".to_owned())))];
    let lease = key("JOB#check", "LEASE");
    checked
        .pool
        .rewrite(&checked.pool.companion, lease, &over)
        .await;
    checked.broker.clock.advance(MINUTE);
    assert_eq!(checked.check().await["usable"], 1);
    assert_eq!(checked.count("available").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_check_an_account_once() {
    let checked = Checked::new("new", 20, &[]).await;
    checked.sync().await;
    let other = checked.another("new", &[]).await;
    let path = "/v1/admin/check";
    let (one, two) = tokio::join!(
        checked.broker.client.admin(reqwest::Method::POST, path),
        other.client.admin(reqwest::Method::POST, path),
    );
    let done: Vec<_> = [&one, &two]
        .into_iter()
        .filter(|answer| answer.status == 200)
        .collect();
    let usable = done.iter().map(|answer| answer.json()["usable"].as_u64());
    assert_eq!(usable.flatten().sum::<u64>(), 20, "{one:?} {two:?}");
    assert_eq!(checked.simulator.calls().groups, 20);
}
