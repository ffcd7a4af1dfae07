//! Failing connections and brokers, servers that are no brokers, and hostile texts in answers.

use serde_json::json;

use super::{desk::Desk, front::Action};

/// Returns a rule that meets every request with `action`.
fn always(action: Action) -> impl FnMut(&str) -> Action + Send + 'static {
    move |_| action.clone()
}

fn error(status: u16, code: &str, message: &str) -> Action {
    let body = json!({"error": {"code": code, "message": message, "request_id": "r-1"}});
    Action::Answer(status, vec![], body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_fault_is_retried() {
    let desk = Desk::new(1).await;
    // Three for each command, because the pauses grow with each retry.
    let connection = [Action::Reset, Action::Cut, Action::Shorten];
    let refusals = [
        error(429, "RATE_LIMIT_EXCEEDED", "Too many requests."),
        Action::Answer(
            502,
            vec![("retry-after", "0")],
            "<h1>Bad Gateway</h1>".to_owned(),
        ),
        Action::Answer(408, vec![], String::new()),
    ];
    let mut remarks = String::new();
    for faults in [connection, refusals] {
        desk.front.script(faults);
        let listed = desk
            .run(&["list", "--wait", "120", "--output", "json"])
            .await;
        assert_eq!(listed.json()["count"], 0);
        assert_eq!(listed.stderr.lines().count(), 3, "{listed:?}");
        remarks.push_str(&listed.stderr);
    }
    let remark = "Too many requests. [RATE_LIMIT_EXCEEDED, request r-1]; retrying in";
    assert!(remarks.contains(remark), "{remarks}");
    assert_eq!(desk.front.requests().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_fault_that_outlasts_the_wait_is_reported() {
    let desk = Desk::new(1).await;
    for (action, part) in [
        (
            error(503, "STORE_UNAVAILABLE", "The database is away."),
            "The database is away. [STORE_UNAVAILABLE, request r-1]",
        ),
        (Action::Answer(504, vec![], "<html>".to_owned()), "504"),
        (
            Action::Answer(503, vec![("retry-after", "3600")], String::new()),
            "503",
        ),
        (Action::Reset, "no answer of http://127.0.0.1"),
        (Action::Cut, "no answer of http://127.0.0.1"),
        (Action::Shorten, "the answer is incomplete"),
    ] {
        desk.front.rule(always(action));
        let failed = desk.run(&["list", "--wait", "0"]).await;
        assert_eq!(
            (failed.code, failed.stdout.as_str()),
            (75, ""),
            "{failed:?}"
        );
        assert!(failed.stderr.contains(part), "{part}: {failed:?}");
    }
    assert_eq!(desk.front.requests().len(), 6);
    let unreachable = desk
        .run(&["list", "--wait", "0", "--url", "http://127.0.0.1:9"])
        .await;
    assert_eq!(unreachable.code, 75, "{unreachable:?}");
    assert!(
        unreachable
            .stderr
            .contains("http://127.0.0.1:9/v1/sandboxes"),
        "{unreachable:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_no_broker_is_recognised_at_once() {
    let desk = Desk::new(1).await;
    let html = || "<!doctype html><title>Welcome</title>".to_owned();
    let target = "https://ada:hunter2@sso.example.com/login?next=secret";
    for (action, part) in [
        (
            Action::Answer(200, vec![("content-type", "text/html")], html()),
            "not of the expected form",
        ),
        (
            Action::Answer(
                200,
                vec![("content-type", "application/json")],
                "{}".to_owned(),
            ),
            "not of the expected form",
        ),
        (
            Action::Answer(404, vec![], html()),
            "check the address and its path, /v1",
        ),
        (
            Action::Answer(403, vec![], r#"{"message": "Forbidden"}"#.to_owned()),
            "HTTP 403",
        ),
        (
            Action::Answer(302, vec![("location", target)], String::new()),
            "redirects to https://[redacted]@sso.example.com",
        ),
    ] {
        desk.front.rule(always(action));
        let failed = desk.run(&["list"]).await;
        assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{failed:?}");
        assert!(
            failed.stderr.contains(part) && failed.stderr.contains("is not a broker"),
            "{failed:?}"
        );
        assert!(!failed.stderr.contains("hunter2"), "{failed:?}");
    }
    // A redirect would carry the token to another server.
    assert_eq!(desk.front.requests().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_does_not_reach_the_terminal() {
    let desk = Desk::new(1).await;
    let hostile = "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\r\nerror: none";
    let is_clean = |text: &str| {
        !text
            .chars()
            .any(|char| char != '\n' && char.is_control() || char == '\u{202e}')
    };
    desk.front.rule(always(error(403, "FORBIDDEN", hostile)));
    let refused = desk.run(&["list"]).await;
    assert_eq!(
        (refused.code, refused.stderr.lines().count()),
        (3, 1),
        "{refused:?}"
    );
    assert!(is_clean(&refused.stderr), "{refused:?}");
    let body = json!({"count": 1, "sandboxes": [{
        "sandbox_id": hostile, "name": hostile, "external_id": hostile, "status": hostile, "track_name": hostile,
        "allocated_at": i64::MAX, "expires_at": i64::MIN, "max_expires_at": i64::MAX, "replaced_by": hostile
    }]});
    let json = vec![("content-type", "application/json")];
    desk.front
        .rule(always(Action::Answer(200, json.clone(), body.to_string())));
    let listed = desk.run(&["list"]).await;
    assert_eq!(
        (listed.code, listed.stdout.lines().count()),
        (0, 2),
        "{listed:?}"
    );
    assert!(is_clean(&listed.stdout), "{listed:?}");
    desk.front.rule(always(Action::Answer(
        201,
        json,
        body["sandboxes"][0].to_string(),
    )));
    let shown = desk.run(&["show", "1"]).await;
    assert!(shown.code == 0 && is_clean(&shown.stdout), "{shown:?}");
    let run = desk.run_script(&["--wait", "0"], "exit 0").await;
    assert!(
        is_clean(&run.stderr) && run.stderr.contains("sandbox-broker: "),
        "{run:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn remaining_time_is_relative_to_the_clock_of_the_broker() {
    let desk = Desk::new(1).await;
    let body = json!({
        "sandbox_id": "1", "name": "lab-1", "external_id": "identity/accounts/1",
        "allocated_at": 1_000_000_000, "expires_at": 1_000_003_600
    });
    // An hour before the end, in the year 2001.
    let headers = vec![
        ("content-type", "application/json"),
        ("date", "Sun, 09 Sep 2001 01:46:40 GMT"),
    ];
    desk.front
        .rule(always(Action::Answer(201, headers, body.to_string())));
    let shown = desk.run(&["allocate"]).await;
    assert!(
        shown.stdout.contains("2001-09-09T02:46:40Z (in 60 min)"),
        "{shown:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn release_waits_for_a_broker_that_restarts() {
    let desk = Desk::new(1).await;
    let (client, pool) = (&desk.broker.client, &desk.pool);
    let id = client.allocate(super::desk::ME).await.sandbox_id();
    let mut away = 3;
    desk.front.rule(move |_| {
        away -= 1;
        if away > 0 {
            Action::Reset
        } else {
            Action::Pass
        }
    });
    let released = desk.run(&["release", &id, "--wait", "60"]).await;
    assert_eq!(released.code, 0, "{released:?}");
    assert_eq!(pool.holdings().await.len(), 0);
}
