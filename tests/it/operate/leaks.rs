//! `admin leaks`.

use serde_json::json;

use super::{Operator, fake::fake_broker};

#[tokio::test(flavor = "multi_thread")]
async fn leaks_without_an_outcome_are_tried_again_and_failures_are_reported() {
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
