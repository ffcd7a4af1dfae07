//! Documents that are made to cost time or memory. Each is as long as a request may be.

use std::time::Instant;

use serde_json::Value;

use super::*;

/// Far more than a debug build on a slow machine takes, and far less than a quadratic algorithm does.
const LIMIT_SECONDS: u64 = 5;

/// Repeats what `part` returns for 0, 1, 2 … until the text has the size of a document.
fn repeated(start: &str, part: impl Fn(usize) -> String, end: &str) -> String {
    let mut text = start.to_owned();
    let mut parts = 0;
    while text.len() < MAX_POLICY_BYTES {
        text.push_str(&part(parts));
        parts += 1;
    }
    text.push_str(end);
    text
}

/// Requires that a text is refused in time, with a bounded answer.
fn refuse(text: &str, read: fn(&str) -> Result<Value, PolicyFaults>) -> PolicyFaults {
    let start = Instant::now();
    let faults = read(text)
        .and_then(|value| PolicyDocument::parse(&value))
        .unwrap_err();
    let took = start.elapsed();
    assert!(took.as_secs() < LIMIT_SECONDS, "{took:?}: {faults}");
    assert!(faults.faults.len() <= 100);
    let answer = serde_json::to_vec(&faults.faults).unwrap();
    assert!(answer.len() < 64 * 1024, "{} bytes", answer.len());
    faults
}

#[test]
fn json_of_nothing_but_faults_is_cheap() {
    let long = "x".repeat(MAX_POLICY_BYTES);
    for text in [
        repeated("{", |n| format!("\"f{n}\":1,"), "\"last\":1}"),
        repeated("{\"lab\":[", |_| "0,".into(), "0]}"),
        repeated("{\"lab\":[", |_| "{},".into(), "0]}"),
        repeated(
            "{\"lab\":[",
            |_| "{\"id\":\"\",\"max_held\":-1},".into(),
            "0]}",
        ),
        repeated("{\"lab\":[", |_| "{\"id\":\"a\"},".into(), "0]}"),
        repeated(
            "{\"lab\":[{\"id\":\"a\",",
            |n| format!("\"duration_minute{n}\":1,"),
            "\"b\":1}]}",
        ),
        repeated(
            "{\"pool\":[",
            |n| format!("{{\"name_prefix\":\"{}\"}},", "a".repeat(n)),
            "0]}",
        ),
        repeated(
            "{\"pool\":[{\"schedule\":[",
            |n| format!("{{\"from\":\"2026-11-28T10:00:00\",\"time_zone\":\"Zone/{n}\"}},"),
            "0]}]}",
        ),
        repeated(
            "{\"pool\":[{\"create\":{\"tags\":{",
            |n| format!("\"{n}\":1,"),
            "\"b\":1}}}]}",
        ),
        format!("{{\"{long}\":\"{long}\",\"lab\":[{{\"id\":\"{long}\"}}]}}"),
        format!("{{\"lab\":[{{\"id\":\"{}\"}}]}}", "\\u202e".repeat(40_000)),
        repeated("", |_| "[".into(), ""),
        repeated("{\"lab\":", |_| "[".into(), ""),
        repeated("", |_| "{\"a\":".into(), ""),
        "\n".repeat(MAX_POLICY_BYTES),
        String::new(),
    ] {
        refuse(&text, PolicyDocument::from_json);
    }
}

#[test]
fn toml_of_nothing_but_faults_is_cheap() {
    let long = "x".repeat(MAX_POLICY_BYTES);
    for text in [
        repeated("", |n| format!("f{n}=1\n"), ""),
        repeated("", |_| "[[lab]]\n".into(), ""),
        repeated("", |n| format!("[a{n}]\n"), ""),
        repeated("", |_| "[[lab]]\nid=1979-05-27\n".into(), ""),
        repeated(
            "[[pool]]\n",
            |_| "[[pool.schedule]]\nfrom=1979-05-27T07:32:00Z\nto=1979-05-27\n".into(),
            "",
        ),
        repeated("lab=[", |_| "nan,".into(), "]"),
        repeated("", |_| "a.".into(), "a=1"),
        repeated("[", |_| "a.".into(), "a]"),
        repeated("", |n| format!("[{}b{n}]\n", "a.".repeat(70)), ""),
        repeated("", |_| "[".into(), ""),
        repeated("a=", |_| "[".into(), ""),
        repeated("a=", |_| "{a=".into(), ""),
        repeated("", |_| "=".into(), ""),
        repeated("", |_| "\"".into(), ""),
        repeated("", |_| "a=1\n".into(), ""),
        format!("a = {}", "1".repeat(MAX_POLICY_BYTES)),
        format!("a = {}.0", "1".repeat(MAX_POLICY_BYTES)),
        format!("{long} = \"{long}\""),
        format!("a = \"\"\"{}\"\"\"", "\n".repeat(MAX_POLICY_BYTES)),
    ] {
        refuse(&text, PolicyDocument::from_toml);
    }
}

#[test]
fn faults_beyond_the_first_hundred_are_counted() {
    let text = repeated("{\"lab\":[", |_| "0,".into(), "0]}");
    let faults = refuse(&text, PolicyDocument::from_json);
    assert_eq!((faults.faults.len(), faults.more), (100, 9_901));
    assert!(faults.to_string().ends_with(". 9901 more"));
}
