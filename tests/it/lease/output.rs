//! What the commands print.

use crate::support::{Pool, TRACK, Terminal, command};

#[tokio::test(flavor = "multi_thread")]
async fn list_on_a_terminal_is_a_table() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let held = broker.client.allocate("play-1").await.sandbox_id();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("{}/v1", broker.client.base);
    let variables = [
        ("BROKER_API_URL", url.as_str()),
        ("BROKER_API_TOKEN", TRACK),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut list = command(directory.path(), &variables.into());
    list.args(["lease", "list", "--caller", "play-1"]);
    let (status, screen) = Terminal::run(list, 24, 80).wait();
    assert!(status.success(), "{screen}");
    let titles = screen.lines().next().unwrap();
    assert!(titles.trim_start().starts_with("ID"), "{screen}");
    assert!(screen.contains(&held), "{screen}");
}
