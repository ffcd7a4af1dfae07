//! The lease while the command runs.

use std::time::Duration;

use serde_json::json;

use super::{
    desk::{Desk, ME, Running, UNTIL_GO},
    front::Action,
};

/// Starts a run whose leases seem to last two seconds.
fn start(desk: &Desk, options: &[&str]) -> (Running, String) {
    start_with_leases_of(2, desk, options)
}

/// Starts a run whose leases seem to last so many seconds.
fn start_with_leases_of(seconds: u64, desk: &Desk, options: &[&str]) -> (Running, String) {
    desk.front.shorten_leases(seconds);
    let script = format!("echo $SANDBOX_ID; {UNTIL_GO}; exit 6");
    let mut run = Running::start(desk.lease_run(options, &script));
    let id = run.line();
    (run, id)
}

/// Returns how often `text` occurs.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_is_extended_while_the_command_runs() {
    let desk = Desk::new(1).await;
    let (run, id) = start(&desk, &[]);
    desk.front.wait_for(2, "/extend").await;
    let sandbox = desk.broker.client.get(&id, ME).await.json();
    assert_eq!(sandbox["status"], "allocated");
    desk.go();
    let outcome = run.end();
    assert_eq!(outcome.code, 6);
    // No remark reports an extension that succeeds.
    assert_eq!(outcome.stderr.lines().count(), 2, "{outcome:?}");
    assert!(
        desk.front
            .requests()
            .last()
            .unwrap()
            .ends_with("/mark-for-deletion")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_extension_is_retried_and_reported_once() {
    let desk = Desk::new(1).await;
    let mut failures = 2;
    desk.front.rule(move |request| {
        if request.ends_with("/extend") && failures > 0 {
            failures -= 1;
            let busy =
                json!({"error": {"code": "OVERLOADED", "message": "Too many.", "request_id": "r"}});
            return Action::Answer(503, vec![], busy.to_string());
        }
        Action::Pass
    });
    // The retries have half of the lease, which is longer than their pauses.
    let (mut run, _) = start_with_leases_of(6, &desk, &[]);
    run.remark("cannot be extended yet: Too many.");
    run.remark("is held until");
    desk.go();
    let outcome = run.end();
    assert_eq!(outcome.code, 6);
    assert_eq!(
        count(&outcome.stderr, "cannot be extended"),
        1,
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn maximum_of_the_lab_is_announced_once_before_the_end() {
    // The lab permits four hours: the answer to an extension states it, or the refusal of a further one.
    for passed in [Duration::ZERO, Duration::from_hours(2)] {
        let desk = Desk::new(1).await;
        let (run, _) = start(&desk, &["--duration", "240"]);
        desk.broker.clock.advance(passed);
        desk.front.wait_for(2, "/extend").await;
        desk.go();
        let outcome = run.end();
        assert_eq!(outcome.code, 6);
        let warnings = count(&outcome.stderr, "permits no longer lease");
        assert_eq!(warnings, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("is released"), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_goes_on_after_an_operator_released_its_sandbox() {
    for (action, status) in [
        ("release", "pending_deletion"),
        ("quarantine", "quarantined"),
    ] {
        let desk = Desk::new(1).await;
        let (mut run, id) = start(&desk, &[]);
        let reason = json!({"reason": "the class is over"});
        let answer = desk.broker.client.act(&id, action, &reason).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        run.remark("is not held any more");
        desk.go();
        let outcome = run.end();
        assert_eq!(outcome.code, 6);
        assert!(
            outcome.stderr.contains(&format!("status {status}")),
            "{outcome:?}"
        );
        let requests = desk.front.requests().join("\n");
        assert!(!requests.contains("mark-for-deletion"), "{requests}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_continues_with_the_sandbox_that_replaced_its_own() {
    let desk = Desk::new(3).await;
    let (mut run, id) = start(&desk, &[]);
    let second = desk.broker.client.replace(&id, ME).await.sandbox_id();
    let third = desk.broker.client.replace(&second, ME).await.sandbox_id();
    run.remark("was replaced");
    desk.front.wait_for(1, &format!("/{third}/extend")).await;
    desk.go();
    let outcome = run.end();
    assert!(outcome.stderr.contains(&third), "{outcome:?}");
    let released = format!("POST /v1/sandboxes/{third}/mark-for-deletion");
    assert_eq!(desk.front.requests().last(), Some(&released));
    assert_eq!(desk.pool.holdings().await.len(), 0);
}
