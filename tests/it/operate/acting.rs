//! Commands that change something: actions on sandboxes, and tokens.

use std::time::Duration;

use sandbox_broker::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{Operator, fake::fake_broker};
use crate::support::Pool;

#[tokio::test(flavor = "multi_thread")]
async fn destructive_command_without_a_terminal_needs_a_confirmation() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let id = broker.client.allocate("play-1").await.sandbox_id();
    for action in ["release", "quarantine", "delete"] {
        let refused = operator.run(&[action, &id, "--reason", "left"]).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("--yes"), "{refused:?}");
    }
    assert_eq!(broker.client.stats().await["allocated"], 1);
    let no_reason = operator.run(&["release", &id, "--yes"]).await;
    assert_eq!(no_reason.code, 2);
    assert!(no_reason.stderr.contains("--reason"), "{no_reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn action_shows_the_sandbox_as_it_is_after_it() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    // `--for` counts from the clock of the system.
    let now = SystemClock.now();
    broker.clock.set(now);
    let operator = Operator::of(&broker);
    let id = "lab-adventure-0000";
    let act = async |action: &str, more: &[&str]| {
        let arguments = [&[action, id, "--reason", "DNS does not resolve"], more].concat();
        operator.run(&arguments).await
    };
    let row = act("quarantine", &["--yes", "--for", "60"]).await.text();
    for expected in ["quarantined", "(in 60 min)", "DNS does not resolve"] {
        assert!(row.contains(expected), "no {expected:?}: {row}");
    }
    let row = act("restore", &["--output", "json"]).await.json();
    assert_eq!(row["status"], "available");
    broker.client.allocate("play-1").await.sandbox_id();
    let row = act("extend", &["--minutes", "600", "--output", "json"])
        .await
        .json();
    assert_eq!(row["expires_at"], now.0 + 600 * 60);
    let refused = act("delete", &["--yes"]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("SANDBOX_ALLOCATED"), "{refused:?}");
    let row = act("release", &["--yes"]).await.text();
    assert!(
        row.contains("pending_deletion") && row.contains("released by env-admin"),
        "{row}"
    );
    let unknown = ["release", "none", "--reason", "x", "--yes"];
    assert_eq!(operator.run(&unknown).await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_action_succeeds_only_with_the_same_reason() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let held = broker.client.allocate("play-1").await.sandbox_id();
    let ids = pool.sandboxes().await;
    let mut ids = ids.iter().map(|sandbox| sandbox.id().to_string());
    let free = ids.find(|id| *id != held).unwrap();
    let act = async |action: &[&str], reason: &str| {
        let arguments = [action, &["--reason", reason]].concat();
        operator.run(&arguments).await
    };
    let extend = ["extend", &held, "--minutes", "600"];
    for (action, shown) in [
        (&extend[..], "allocated"),
        (&["release", &held, "--yes"], "pending_deletion"),
        (&["quarantine", &free, "--yes"], "quarantined"),
        (&["restore", &free], "available"),
        (&["delete", &free, "--yes"], "pending_deletion"),
    ] {
        assert_eq!(act(action, "DNS fails").await.code, 0, "{action:?}");
        let again = act(action, "DNS fails").await;
        assert!(again.stderr.contains("done before"), "{again:?}");
        assert!(again.text().contains(shown));
        let other = act(action, "another reason").await;
        assert_eq!(other.code, 1, "{other:?}");
        let hint = format!("sandbox-broker admin sandbox {}", action[1]);
        assert!(other.stderr.contains(&hint), "{other:?}");
        // Actions at the same time have no order.
        broker.clock.advance(Duration::from_secs(1));
    }
    let of_released = act(&extend, "DNS fails").await;
    assert_eq!(of_released.code, 1, "{of_released:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_a_role_names_the_required_one() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let create = ["tokens", "create", "a-viewer", "--role", "viewer"];
    let secret = operator.run(&create).await.text();
    let viewer = Operator::of(&broker).with("BROKER_ADMIN_TOKEN", secret.trim());
    assert_eq!(viewer.run(&["stats"]).await.code, 0);
    let pause = ["pause", "sync", "--reason", "x"];
    let refused = viewer.run(&pause).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(
        refused.stderr.contains("requires the role operator"),
        "{refused:?}"
    );
    let nobody = Operator::of(&broker).with("BROKER_ADMIN_TOKEN", "nobody");
    let refused = nobody.run(&["stats"]).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("UNAUTHORIZED"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_of_a_new_token_is_alone_on_stdout() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let create = [
        "tokens",
        "create",
        "ci",
        "--role",
        "track",
        "--lab",
        "cloud-101",
        "--lab",
        "cloud-102",
        "--name-prefix",
        "lab-",
        "--expires",
        "2036-12-01",
    ];
    let created = operator.run(&create).await;
    let secret = created.stdout.strip_suffix('\n').unwrap().to_owned();
    assert!(
        secret.starts_with("sbt_") && !secret.contains(char::is_whitespace),
        "{created:?}"
    );
    assert!(
        created.stderr.contains("ci") && !created.stderr.contains(&secret),
        "{created:?}"
    );
    assert!(
        created.stderr.contains("2036-12-01T00:00:00Z"),
        "{created:?}"
    );
    let taken = operator.run(&create).await;
    assert_eq!(taken.code, 1);
    assert!(taken.stderr.contains("revoke that token"), "{taken:?}");
    let listed = operator.run(&["tokens", "list"]).await.text();
    assert!(
        listed.contains("cloud-101 cloud-102 lab-*") && !listed.contains(&secret),
        "{listed}"
    );
    let id = &secret[4..20];
    let asked = operator.run(&["tokens", "revoke", id]).await;
    assert_eq!(asked.code, 2);
    let revoked = operator
        .run(&["tokens", "revoke", id, "--yes"])
        .await
        .text();
    assert!(revoked.contains("revoked"), "{revoked}");
    let invalid = operator
        .run(&["tokens", "create", "x", "--role", "root"])
        .await;
    assert_eq!(invalid.code, 2);
    let json = [
        "tokens", "create", "x", "--role", "viewer", "--output", "json",
    ];
    let document: Value = operator.run(&json).await.json();
    assert!(document["secret"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn call_to_an_unavailable_broker_is_retried_and_its_failure_reported() {
    let operator = Operator::at("http://127.0.0.1:9");
    let away = operator.run(&["stats", "--wait", "0"]).await;
    assert_eq!(away.code, 75, "{away:?}");
    assert!(away.stderr.contains("127.0.0.1:9"), "{away:?}");
    let busy = json!({ "error": { "code": "STORE_UNAVAILABLE", "message": "The database is away.", "request_id": "r" } });
    let pauses = json!({ "pauses": [] });
    let (url, requests) = fake_broker(vec![(503, busy), (204, json!(null)), (200, pauses)]).await;
    let resumed = Operator::at(&url)
        .run(&["resume", "sync", "--output", "json"])
        .await;
    assert!(resumed.stderr.contains("retrying"), "{resumed:?}");
    assert_eq!(resumed.json(), json!({ "pauses": [] }));
    assert_eq!(
        *requests.lock().unwrap(),
        [
            "DELETE /v1/admin/pauses/sync",
            "DELETE /v1/admin/pauses/sync",
            "GET /v1/admin/pauses"
        ]
    );
}
