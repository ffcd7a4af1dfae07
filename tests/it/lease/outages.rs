//! `lease run` while the broker is unavailable.

use sandbox_broker::domain::Status;

use super::{
    desk::{Desk, Running, outcome},
    front::Action,
};
use crate::support::{BINARY, Signal};

/// Returns a rule that loses the requests whose path ends with `end`.
fn losing(end: &'static str) -> impl FnMut(&str) -> Action + Send + 'static {
    move |request| {
        if request.ends_with(end) {
            Action::Reset
        } else {
            Action::Pass
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn release_is_retried_until_the_broker_is_available_again() {
    let desk = Desk::new(1).await;
    desk.front.rule(losing("/mark-for-deletion"));
    let mut run = Running::start(desk.lease_run(&[], "exit 5"));
    run.remark("cannot be released yet");
    desk.front.wait_for(2, "/mark-for-deletion").await;
    desk.front.rule(|_| Action::Pass);
    let outcome = run.end();
    assert_eq!(outcome.code, 5);
    assert!(outcome.stderr.contains("is released"), "{outcome:?}");
    assert_eq!(desk.used().await[0].1, Status::PendingDeletion);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_that_was_not_released_is_reported_with_the_command_that_releases_it() {
    let desk = Desk::new(1).await;
    desk.front.rule(losing("/mark-for-deletion"));
    let mut run = Running::start(desk.lease_run(&["--caller", "ada's play"], "exit 5"));
    run.remark("cannot be released yet");
    // A signal ends the retries.
    run.signal(Signal::INT);
    let left = run.end();
    assert_eq!(left.code, 5);
    let (_, remark) = left.stderr.split_once("is not released").unwrap();
    assert!(
        remark.contains("is held until") && remark.contains("from now"),
        "{left:?}"
    );
    let (_, line) = remark
        .split_once("To release it now: sandbox-broker ")
        .unwrap();
    desk.front.rule(|_| Action::Pass);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("{BINARY} {}", line.lines().next().unwrap())]);
    shell
        .env_clear()
        .env("BROKER_API_TOKEN", crate::support::TRACK);
    let release = outcome(shell).await;
    assert_eq!(
        (release.code, release.stdout.as_str()),
        (0, "lab-adventure-0000 is released\n"),
        "{release:?}"
    );
    assert_eq!(desk.used().await[0].1, Status::PendingDeletion);
}

#[tokio::test(flavor = "multi_thread")]
async fn release_that_is_refused_for_good_is_not_retried() {
    let desk = Desk::new(1).await;
    desk.front.rule(|request| {
        if !request.ends_with("/mark-for-deletion") {
            return Action::Pass;
        }
        let body = r#"{"error": {"code": "UNAUTHORIZED", "message": "The token is not valid.", "request_id": "r-1"}}"#;
        Action::Answer(401, vec![], body.to_owned())
    });
    let left = desk.run_script(&[], "exit 5").await;
    assert_eq!(left.code, 5);
    for part in [
        "is not released",
        "UNAUTHORIZED, request r-1",
        "that of BROKER_API_TOKEN",
        "To release it now",
    ] {
        assert!(left.stderr.contains(part), "{part}: {left:?}");
    }
    let releases = desk
        .front
        .requests()
        .into_iter()
        .filter(|request| request.ends_with("/mark-for-deletion"));
    assert_eq!(releases.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_to_an_allocation_that_names_no_sandbox_is_reported() {
    let desk = Desk::new(1).await;
    desk.front
        .rule(|_| Action::Answer(201, vec![], r#"{"sandbox": "1"}"#.to_owned()));
    let run = desk.run_script(&[], "echo started").await;
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    for part in ["may have been allocated", "lease list", "is not a broker"] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_cost_no_second_sandbox() {
    let desk = Desk::new(3).await;
    desk.front.script([
        Action::Lose,
        Action::Cut,
        Action::Shorten,
        Action::Pass,
        Action::Lose,
    ]);
    let run = desk.run_script(&["--wait", "60"], "echo $SANDBOX_ID").await;
    assert_eq!(run.code, 0, "{run:?}");
    let used = desk.used().await;
    assert_eq!(
        used,
        [(run.stdout.trim_end().to_owned(), Status::PendingDeletion)]
    );
    assert_eq!(run.stderr.matches("; retrying in").count(), 3, "{run:?}");
}
