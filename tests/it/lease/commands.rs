//! The commands for one sandbox: arguments, output, exit codes.

use serde_json::json;

use super::{
    desk::{Desk, ME, outcome},
    front::Action,
};
use crate::support::{BINARY, Terminal};

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_is_allocated_shown_extended_replaced_and_released() {
    let desk = Desk::new(3).await;
    let new = desk
        .run(&["allocate", "--lab", "cloud-101", "--duration", "90"])
        .await;
    assert_eq!(new.code, 0, "{new:?}");
    for part in ["NAME", "lab-adventure-", "ACCOUNT ID", "EXPIRES"] {
        assert!(new.stdout.contains(part), "{part}: {new:?}");
    }
    let again = desk.run(&["allocate"]).await;
    assert_eq!((again.code, &again.stdout), (0, &new.stdout));
    assert!(
        again.stderr.contains("since an earlier request"),
        "{again:?}"
    );
    let other = desk
        .run(&["allocate", "--key", "second", "--output", "json"])
        .await
        .json();
    let held = desk.run(&["list"]).await;
    assert_eq!(held.stdout.lines().count(), 3, "{held:?}");
    let held = desk.run(&["list", "--output", "json"]).await.json();
    assert_eq!(held["count"], 2);
    let first = held["sandboxes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|held| held["sandbox_id"] != other["sandbox_id"]);
    let id = first.unwrap()["sandbox_id"].as_str().unwrap();
    assert_eq!(first.unwrap()["track_name"], "cloud-101");
    let shown = desk.run(&["show", id]).await;
    assert!(
        shown.stdout.contains("allocated") && shown.stdout.contains("LATEST END"),
        "{shown:?}"
    );
    let extended = desk.run(&["extend", id, "--minutes", "120"]).await;
    assert!(extended.stdout.starts_with("expires 20"), "{extended:?}");
    assert!(!extended.stdout.contains("no longer lease"), "{extended:?}");
    let longest = desk.run(&["extend", id, "--minutes", "43200"]).await;
    assert!(
        longest.stdout.contains("the lab permits no longer lease"),
        "{longest:?}"
    );
    let refused = desk.run(&["extend", id, "--minutes", "43200"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("EXTENSION_LIMIT_REACHED"),
        "{refused:?}"
    );
    let current = desk
        .run(&["replace", id, "--reason", "broken", "--output", "json"])
        .await
        .json();
    let current = current["sandbox_id"].as_str().unwrap();
    let released = desk.run(&["release", id]).await;
    assert_eq!(
        released.stdout,
        format!("{id} was replaced by {current}\n{current} is released\n")
    );
    let released = desk.run(&["release", id, "--output", "json"]).await.json();
    assert_eq!(released["status"], "pending_deletion");
    let left = desk.broker.client.list(ME).await.json();
    assert_eq!(left["count"], 1, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_names_the_kind_of_failure() {
    let desk = Desk::new(1).await;
    for (arguments, code, part) in [
        ("show 2000000", 4, "SANDBOX_NOT_FOUND"),
        ("show ..", 2, "is not an id"),
        ("show .\t.", 2, "is not an id"),
        ("release lab-adventure-\n0000", 2, "is not an id"),
        ("show lab-adventure-0000", 3, "NOT_SANDBOX_OWNER"),
        ("release 2000000", 4, "SANDBOX_NOT_FOUND"),
        ("allocate --prefix none-", 75, "NO_SANDBOXES_AVAILABLE"),
        ("allocate --caller ${ID}", 1, "not expanded"),
        ("allocate --caller a\nb", 2, "control character"),
        ("allocate --duration soon", 2, "--duration"),
        ("list --context prod", 2, "config.toml"),
        ("list --url ftp://broker", 2, "like https://"),
        ("replace lab-adventure-0000", 2, "--reason"),
    ] {
        let words: Vec<_> = arguments.split(' ').collect();
        let failed = desk.run(&words).await;
        let (actual, stdout) = (failed.code, failed.stdout.as_str());
        assert_eq!((actual, stdout), (code, ""), "{arguments}: {failed:?}");
        assert!(failed.stderr.contains(part), "{arguments}: {failed:?}");
    }
    for (variable, part) in [
        ("BROKER_CALLER", "--caller"),
        ("BROKER_API_URL", "set BROKER_API_URL"),
    ] {
        let mut list = desk.lease(&["list"]);
        list.env_remove(variable);
        let failed = outcome(list).await;
        assert_eq!(failed.code, 2, "{failed:?}");
        assert!(failed.stderr.contains(part), "{failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn allocation_is_retried_for_the_time_of_the_wait_option() {
    let desk = Desk::new(0).await;
    let (mut answers, none) = (
        0,
        json!({"error": {"code": "LAB_QUOTA_REACHED", "message": "Full.", "request_id": "r"}}),
    );
    desk.front.rule(move |_| {
        answers += 1;
        if answers > 2 {
            return Action::Pass;
        }
        Action::Answer(409, vec![("retry-after", "1")], none.to_string())
    });
    desk.pool.add(["lab-adventure-0001"]).await;
    let allocated = desk.run(&["allocate", "--wait", "60"]).await;
    assert_eq!(allocated.code, 0, "{allocated:?}");
    assert_eq!(
        allocated
            .stderr
            .matches("Full. [LAB_QUOTA_REACHED, request r]; retrying")
            .count(),
        2,
        "{allocated:?}"
    );
    assert_eq!(desk.front.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_whose_output_cannot_be_written_fails() {
    let desk = Desk::new(1).await;
    for format in ["table", "json"] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut allocate = desk.lease(&["allocate", "--output", format]);
        allocate.stdout(full.unwrap());
        let failed = outcome(allocate).await;
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(
            failed.stderr.contains("cannot write the output"),
            "{failed:?}"
        );
    }
    // Nothing is lost: the same key has the same sandbox.
    let shown = desk.run(&["allocate"]).await;
    assert!(shown.stdout.contains("lab-adventure-0000"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn list_on_a_terminal_is_a_table() {
    let desk = Desk::new(1).await;
    let held = desk.broker.client.allocate(ME).await.sandbox_id();
    let (status, screen) = Terminal::run(desk.lease(&["list"]), 24, 120).wait();
    assert!(status.success(), "{screen}");
    let lines: Vec<_> = screen.lines().collect();
    assert!(lines[0].trim_start().starts_with("ID"), "{screen}");
    assert!(lines[1].contains(&held) && lines.len() == 2, "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dotenv_of_the_working_directory_is_not_read() {
    let desk = Desk::new(1).await;
    desk.write(
        ".env",
        "BROKER_API_URL=http://127.0.0.1:9\nBROKER_CALLER=somebody\n",
    );
    let mut listed = desk.lease(&["list"]);
    listed.env_remove("BROKER_CALLER");
    let listed = outcome(listed).await;
    assert!(listed.stderr.contains("no caller"), "{listed:?}");
    assert_eq!(desk.run(&["list"]).await.code, 0);
}

#[test]
fn no_option_takes_a_token() {
    for arguments in [
        &["lease", "--help"][..],
        &["lease", "allocate", "--help"],
        &["lease", "run", "--help"],
        &["admin", "--help"],
        &["admin", "stats", "--help"],
    ] {
        let help = std::process::Command::new(BINARY)
            .args(arguments)
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(
            help.contains("--context") && !help.contains("--token"),
            "{help}"
        );
    }
}
