//! `lease run` under signals, of processes and of a terminal.

use std::{process::Command, sync::Arc};

use sandbox_broker::domain::Status;
use tokio::sync::Notify;

use super::{
    desk::{Desk, Running, UNTIL_GO},
    front::Action,
};
use crate::support::{BINARY, Signal, TRACK, Terminal};

/// A command that reports the first signal that it receives, and ends.
const REPORT: &str = "for signal in HUP INT QUIT TERM USR1 USR2; do trap \"echo got $signal; exit 9\" $signal; done; \
                      echo ready; i=0; while [ $((i += 1)) -lt 9999 ]; do sleep 0.02; done";

#[tokio::test(flavor = "multi_thread")]
async fn signal_to_the_run_reaches_the_command() {
    let desk = Desk::new(6).await;
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::TERM, "TERM"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let mut run = Running::start(desk.lease_run(&[], REPORT));
        assert_eq!(run.line(), "ready");
        run.signal(signal);
        let outcome = run.end();
        assert_eq!(
            (outcome.code, outcome.stdout),
            (9, format!("ready\ngot {name}\n"))
        );
        assert!(outcome.stderr.contains("is released"), "{}", outcome.stderr);
    }
    let used = desk.used().await;
    assert!(
        used.iter()
            .all(|(_, status)| *status == Status::PendingDeletion),
        "{used:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_only_with_its_command() {
    let desk = Desk::new(1).await;
    let script = format!("trap 'echo no' TERM; echo ready; {UNTIL_GO}; exit 3");
    let mut run = Running::start(desk.lease_run(&[], &script));
    assert_eq!(run.line(), "ready");
    for _ in 0..3 {
        run.signal(Signal::TERM);
        assert_eq!(run.line(), "no");
    }
    desk.go();
    assert_eq!(run.end().code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_command_ends_by_a_signal_to_the_run() {
    let desk = Desk::new(1).await;
    let mut run = Running::start(desk.lease_run(&[], "echo ready; kill -STOP $$; sleep 300"));
    assert_eq!(run.line(), "ready");
    run.signal(Signal::TERM);
    assert_eq!(run.end().code, 143);
    assert_eq!(desk.used().await[0].1, Status::PendingDeletion);
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_that_was_ignored_at_the_start_stays_ignored() {
    let desk = Desk::new(1).await;
    // SIGUSR1 arrives after SIGHUP, which has had no effect.
    let script = "trap 'exit 4' USR1; (kill -HUP $PPID; kill -USR1 $PPID); i=0; while [ $((i += 1)) -lt 9999 ]; do sleep 0.02; done";
    let run = with_ignored_signal("HUP", &desk.lease_run(&[], script));
    assert_eq!(Running::start(run).end().code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_is_known_although_sigchld_was_ignored_at_the_start() {
    let desk = Desk::new(1).await;
    let run = with_ignored_signal("CHLD", &desk.lease_run(&[], "exit 3"));
    assert_eq!(Running::start(run).end().code, 3);
}

/// Returns `run` as a command that starts with an ignored signal, as `nohup` would start it.
fn with_ignored_signal(signal: &str, run: &Command) -> Command {
    let mut command = Command::new("env");
    command
        .arg(format!("--ignore-signal={signal}"))
        .arg(BINARY)
        .args(run.get_args())
        .env_clear()
        .envs(
            run.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(run.get_current_dir().unwrap());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_before_the_command_ends_the_wait_for_a_sandbox() {
    let desk = Desk::new(0).await;
    let mut run = Running::start(desk.lease_run(&["--wait", "600"], "touch started"));
    run.remark("NO_SANDBOXES_AVAILABLE");
    run.signal(Signal::TERM);
    let outcome = run.end();
    assert_eq!(outcome.code, 143, "{outcome:?}");
    assert!(
        !outcome.stderr.contains("may have been allocated"),
        "{outcome:?}"
    );
    assert!(!desk.path("started").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_of_an_interrupted_allocation_is_released() {
    let desk = Desk::new(1).await;
    let gate = Arc::new(Notify::new());
    desk.front.script([Action::Hold(Arc::clone(&gate))]);
    let mut run = Running::start(desk.lease_run(&[], "touch started"));
    desk.front.wait_for(1, "/allocate").await;
    run.signal(Signal::INT);
    run.remark("is completed first");
    gate.notify_one();
    let outcome = run.end();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    assert!(!desk.path("started").exists());
    assert_eq!(desk.used().await[0].1, Status::PendingDeletion);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_an_allocation_at_once() {
    let desk = Desk::new(1).await;
    desk.front.script([Action::Hold(Arc::new(Notify::new()))]);
    let mut run = Running::start(desk.lease_run(&[], "touch started"));
    desk.front.wait_for(1, "/allocate").await;
    run.signal(Signal::TERM);
    run.remark("Interrupt again");
    run.signal(Signal::TERM);
    let outcome = run.end();
    assert_eq!(outcome.code, 143, "{outcome:?}");
    assert!(
        outcome.stderr.contains("may have been allocated"),
        "{outcome:?}"
    );
    assert!(!desk.path("started").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_the_terminal_reaches_the_command_once() {
    let desk = Desk::new(1).await;
    let script = "trap 'n=$((n+1)); echo got $n' INT; trap 'exit 5' QUIT; n=0; echo ready; i=0; while [ $((i += 1)) -lt 9999 ]; do sleep 0.02; done";
    let mut terminal = Terminal::run(desk.lease_run(&[], script), 24, 200);
    terminal.wait_for("ready");
    for n in 1..=3 {
        terminal.send(Terminal::INTERRUPT);
        terminal.wait_for(&format!("got {n}"));
    }
    terminal.send(Terminal::QUIT);
    let (status, screen) = terminal.wait();
    assert_eq!(status.code(), Some(5), "{screen}");
    assert!(
        screen.contains("is released") && !screen.contains("got 4"),
        "{screen}"
    );
    assert_eq!(desk.used().await[0].1, Status::PendingDeletion);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_stops_and_continues_with_its_command() {
    let desk = Desk::new(1).await;
    desk.front.shorten_leases(2);
    // An interactive shell, which has job control.
    let mut shell = Command::new("sh");
    shell
        .arg("-im")
        .env_clear()
        .env("PS1", "> ")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("BROKER_API_URL", &desk.front.url)
        .env("BROKER_API_TOKEN", TRACK)
        .env("BROKER_CALLER", "ada")
        .current_dir(desk.path(""));
    let mut terminal = Terminal::run(shell, 40, 200);
    terminal.wait_for("> ");
    let script = format!("echo rea''dy; {UNTIL_GO}; echo the e''nd");
    terminal.send(&format!(
        "{BINARY} lease run -- sh -c '{}'\r",
        script.replace('\'', "\"")
    ));
    terminal.wait_for("ready");
    terminal.send(Terminal::SUSPEND);
    terminal.wait_for("Stopped");
    let before = desk.front.requests().len();
    terminal.send("fg\r");
    desk.front.wait_for(before + 1, "").await;
    desk.go();
    terminal.wait_for("is released");
    assert!(terminal.screen().contains("the end"));
    terminal.send("exit\r");
    let (status, screen) = terminal.wait();
    assert!(status.success(), "{screen}");
}
