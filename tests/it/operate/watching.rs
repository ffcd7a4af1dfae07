//! `admin watch`.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, kill_process};
use serde_json::Value;

use super::Operator;
use crate::support::{BrokerProcess, Pool, Signal, Terminal};

const WATCH: [&str; 3] = ["watch", "--interval", "1"];
/// Leaves the alternate screen, with the cursor shown.
const RESTORED: &str = "\u{1b}[?25h\u{1b}[?1049l";
const LIMIT: Duration = Duration::from_mins(1);

/// Waits for the end of a program, and returns everything that it wrote.
fn output_of(terminal: &Terminal) -> String {
    let _ = terminal.wait_until(|_| false);
    terminal.output()
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_redraws_and_restores_the_terminal() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker).with("NO_COLOR", "1");
    let work = move || {
        let mut terminal = Terminal::run(operator.command(&WATCH), 12, 60);
        // The last line of a frame.
        let screen = terminal.wait_for("(the rest does not fit)");
        assert!(screen.contains("Ctrl-C ends"), "{screen}");
        assert!(
            screen.lines().all(|line| line.chars().count() <= 60),
            "{screen}"
        );
        let pause = operator
            .command(&["pause", "sync", "--reason", "repairs"])
            .output();
        assert!(pause.unwrap().status.success());
        terminal.wait_for("sync paused by env-admin");
        terminal.send(Terminal::INTERRUPT);
        let drawn = terminal.output();
        assert!(
            !drawn.contains("\u{1b}[2J"),
            "a cleared screen flickers: {drawn:?}"
        );
        let output = output_of(&terminal);
        assert!(output.ends_with(RESTORED), "{output:?}");
        assert!(terminal.wait().0.success());
        assert!(output.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{output:?}");
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[test]
fn watch_continues_while_the_broker_does_not_answer() {
    let data = tempfile::tempdir().unwrap();
    let variables = crate::support::laptop(data.path());
    let broker = BrokerProcess::serve(data.path(), &variables);
    let operator = Operator::at(&broker.client.base);
    let mut terminal = Terminal::run(operator.command(&WATCH), 40, 100);
    terminal.wait_for("available");
    broker.kill();
    let screen = terminal.wait_for("The broker has not answered since 20");
    assert!(screen.contains("STATUS"), "the last counts stay: {screen}");
    terminal.send(Terminal::INTERRUPT);
    assert!(output_of(&terminal).ends_with(RESTORED));
    assert!(terminal.wait().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_on_a_pipe_prints_a_line_for_each_change() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let work = move || {
        let mut child = operator
            .command(&WATCH)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let first = lines.recv_timeout(LIMIT).unwrap();
        assert!(first.contains("available 2, allocated 0"), "{first}");
        let pause = operator
            .command(&["pause", "sync", "--reason", "repairs"])
            .output();
        assert!(pause.unwrap().status.success());
        let second = lines.recv_timeout(LIMIT).unwrap();
        assert!(second.contains("paused: sync"), "{second}");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());

        let mut child = operator
            .command(&[&WATCH[..], &["--output", "json"]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            let line = output.next().unwrap().unwrap();
            let overview: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(overview["counts"]["total"], 2);
        }
        drop(output);
        // The closed pipe ends it.
        assert!(child.wait().unwrap().success());
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}
