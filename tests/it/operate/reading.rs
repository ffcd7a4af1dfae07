//! Commands that read: stats, sandboxes, sandbox, audit, forecast.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use sandbox_broker::clock::{Clock, SystemClock};
use serde_json::json;

use super::{Operator, fake::fake_broker};
use crate::support::Pool;

/// Returns the first words of lines.
fn first_words<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let words = lines.iter().map(|line| line.split_whitespace().next());
    words.map(Option::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_are_listed_from_all_pages_and_up_to_a_limit() {
    let pool = Pool::of(510).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let lines = operator.run(&["sandboxes"]).await.text();
    let ids: BTreeSet<_> = first_words(&lines.lines().skip(1).collect::<Vec<_>>())
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!((lines.lines().count(), ids.len()), (511, 510));
    assert!(lines.starts_with("ID  "), "{lines}");
    let document = operator
        .run(&["sandboxes", "--output", "json"])
        .await
        .json();
    assert_eq!(document["count"], 510);
    assert_eq!(document["sandboxes"].as_array().unwrap().len(), 510);
    assert!(document["cursor"].is_null());
    let some = operator.run(&["sandboxes", "--limit", "502"]).await;
    assert_eq!(some.lines().len(), 503);
    assert!(some.stderr.contains("raise --limit"), "{some:?}");
    let some = operator
        .run(&["sandboxes", "--limit", "2", "--output", "json"])
        .await
        .json();
    assert_eq!(some["count"], 2);
    assert!(some["cursor"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_that_would_never_end_is_an_error() {
    let page = |cursor: &str| json!({ "sandboxes": [], "leaks": [], "labs": [], "generated_at": 1, "count": 0, "cursor": cursor });
    for listing in ["sandboxes", "leaks"] {
        let pages = vec![(200, page("a")), (200, page("b")), (200, page("a"))];
        let (url, requests) = fake_broker(pages).await;
        let output = Operator::at(&url).run(&[listing]).await;
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains("leads back"), "{output:?}");
        assert_eq!(requests.lock().unwrap().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_are_filtered_and_unreadable_items_are_shown() {
    let pool = Pool::with_names(["lab-a-1", "lab-a-2", "lab-b-1"]).await;
    pool.rewrite_sandbox(
        "lab-b-1",
        &[("status", Some(AttributeValue::S("gone".into())))],
    )
    .await;
    let broker = pool.broker().await;
    let held = broker
        .client
        .allocate_in("cloud-101", "play-1")
        .await
        .sandbox_id();
    let operator = Operator::of(&broker);
    let output = operator.run(&["sandboxes", "--status", "allocated"]).await;
    let [titles, row] = output.lines()[..] else {
        panic!("{output:?}")
    };
    assert_eq!(
        titles.split_whitespace().collect::<Vec<_>>(),
        ["ID", "NAME", "STATUS", "LAB", "CALLER", "ENDS", "NOTE"]
    );
    let cells: Vec<_> = row.split_whitespace().take(5).collect();
    assert_eq!(cells, [&held, &held, "allocated", "cloud-101", "play-1"]);
    let output = operator.run(&["sandboxes", "--search", "LAB-A"]).await;
    assert_eq!(output.lines().len(), 3, "{output:?}");
    let all = operator.run(&["sandboxes"]).await.text();
    let unreadable = all.lines().find(|line| line.starts_with("SBX#lab-b-1"));
    let unreadable = unreadable.unwrap_or_else(|| panic!("{all}"));
    assert!(
        unreadable.contains("unreadable") && unreadable.contains("\"gone\""),
        "{unreadable}"
    );
    let none = operator.run(&["sandboxes", "--search", "no such"]).await;
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    let invalid = operator.run(&["sandboxes", "--status", "broken"]).await;
    assert_eq!(invalid.code, 2);
    assert!(invalid.stderr.contains("deletion_failed"), "{invalid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_ends_quietly_when_its_reader_closes_the_pipe() {
    let pool = Pool::of(1200).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    for format in ["table", "json"] {
        let mut command = operator.command(&["sandboxes", "--output", format]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let work = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            // Smaller than the listing, so that the command still writes after the end of its reader.
            let mut reader = BufReader::with_capacity(64, child.stdout.take().unwrap());
            reader.read_line(&mut line).unwrap();
            drop(reader);
            child.wait_with_output().unwrap()
        });
        let output = work.await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn export_that_fails_in_the_middle_is_no_complete_document() {
    let record = |n| {
        json!({ "at": 1_795_000_000, "action": "job.start", "actor": "anna", "role": "admin", "target": "job/sync",
            "outcome": "done", "reason": null, "before": null, "after": null, "number": n })
    };
    let page = |n| json!({ "records": [record(n)], "count": 1, "cursor": format!("after-{n}") });
    let gone = json!({ "error": { "code": "INVALID_CURSOR", "message": "The cursor is too old.", "request_id": "r-1" } });
    for (status, code) in [(400, 1), (503, 75)] {
        let answers = vec![(200, page(1)), (200, page(2)), (status, gone.clone())];
        let (url, _) = fake_broker(answers.clone()).await;
        let json = ["audit", "--output", "json", "--wait", "0"];
        let export = Operator::at(&url).run(&json).await;
        assert_eq!(export.code, code, "{export:?}");
        assert!(export.stdout.contains("\"number\":2"), "{export:?}");
        let parsed = serde_json::from_str::<serde_json::Value>(&export.stdout);
        assert!(parsed.is_err(), "{export:?}");
        assert!(
            export
                .stderr
                .contains("incomplete, it ends after 2 entries")
                && export.stderr.contains("The cursor is too old."),
            "{export:?}"
        );
        let (url, _) = fake_broker(answers).await;
        let table = Operator::at(&url).run(&["audit", "--wait", "0"]).await;
        assert_eq!(table.code, code, "{table:?}");
        assert!(table.stderr.contains("incomplete"), "{table:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn export_to_a_full_disk_fails() {
    let pool = Pool::of(3).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let mut command = operator.command(&["sandboxes", "--output", "json"]);
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    command.stdout(full).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot write the output"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_the_api_are_shown_without_control_characters() {
    let text = "\u{1b}[31mred\u{7}\u{9b}2J\u{202e}x\nnext";
    let sandbox = json!({ "sandbox_id": "1", "name": text, "status": text, "allocated_to_track": text,
        "track_name": text, "allocated_at": 0, "expires_at": null });
    let page = json!({ "sandboxes": [sandbox], "count": 1, "unreadable": [{ "key": text, "fault": text }], "cursor": null });
    let (url, _) = fake_broker(vec![(200, page)]).await;
    let error = json!({ "error": { "code": "X", "message": text, "request_id": text } });
    let (failing, _) = fake_broker(vec![(400, error)]).await;
    for arguments in [&["sandboxes"][..], &["sandboxes", "--output", "json"]] {
        // With colours, as on a terminal.
        for url in [&url, &failing] {
            let operator = Operator::at(url).with("CLICOLOR_FORCE", "1");
            let output = operator.run(arguments).await;
            let written = format!("{}{}", output.stdout, output.stderr);
            let plain = written.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
            let plain = plain.replace("\u{1b}[31m", "");
            let is_plain = |char: char| char == '\n' || !char.is_control() && char != '\u{202e}';
            assert!(plain.chars().all(is_plain), "{written:?}");
            assert!(!written.contains("\u{1b}[31mred"), "{written:?}");
            assert!(written.contains("red"), "{written:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_is_shown_with_its_events_newest_first() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let id = broker
        .client
        .allocate_in("cloud-101", "play-1")
        .await
        .sandbox_id();
    let release = ["release", &id, "--reason", "the student has left", "--yes"];
    operator.run(&release).await.text();
    let shown = operator.run(&["sandbox", &id]).await.text();
    let position = |text: &str| {
        shown
            .find(text)
            .unwrap_or_else(|| panic!("no {text}: {shown}"))
    };
    let (fields, events) = shown.split_once("\n\n").unwrap();
    assert!(
        fields.contains("pending_deletion") && fields.contains("play-1"),
        "{fields}"
    );
    assert!(fields.contains("2036-11-19T11:06:40Z"), "{fields}");
    assert!(!fields.contains("null"), "{fields}");
    assert!(events.starts_with("AT "), "{events}");
    assert!(
        position("sandbox.release") < position(" allocated "),
        "{shown}"
    );
    assert!(shown.contains("the student has left"), "{shown}");
    let unknown = operator.run(&["sandbox", "none"]).await;
    assert_eq!(unknown.code, 4);
    assert!(unknown.stderr.contains("SANDBOX_NOT_FOUND"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_is_filtered_by_days_and_names() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let id = broker.client.allocate("play-1").await.sandbox_id();
    let release = ["release", &id, "--reason", "left", "--yes"];
    operator.run(&release).await.text();
    broker.clock.advance(Duration::from_secs(1));
    let pause = ["pause", "sync", "--reason", "CSP is being repaired"];
    operator.run(&pause).await.text();
    let records = async |filter: &[&str]| {
        let arguments = [&["audit", "--output", "json"], filter].concat();
        let document = operator.run(&arguments).await.json();
        let records = document["records"].as_array().unwrap().clone();
        assert_eq!(document["count"], records.len());
        let action = |record: &serde_json::Value| record["action"].as_str().unwrap().to_owned();
        records.iter().map(action).collect::<Vec<_>>()
    };
    // The broker's clock shows 2036-11-19T11:06:40Z.
    let day = ["--from", "2036-11-19", "--to", "2036-11-19"];
    assert_eq!(records(&day).await, ["pause.set", "sandbox.release"]);
    assert!(records(&["--from", "2036-11-20"]).await.is_empty());
    assert!(records(&["--to", "2036-11-18"]).await.is_empty());
    // By the clock of the system, which shows an earlier time.
    assert!(records(&["--to", "1h"]).await.is_empty());
    assert_eq!(records(&["--from", "1h"]).await.len(), 2);
    assert_eq!(
        records(&["--from", "2036-11-19T12:06:40+01:00"])
            .await
            .len(),
        2
    );
    assert_eq!(
        records(&["--action", "sandbox.*"]).await,
        ["sandbox.release"]
    );
    assert_eq!(
        records(&["--target", &format!("sandbox/{id}")]).await,
        ["sandbox.release"]
    );
    assert_eq!(
        records(&["--actor", "env-admin", "--limit", "1"]).await,
        ["pause.set"]
    );
    assert!(records(&["--outcome", "FORBIDDEN"]).await.is_empty());
    let table = operator.run(&["audit"]).await.text();
    assert!(
        table.contains("env-admin (admin)  sandbox.release"),
        "{table}"
    );
    assert!(table.contains("status=allocated"), "{table}");
    let none = operator.run(&["audit", "--actor", "nobody"]).await;
    assert_eq!(
        (none.code, none.stdout.as_str(), none.stderr.as_str()),
        (0, "", "no records found\n")
    );
    let invalid = operator.run(&["audit", "--from", "yesterday"]).await;
    assert_eq!(invalid.code, 2);
    assert!(invalid.stderr.contains("24h"), "{invalid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_have_counts_pauses_pools_and_warnings() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    // `--for` counts from the clock of the system.
    broker.clock.set(SystemClock.now());
    let operator = Operator::of(&broker);
    broker.client.allocate("play-1").await.sandbox_id();
    let policy = json!({ "pool": [{ "name_prefix": "lab-adventure", "target_available": 9 }],
        "lab": [{ "id": "cloud-101", "max_held": 7 }] });
    broker.client.set_policy(0, &policy).await;
    let pause = [
        "pause",
        "deletions",
        "--reason",
        "CSP is being repaired",
        "--for",
        "60",
    ];
    let paused = operator.run(&pause).await.text();
    assert!(
        paused.starts_with("deletions paused by env-admin since"),
        "{paused}"
    );
    operator.run(&["stats"]).await.text();
    broker.clock.advance(Duration::from_secs(4));
    let stats = operator.run(&["stats"]).await.text();
    for expected in [
        "Counted 4 s ago.",
        "deletions paused by env-admin",
        "available         3",
        "allocated         1",
        "In the last hour 1 allocations",
        "Policy: version 1 by env-admin",
        "lab-adventure",
        "cloud-101",
        "auto-delete-stale",
    ] {
        assert!(stats.contains(expected), "no {expected:?}: {stats}");
    }
    assert!(stats.lines().any(|line| line.starts_with("! ")), "{stats}");
    let document = operator.run(&["stats", "--output", "json"]).await.json();
    assert_eq!(document["counts"]["available"], 3);
    let resumed = operator.run(&["resume", "deletions"]).await.text();
    assert_eq!(resumed, "deletions not paused\n");
    let stats = operator.run(&["stats"]).await.text();
    assert!(!stats.contains("paused by"), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forecast_has_the_pools_of_the_policy_and_its_assumptions() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let policy = json!({ "pool": [{ "name_prefix": "lab-adventure", "target_available": 9 }] });
    broker.client.set_policy(0, &policy).await;
    let at = ["forecast", "--at", "2036-11-19T20:00:00Z"];
    let forecast = operator.run(&at).await.text();
    assert!(forecast.contains("lab-adventure  9"), "{forecast}");
    assert!(forecast.contains("Assumptions:\n- "), "{forecast}");
    let past = operator.run(&["forecast", "--at", "2036-11-01"]).await;
    assert_eq!(past.code, 1);
    assert!(past.stderr.contains("INVALID_PARAMETER"), "{past:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn error_of_any_length_is_shown_as_far_as_somebody_reads_it() {
    let long = json!({ "error": { "code": "INVALID", "message": "word ".repeat(100_000), "request_id": "r" } });
    let (url, _) = fake_broker(vec![(400, long)]).await;
    let failed = Operator::at(&url).run(&["stats"]).await;
    assert!(
        (5_000..20_000).contains(&failed.stderr.len()),
        "{}",
        failed.stderr.len()
    );
}
