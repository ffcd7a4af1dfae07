//! Commands whose output nobody reads: they do their work, and their exit code says whether they did.

use std::time::Duration;

use serde_json::json;

use super::{Operator, fake::fake_broker};
use crate::support::Pool;

const TOML: &str = "[[lab]]\nid = \"cloud-101\"\nmax_held = 5\n";

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_changes_are_made_and_others_are_not() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    broker.client.allocate("play-1").await.sandbox_id();
    broker.clock.advance(Duration::from_hours(12));
    let release = ["leaks", "--release", "--reason", "the class is over"];
    let apply = ["policy", "apply", "-"];
    let version = async || {
        operator
            .run(&["policy", "get", "--output", "json"])
            .await
            .json()["version"]
            .clone()
    };
    for (command, input) in [(&release[..], ""), (&apply[..], TOML)] {
        let unseen = operator.run_unread(command, input).await;
        assert_eq!(unseen.code, 1, "{unseen:?}");
        assert!(unseen.stderr.contains("nothing was changed"), "{unseen:?}");
    }
    assert_eq!(
        (&broker.client.stats().await["allocated"], version().await),
        (&json!(1), json!(0))
    );
    for (command, input) in [(&release[..], ""), (&apply[..], TOML)] {
        let confirmed = [command, &["--yes"]].concat();
        let done = operator.run_unread(&confirmed, input).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert_eq!(
        (&broker.client.stats().await["allocated"], version().await),
        (&json!(0), json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_keeps_its_exit_code() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    for format in ["table", "json"] {
        let output = ["--output", format];
        let check = [&["policy", "check", "-"][..], &output].concat();
        let wrong = operator.run_unread(&check, "[[lab]]\nid = 5\n").await;
        assert_eq!(wrong.code, 1, "{wrong:?}");
        let name = format!("unread-{format}");
        let create = [
            &["tokens", "create", &name, "--role", "viewer"][..],
            &output,
        ]
        .concat();
        let lost = operator.run_unread(&create, "").await;
        assert_eq!(lost.code, 1, "{lost:?}");
        assert!(lost.stderr.contains("admin tokens revoke "), "{lost:?}");
        let failed = json!({ "id": "sync-1", "job": "sync", "state": "failed", "counts": {}, "error": "No.", "started_by": null,
            "started_at": 1, "finished_at": 2 });
        let (url, _) = fake_broker(vec![(200, failed)]).await;
        let follow = [&["jobs", "sync-1", "--follow"][..], &output].concat();
        let followed = Operator::at(&url).run_unread(&follow, "").await;
        assert_eq!(followed.code, 1, "{followed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_releases_that_failed_are_not_needed_for_the_exit_code() {
    let leak = json!({ "sandbox_id": "1", "name": "1", "caller": "play", "lab": "a", "allocated_at": 5, "extended_at": null,
        "expires_at": 9, "held_sec": 7, "usual_sec": 3, "basis": "history" });
    let page = json!({ "generated_at": 20, "leaks": [leak], "labs": [], "cursor": null });
    let failed = json!({ "results": [{ "sandbox_id": "1", "outcome": "failed", "code": null, "message": null }] });
    let away = json!({ "error": { "code": "INVALID_BODY", "message": "No.", "request_id": "r" } });
    for (answer, code) in [((200, failed), 75), ((400, away), 1)] {
        let (url, _) = fake_broker(vec![(200, page.clone()), answer]).await;
        let release = ["leaks", "--release", "--reason", "over", "--yes"];
        let output = Operator::at(&url).run_unread(&release, "").await;
        assert_eq!(output.code, code, "{output:?}");
    }
}
