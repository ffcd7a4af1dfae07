//! `lease run` from the allocation to the release.

use std::{io::Write, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sandbox_broker::domain::Status;
use serde_json::json;

use super::{
    desk::{Desk, ME, Running, UNTIL_GO, outcome, write_executable},
    front::Action,
};
use crate::support::START;

#[tokio::test(flavor = "multi_thread")]
async fn command_has_a_sandbox_and_the_streams_until_it_ends() {
    let desk = Desk::new(1).await;
    let script = "echo \"$SANDBOX_ID $SANDBOX_NAME $SANDBOX_EXTERNAL_ID $SANDBOX_ACCOUNT_ID $SANDBOX_EXPIRES_AT\"; \
                  echo \"${SANDBOX_SFDC_ACCOUNT_ID-none} $BROKER_CALLER $BROKER_API_URL ${BROKER_API_TOKEN-none} \
                  ${BROKER_ADMIN_TOKEN-none}\"; cat; echo of the command >&2; exit 7";
    let mut command = desk.lease_run(&["--lab", "cloud-101"], script);
    command
        .env("BROKER_ADMIN_TOKEN", "secret")
        .env("SANDBOX_SFDC_ACCOUNT_ID", "of-another-sandbox")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed").unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    let (id, end) = ("lab-adventure-0000", START.0 + 30 * 60);
    let url = &desk.front.url;
    let expected =
        format!("{id} {id} identity/accounts/{id} {id} {end}\nnone {ME} {url} none none\ntyped");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert_eq!(output.status.code(), Some(7));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = stderr.lines().collect();
    let [held, "of the command", released] = lines[..] else {
        panic!("{stderr}")
    };
    assert!(
        held.starts_with("sandbox-broker: the sandbox lab-adventure-0000 ("),
        "{stderr}"
    );
    assert!(held.contains("30 min from now"), "{stderr}");
    assert!(released.ends_with("is released"), "{stderr}");
    let sandbox = desk.pool.sandboxes().await.remove(0);
    assert_eq!(sandbox.status, Status::PendingDeletion);
    assert_eq!(sandbox.lab().unwrap().to_string(), "cloud-101");
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_counts_from_its_allocation_and_not_from_the_wait_for_a_sandbox() {
    let desk = Desk::new(1).await;
    let full =
        json!({"error": {"code": "LAB_QUOTA_REACHED", "message": "Full.", "request_id": "r"}});
    let refusal = Action::Answer(409, vec![("retry-after", "2")], full.to_string());
    desk.front.script([refusal]);
    let run = desk.run_script(&["--wait", "60"], "exit 0").await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("retrying in"), "{run:?}");
    assert!(run.stderr.contains("30 min from now"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_is_that_of_a_shell() {
    let desk = Desk::new(4).await;
    for (script, code) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("kill -9 $$", 137),
        ("kill -SEGV $$", 139),
    ] {
        let outcome = desk.run_script(&[], script).await;
        assert_eq!(outcome.code, code, "{script}: {outcome:?}");
        assert!(outcome.stderr.contains("is released"), "{outcome:?}");
    }
    let used = desk.used().await;
    assert!(
        used.iter()
            .all(|(_, status)| *status == Status::PendingDeletion),
        "{used:?}"
    );
    assert_eq!(used.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_cannot_be_found_costs_no_sandbox() {
    let desk = Desk::new(1).await;
    desk.write("text", "not a program");
    for (program, code) in [
        ("no-such-program", 127),
        ("./no-such-program", 127),
        ("./text", 126),
        ("/", 126),
    ] {
        let outcome = desk.run(&["run", "--", program]).await;
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(outcome.stderr.contains(program), "{outcome:?}");
    }
    assert_eq!(desk.front.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_of_a_command_that_cannot_be_started_is_released_at_once() {
    let desk = Desk::new(1).await;
    write_executable(&desk.path("program"), b"\x7fELF, but not really");
    let outcome = desk.run(&["run", "--", "./program"]).await;
    assert_eq!(outcome.code, 126, "{outcome:?}");
    assert!(
        outcome.stderr.contains("./program cannot be started"),
        "{outcome:?}"
    );
    assert_eq!(desk.used().await[0].1, Status::PendingDeletion);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_is_not_started_without_a_sandbox() {
    let desk = Desk::new(0).await;
    let none = desk.run_script(&[], "touch started").await;
    assert_eq!(none.code, 75, "{none:?}");
    assert!(none.stderr.contains("NO_SANDBOXES_AVAILABLE"), "{none:?}");
    let mut refused = desk.lease_run(&[], "touch started");
    refused.env("BROKER_API_TOKEN", "of-somebody");
    let refused = outcome(refused).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("BROKER_API_TOKEN"), "{refused:?}");
    let usage = desk.run(&["run", "--lab", "cloud-101"]).await;
    assert_eq!(usage.code, 2, "{usage:?}");
    let usage = desk.run_script(&["--duration", "0"], "touch started").await;
    assert_eq!(usage.code, 2, "{usage:?}");
    assert!(!desk.path("started").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_of_a_killed_run_expires_and_affects_no_other_run() {
    let desk = Desk::new(2).await;
    let mut killed = Running::start(desk.lease_run(&[], "echo $$; exec sleep 300"));
    let command: i32 = killed.line().parse().unwrap();
    killed.signal(Signal::KILL);
    drop(killed);
    let other = desk.run_script(&[], "echo $SANDBOX_ID").await;
    let held = desk.run(&["list", "--output", "json"]).await.json();
    let left = held["sandboxes"][0]["sandbox_id"].as_str().unwrap();
    assert_eq!((held["count"].as_u64(), other.code), (Some(1), 0), "{held}");
    assert_ne!(other.stdout.trim_end(), left);
    // The lease and the grace period.
    desk.broker
        .clock
        .advance(std::time::Duration::from_mins(61));
    desk.broker.client.job("auto-expire").await;
    let used = desk.used().await;
    assert!(
        used.iter()
            .all(|(_, status)| *status == Status::PendingDeletion),
        "{used:?}"
    );
    // The command survives the end of `lease run`.
    kill_process(Pid::from_raw(command).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_with_its_command_and_not_with_the_background_processes() {
    let desk = Desk::new(1).await;
    let script = "{ touch daemon-started; while [ ! -e go ]; do sleep 0.02; done; touch daemon-ended; } \
                  >/dev/null 2>&1 & exit 4";
    let outcome = desk.run_script(&[], script).await;
    assert_eq!(outcome.code, 4, "{outcome:?}");
    assert!(!desk.path("daemon-ended").exists());
    assert_eq!(desk.used().await[0].1, Status::PendingDeletion);
    desk.go();
    while !desk.path("daemon-ended").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_can_use_the_broker_as_the_same_caller() {
    let desk = Desk::new(2).await;
    let url = &desk.front.url;
    let contexts = format!(
        "[contexts.here]\nurl = \"{url}\"\ntoken = \"test-track-token\"\ncaller = \"me\"\n"
    );
    desk.write(".config/sandbox-broker/config.toml", &contexts);
    let broker = crate::support::BINARY;
    // The command replaces its sandbox, so the run releases the new one.
    let script = format!(
        "{broker} lease replace $SANDBOX_ID --reason broken --output json && {broker} lease list"
    );
    let mut command = desk.lease_run(&["--context", "here"], &script);
    command.env_remove("BROKER_CALLER");
    let outcome = outcome(command).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("was replaced by"), "{outcome:?}");
    let used = desk.used().await;
    assert_eq!(used.len(), 2);
    assert!(
        used.iter()
            .all(|(_, status)| *status == Status::PendingDeletion),
        "{used:?}"
    );
    // Other users can read the file of the contexts.
    assert!(outcome.stderr.contains("chmod 600"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_caller_have_a_sandbox_each() {
    let desk = Desk::new(2).await;
    let script = format!("echo $SANDBOX_ID; {UNTIL_GO}");
    let mut runs = [
        Running::start(desk.lease_run(&[], &script)),
        Running::start(desk.lease_run(&[], &script)),
    ];
    let (one, other) = (runs[0].line(), runs[1].line());
    assert_ne!(one, other);
    desk.go();
    for run in runs {
        assert_eq!(run.end().code, 0);
    }
}
