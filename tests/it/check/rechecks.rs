//! Checks of available sandboxes.

use std::time::Duration;

use sandbox_broker::csp::simulator::{Call, FaultKind};
use serde_json::json;

use super::{Checked, MINUTE, RESULTS, counts};

const DAY: Duration = Duration::from_hours(24);

/// A pool of available sandboxes that were checked once.
async fn available(accounts: u64, more: &[(&str, &str)]) -> Checked {
    let settings = [("CHECK_MAX_FAILURES", "3")];
    let checked = Checked::new("all", accounts, &[&settings, more].concat()).await;
    checked.sync().await;
    assert_eq!(checked.check().await["usable"], accounts);
    checked
}

#[tokio::test(flavor = "multi_thread")]
async fn available_sandbox_is_checked_again_after_its_time() {
    let checked = available(3, &[]).await;
    assert_eq!(checked.check().await["due"], 0);
    checked.broker.clock.advance(DAY);
    let report = checked.check().await;
    assert_eq!(counts(&report, RESULTS), [3, 0, 0, 0, 0], "{report}");
    let new_only = checked.another("new", &[]).await;
    checked.broker.clock.advance(DAY);
    assert_eq!(new_only.client.job("check").await["due"], 0);
    // Sandboxes that were available before checks began have no time of a check.
    let attributes = [("usable_at", None), ("checked_at", None)];
    let id = checked.ids()[0].to_string();
    checked.pool.rewrite_sandbox(&id, &attributes).await;
    assert_eq!(checked.check().await["usable"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_available_sandbox_can_be_allocated_until_it_is_set_aside() {
    let checked = available(6, &[]).await;
    let broken = checked.ids()[0].to_string();
    checked.inject(Call::Groups, FaultKind::Empty, &checked.ids()[..1]);
    checked.broker.clock.advance(DAY);
    let report = checked.check().await;
    assert_eq!(counts(&report, RESULTS), [5, 0, 1, 0, 0], "{report}");
    assert_eq!(checked.sandbox(&broken).await["status"], "available");
    checked.broker.clock.advance(MINUTE);
    assert_eq!(checked.check().await["failed"], 1);
    checked.broker.clock.advance(MINUTE);
    let report = checked.check().await;
    assert_eq!(
        counts(&report, RESULTS),
        [1, 0, 0, 1, 0],
        "a sound one is checked as well: {report}"
    );
    let aside = checked.sandbox(&broken).await;
    assert_eq!(aside["status"], "quarantined");
    assert_eq!(aside["quarantined_from"], "available");
    for n in 0..5 {
        let allocated = checked.broker.client.allocate(&format!("play-{n}")).await;
        assert_ne!(allocated.sandbox_id(), broken);
    }
    let none = checked.broker.client.allocate("play-5").await;
    assert_eq!(none.code(), "NO_SANDBOXES_AVAILABLE");
    checked.mend();
    let because = json!({ "reason": "its groups are there again" });
    let client = &checked.broker.client;
    assert_eq!(client.act(&broken, "restore", &because).await.status, 200);
    assert_eq!(checked.sandbox(&broken).await["status"], "available");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_available_sandbox_is_set_aside_if_csp_finds_none_usable() {
    let checked = available(6, &[]).await;
    checked.inject(Call::Groups, FaultKind::Empty, &[]);
    checked.broker.clock.advance(DAY);
    for _ in 0..6 {
        let report = checked.check().await;
        assert_eq!(report["quarantined"], 0, "{report}");
        checked.broker.clock.advance(MINUTE * 10);
    }
    let report = checked.check().await;
    assert!(report["recheck_guard"].is_string(), "{report}");
    assert_eq!(checked.count("available").await, 6);
    checked.mend();
    checked.broker.clock.advance(MINUTE * 10);
    assert_eq!(checked.check().await["usable"], 6);
    assert!(
        checked
            .pool
            .sandboxes()
            .await
            .iter()
            .all(|one| one.readiness.failures == 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_sets_aside_no_more_than_a_fraction_of_the_available_sandboxes() {
    let checked = available(8, &[("MAX_STALE_FRACTION", "0.25")]).await;
    checked.inject(Call::Groups, FaultKind::Empty, &checked.ids()[..4]);
    checked.broker.clock.advance(DAY);
    // Two of eight, and later one of six.
    for (set_aside, is_guarded) in [(0, false), (0, false), (2, true), (1, true)] {
        let report = checked.check().await;
        assert_eq!(
            (
                report["quarantined"].as_u64(),
                &report["recheck_guard"].is_string()
            ),
            (Some(set_aside), &is_guarded),
            "{report}"
        );
        checked.broker.clock.advance(MINUTE * 10);
    }
}
