//! `admin run` and `admin jobs`.

use sandbox_broker::csp::simulator::{Fault, FaultKind};
use serde_json::json;

use super::{Operator, fake::fake_broker};
use crate::support::{Pool, simulated_csp};

#[tokio::test(flavor = "multi_thread")]
async fn run_is_followed_to_its_result() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(25).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    let operator = Operator::of(&broker);
    let sync = operator.run(&["run", "sync"]).await;
    assert!(sync.stderr.contains("sync has started: sync-"), "{sync:?}");
    let shown = sync.text();
    assert!(
        shown.contains("succeeded") && shown.contains("25 inserted"),
        "{shown}"
    );
    assert!(shown.contains("env-admin"), "{shown}");
    let record = operator
        .run(&["run", "sync", "--output", "json"])
        .await
        .json();
    assert_eq!(record["counts"]["synced"], 25);
    let listed = operator.run(&["jobs", "--job", "sync"]).await;
    assert_eq!(listed.lines().len(), 3, "{listed:?}");
    assert_eq!(operator.run(&["jobs", "--job", "cleanup"]).await.text(), "");
    let id = record["id"].as_str().unwrap();
    let one = operator.run(&["jobs", id]).await.text();
    assert!(one.contains(id), "{one}");
    assert_eq!(operator.run(&["jobs", "sync-0-0"]).await.code, 4);
    let job = operator.run(&["jobs", "sync"]).await;
    assert_eq!(job.code, 2, "{job:?}");
    assert!(job.stderr.contains("--job sync"), "{job:?}");
    simulator.inject([Fault::always(FaultKind::Status { code: 401 })]);
    let failed = operator.run(&["run", "sync", "--force", "--yes"]).await;
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stdout.contains("failed"), "{failed:?}");
    assert!(failed.stderr.contains("CSP_API_TOKEN"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_in_progress_is_named_and_can_be_followed() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(3).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    let operator = Operator::of(&broker);
    let slow = FaultKind::Slow { delay_ms: 1500 };
    simulator.inject([Fault::always(slow)]);
    let id = operator.run(&["run", "sync", "--detach"]).await.text();
    let id = id.trim();
    assert!(id.starts_with("sync-"), "{id}");
    let second = operator.run(&["run", "sync"]).await;
    assert_eq!(second.code, 75, "{second:?}");
    let hint = format!("sandbox-broker admin jobs {id} --follow");
    assert!(second.stderr.contains(&hint), "{second:?}");
    let followed = operator.run(&["jobs", id, "--follow"]).await.text();
    assert!(followed.contains("3 inserted"), "{followed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_to_paste_is_quoted() {
    let running = json!({ "error": { "code": "JOB_RUNNING", "message": "It runs.", "request_id": "r",
        "run_id": "sync-1; echo $HOME" } });
    let (url, _) = fake_broker(vec![(409, running)]).await;
    let refused = Operator::at(&url).run(&["run", "sync"]).await;
    let line = "sandbox-broker admin jobs 'sync-1; echo $HOME' --follow";
    assert!(refused.stderr.contains(line), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_of_a_paused_or_disabled_job_reports_the_reason() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let off = operator.run(&["run", "refill", "--plan"]).await;
    assert_eq!(off.code, 1, "{off:?}");
    assert!(off.stderr.contains("REFILL_MODE"), "{off:?}");
    let pause = ["pause", "deletions", "--reason", "CSP is being repaired"];
    operator.run(&pause).await.text();
    let paused = operator.run(&["run", "cleanup"]).await;
    assert_eq!(paused.code, 75, "{paused:?}");
    assert!(
        paused.stdout.contains("CSP is being repaired"),
        "{paused:?}"
    );
    let unasked = operator
        .run(&["run", "bulk-delete", "--status", "stale"])
        .await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    let unasked = operator.run(&["run", "auto-expire", "--force"]).await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_job_are_those_of_its_endpoint() {
    let accepted = json!({ "run_id": "sync-1-1", "state": "running" });
    let cases: [(&[&str], &str); 7] = [
        (&["sync", "--force"], "sync?force=true"),
        (&["cleanup", "--retry-failed"], "cleanup?retry_failed=true"),
        (&["auto-expire", "--force"], "auto-expire?force=true"),
        (
            &["auto-delete-stale", "--grace-period-hours", "5"],
            "auto-delete-stale?grace_period_hours=5",
        ),
        (&["check"], "check"),
        (&["refill", "--plan"], "refill?plan=true"),
        (
            &["bulk-delete", "--status", "deletion_failed"],
            "bulk-delete?status=deletion_failed",
        ),
    ];
    let (url, requests) = fake_broker(vec![(202, accepted)]).await;
    let operator = Operator::at(&url);
    for (arguments, path) in cases {
        let arguments = [&["run"], arguments, &["--detach", "--yes"]].concat();
        assert_eq!(operator.run(&arguments).await.text(), "sync-1-1\n");
        let requests = requests.lock().unwrap();
        assert_eq!(*requests.last().unwrap(), format!("POST /v1/admin/{path}"));
    }
}
