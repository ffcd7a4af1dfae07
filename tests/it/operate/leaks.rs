//! `admin leaks`.

use std::time::Duration;

use serde_json::json;

use super::{Operator, fake::fake_broker};
use crate::support::Pool;

#[tokio::test(flavor = "multi_thread")]
async fn leaks_are_listed_by_lab_and_released_together() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    for (lab, caller) in [
        ("cloud-101", "play-1"),
        ("cloud-101", "play-2"),
        ("other", "play-3"),
    ] {
        broker.client.allocate_in(lab, caller).await.sandbox_id();
    }
    let none = operator.run(&["leaks"]).await;
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    assert!(none.stderr.contains("no allocation"), "{none:?}");
    // Past the end of all of them. Their labs have no history.
    broker.clock.advance(Duration::from_hours(12));
    let listed = operator.run(&["leaks"]).await;
    assert_eq!(listed.lines().len(), 4, "{listed:?}");
    let of_lab = ["leaks", "--lab", "cloud-101"];
    let document = operator
        .run(&[&of_lab[..], &["--output", "json"]].concat())
        .await
        .json();
    let leaks = document["leaks"].as_array().unwrap().iter();
    let mut callers: Vec<_> = leaks.map(|leak| leak["caller"].as_str().unwrap()).collect();
    // Both were allocated in the same second, so either may be first.
    callers.sort_unstable();
    assert_eq!(callers, ["play-1", "play-2"]);
    let release = [&of_lab[..], &["--release", "--reason", "the class is over"]].concat();
    let unasked = operator.run(&release).await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    let released = operator.run(&[&release[..], &["--yes"]].concat()).await;
    assert_eq!(released.lines().last(), Some(&"2 released"), "{released:?}");
    let stats = broker.client.stats().await;
    assert_eq!(
        (&stats["allocated"], &stats["pending_deletion"]),
        (&1.into(), &2.into())
    );
    let no_reason = operator.run(&["leaks", "--release", "--yes"]).await;
    assert_eq!(no_reason.code, 2, "{no_reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leak_that_cannot_be_read_is_not_left_out() {
    let leak = json!({ "sandbox_id": "1", "lab": "a" });
    let page = json!({ "generated_at": 20, "leaks": [leak], "labs": [], "cursor": null });
    let (url, _) = fake_broker(vec![(200, page)]).await;
    let output = Operator::at(&url).run(&["leaks"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:?}");
    assert!(output.stderr.contains("missing field"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_outcome_of_a_release_is_an_error() {
    let leak = json!({ "sandbox_id": "1", "name": "1", "caller": "play", "lab": "a", "allocated_at": 5, "extended_at": null,
        "expires_at": 9, "held_sec": 7, "usual_sec": 3, "basis": "history" });
    let page = json!({ "generated_at": 20, "leaks": [leak], "labs": [], "cursor": null });
    let (url, _) = fake_broker(vec![(200, page), (200, json!({ "results": [] }))]).await;
    let release = ["leaks", "--release", "--reason", "over", "--yes"];
    let output = Operator::at(&url).run(&release).await;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(
        output.stderr.contains("0 outcomes of 1 releases"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unattempted_release_of_a_leak_is_repeated_and_a_failed_one_is_reported() {
    let leak = |id: &str| {
        json!({ "sandbox_id": id, "name": id, "caller": "play", "lab": "a", "allocated_at": 5, "extended_at": null,
            "expires_at": 9, "held_sec": 7, "usual_sec": 3, "basis": "history" })
    };
    let page =
        json!({ "generated_at": 20, "leaks": [leak("1"), leak("2")], "labs": [], "cursor": null });
    let results = |results: &[(&str, &str)]| {
        let results: Vec<_> = results
            .iter()
            .map(|(id, outcome)| json!({ "sandbox_id": id, "outcome": outcome, "code": null, "message": "why" }))
            .collect();
        json!({ "results": results })
    };
    let first = results(&[("1", "released"), ("2", "not_attempted")]);
    let second = results(&[("2", "failed")]);
    let (url, requests) = fake_broker(vec![(200, page), (200, first), (200, second)]).await;
    let release = [
        "leaks",
        "--release",
        "--reason",
        "over",
        "--yes",
        "--output",
        "json",
    ];
    let output = Operator::at(&url).run(&release).await;
    assert_eq!(output.code, 75, "{output:?}");
    assert!(output.stderr.contains("repeat the command"), "{output:?}");
    let document: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (&document["released"], &document["failed"]),
        (&1.into(), &1.into())
    );
    assert_eq!(requests.lock().unwrap().len(), 3);
}
