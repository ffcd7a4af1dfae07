//! `admin policy`.

use serde_json::{Value, json};

use super::Operator;
use crate::support::Pool;

const TOML: &str = "[[lab]]\nid = \"cloud-101\"\nmax_held = 5\n";

#[tokio::test(flavor = "multi_thread")]
async fn document_is_applied_compared_and_returned_unchanged() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let apply = ["policy", "apply", "-", "--reason", "exams"];
    let unasked = operator.run_with(&apply, TOML).await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.stdout.contains("+ lab[cloud-101]"), "{unasked:?}");
    let yes = [&apply[..], &["--yes"]].concat();
    let applied = operator.run_with(&yes, TOML).await.text();
    assert!(applied.contains("+ lab[cloud-101]"), "{applied}");
    assert!(applied.contains("version 1 is in force"), "{applied}");
    let text = operator.run(&["policy", "get"]).await.text();
    assert_eq!(text, TOML);
    let again = operator.run_with(&apply, &text).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("nothing to do"), "{again:?}");
    // JSON is recognised by its first character, not by the name of the file.
    let file = operator.directory.path().join("policy.txt");
    let changed = json!({ "lab": [{ "id": "cloud-101", "max_held": 6 }] });
    std::fs::write(&file, changed.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let diff = operator.run(&["policy", "diff", file]).await.text();
    assert_eq!(diff, "~ lab[cloud-101].max_held: 5 -> 6\n");
    let check = operator
        .run(&["policy", "check", file, "--output", "json"])
        .await
        .json();
    assert_eq!(check["changes"][0]["after"], 6);
    let json = ["policy", "apply", file, "--yes", "--output", "json"];
    assert_eq!(operator.run(&json).await.json()["version"], 2);
    let diff = operator.run(&["policy", "diff"]).await.text();
    assert_eq!(diff, "~ lab[cloud-101].max_held: 5 -> 6\n");
    let diff = operator
        .run(&["policy", "diff", "--from", "2", "--to", "1"])
        .await
        .text();
    assert_eq!(diff, "~ lab[cloud-101].max_held: 6 -> 5\n");
    let first = operator
        .run(&["policy", "get", "--version", "1"])
        .await
        .text();
    assert_eq!(first, TOML);
    let history = operator.run(&["policy", "history"]).await.text();
    let versions: Vec<_> = history.lines().skip(1).map(|line| &line[..1]).collect();
    assert_eq!(versions, ["2", "1"], "{history}");
    assert!(
        history.contains("exams") && history.contains("env-admin"),
        "{history}"
    );
    assert_eq!(
        operator
            .run(&["policy", "get", "--version", "9"])
            .await
            .code,
        4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn document_with_faults_is_refused_with_one_fault_a_line() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let wrong = "[[lab]]\nid = \"a\"\nmax_held = \"six\"\n[defaults]\nduration = 5\n";
    for arguments in [
        &["policy", "check", "-"][..],
        &["policy", "apply", "-", "--yes"],
    ] {
        let output = operator.run_with(arguments, wrong).await;
        assert_eq!(output.code, 1, "{output:?}");
        let lines: Vec<_> = output.stdout.lines().collect();
        assert_eq!(lines.len(), 2, "{output:?}");
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("lab[0].max_held: got \"six\", takes ")),
            "{output:?}"
        );
        assert!(output.stderr.contains("2 faults"), "{output:?}");
    }
    let json = ["policy", "check", "-", "--output", "json"];
    let output = operator.run_with(&json, wrong).await;
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (output.code, document["faults"].as_array().unwrap().len()),
        (1, 2)
    );
    let unclosed = operator.run_with(&["policy", "check", "-"], "[[lab").await;
    assert!(
        unclosed.stdout.starts_with("line 1, column "),
        "{unclosed:?}"
    );
    let missing = operator.run(&["policy", "check", "no-such.toml"]).await;
    assert_eq!(missing.code, 2, "{missing:?}");
    let policy = operator
        .run(&["policy", "get", "--output", "json"])
        .await
        .json();
    assert_eq!(policy["version"], 0);
}
