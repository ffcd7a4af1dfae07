//! The screen of an operator on a terminal: tables, colours, questions, progress.

use sandbox_broker::csp::simulator::{Fault, FaultKind};
use serde_json::json;

use super::Operator;
use crate::support::{Pool, Terminal, TestBroker, simulated_csp};

impl Operator {
    /// Starts a command on a terminal of 24 rows.
    fn on_terminal(&self, arguments: &[&str], columns: u16) -> Terminal {
        Terminal::run(self.command(arguments), 24, columns)
    }
}

/// Runs blocking work on another thread, because the broker answers from the runtime of the test.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Returns a pool and its broker, with an allocation whose row is longer than a terminal is wide.
async fn with_a_long_row() -> (Pool, TestBroker) {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let lab = "a-lab-with-a-name-that-is-longer-than-the-terminal-is-wide";
    broker.client.allocate_in(lab, "play-1").await.sandbox_id();
    (pool, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn table_fits_the_terminal_and_is_whole_in_a_pipe() {
    let (_pool, broker) = with_a_long_row().await;
    let operator = Operator::of(&broker);
    let terminal = operator.on_terminal(&["sandboxes"], 70);
    let (status, screen) = on_a_thread(|| terminal.wait()).await;
    assert!(status.success(), "{screen}");
    let lines: Vec<_> = screen.lines().collect();
    assert_eq!(lines.len(), 2, "{screen}");
    assert!(lines[1].starts_with("lab-adventure-0000  "), "{screen}");
    assert!(lines[1].contains('…'), "{screen}");
    let piped = operator.run(&["sandboxes"]).await.text();
    assert!(
        piped.contains("than-the-terminal-is-wide  play-1"),
        "{piped}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_coloured_on_a_terminal_unless_the_user_wants_none() {
    let (_pool, broker) = with_a_long_row().await;
    for (name, is_coloured) in [("UNRELATED", true), ("NO_COLOR", false)] {
        let operator = Operator::of(&broker).with(name, "1");
        let terminal = operator.on_terminal(&["sandboxes"], 100);
        let output = on_a_thread(move || {
            // Waits for the end of the program.
            let _ = terminal.wait_until(|_| false);
            terminal.output()
        });
        let output = output.await;
        assert_eq!(
            output.contains("\u{1b}[36mallocated\u{1b}[0m"),
            is_coloured,
            "{output:?}"
        );
        assert_eq!(output.contains('\u{1b}'), is_coloured, "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn question_describes_the_sandbox_and_only_yes_confirms_it() {
    let (_pool, broker) = with_a_long_row().await;
    let operator = Operator::of(&broker);
    let release = ["release", "lab-adventure-0000", "--reason", "left"];
    for (answer, code, status) in [
        ("\r", 1, "allocated"),
        ("n\r", 1, "allocated"),
        ("\u{4}", 1, "allocated"),
        ("Y\r", 0, "pending_deletion"),
    ] {
        let mut terminal = operator.on_terminal(&release, 250);
        let (ended, screen) = on_a_thread(move || {
            let screen = terminal.wait_for("[y/N]");
            assert!(
                screen.contains("is allocated to play-1 of the lab a-lab"),
                "{screen}"
            );
            terminal.send(answer);
            terminal.wait()
        })
        .await;
        assert_eq!(ended.code(), Some(code), "{answer:?}: {screen}");
        assert_eq!(
            screen.contains("nothing was changed"),
            code == 1,
            "{screen}"
        );
        assert_eq!(
            broker.client.stats().await[status],
            1,
            "{answer:?}: {screen}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_that_another_operator_changes_meanwhile_is_not_overwritten() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let file = operator.directory.path().join("policy.toml");
    std::fs::write(&file, "[defaults]\nduration_minutes = 60\n").unwrap();
    let apply = ["policy", "apply", file.to_str().unwrap()];
    let terminal = operator.on_terminal(&apply, 120);
    let (mut terminal, screen) = on_a_thread(move || {
        let screen = terminal.wait_for("[y/N]");
        (terminal, screen)
    })
    .await;
    assert!(screen.contains("+ defaults"), "{screen}");
    let other = json!({ "defaults": { "duration_minutes": 90 } });
    broker.client.set_policy(0, &other).await;
    let (status, screen) = on_a_thread(move || {
        terminal.send("y\r");
        terminal.wait()
    })
    .await;
    assert_eq!(status.code(), Some(1), "{screen}");
    assert!(screen.contains("in the meantime"), "{screen}");
    let policy = operator.run(&["policy", "get"]).await.text();
    assert!(policy.contains("90"), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_deletion_asks_with_the_number_of_sandboxes() {
    let pool = Pool::of(2).await;
    let broker = pool.broker().await;
    let operator = Operator::of(&broker);
    let bulk = ["run", "bulk-delete", "--status", "stale"];
    let mut terminal = operator.on_terminal(&bulk, 120);
    let (status, screen) = on_a_thread(move || {
        terminal.wait_for("Remove 0 sandboxes with the status stale from the table? [y/N]");
        terminal.send("y\r");
        terminal.wait()
    })
    .await;
    assert!(status.success(), "{screen}");
    assert!(screen.contains("succeeded"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_shown_until_the_end_and_an_interrupt_leaves_the_run_running() {
    let pool = Pool::of(1).await;
    let (simulator, base_url) = simulated_csp(3).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    let operator = Operator::of(&broker);
    let slow = FaultKind::Slow { delay_ms: 2000 };
    simulator.inject([Fault::always(slow)]);
    let mut terminal = operator.on_terminal(&["run", "sync"], 120);
    let (status, screen) = on_a_thread(move || {
        // The spinner moves, so something is drawn again and again below the line with the id.
        terminal
            .wait_until(|screen| screen.lines().count() > 1)
            .unwrap();
        terminal.send(Terminal::INTERRUPT);
        terminal.wait()
    })
    .await;
    assert_eq!(status.code(), Some(130), "{screen}");
    assert!(screen.contains("the run goes on"), "{screen}");
    let (_, rest) = screen.split_once("admin jobs ").unwrap();
    let id = rest.split_whitespace().next().unwrap().to_owned();
    let terminal = operator.on_terminal(&["jobs", &id, "--follow"], 120);
    let (status, screen) = on_a_thread(|| terminal.wait()).await;
    assert!(status.success(), "{screen}");
    assert!(
        screen.contains("succeeded") && screen.contains("3 inserted"),
        "{screen}"
    );
    assert!(screen.starts_with("RUN "), "the bar is removed: {screen}");
}
