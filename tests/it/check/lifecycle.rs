//! The life of a sandbox whose account is checked.

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::csp::simulator::{Call, FaultKind};
use serde_json::{Value, json};

use super::{Checked, MINUTE, RESULTS, counts};
use crate::support::{BrokerProcess, START, audit, laptop};

#[tokio::test(flavor = "multi_thread")]
async fn new_sandbox_is_allocated_only_after_its_account_was_found_usable() {
    let checked = Checked::new("new", 3, &[]).await;
    let client = &checked.broker.client;
    assert_eq!(checked.sync().await["inserted"], 3);
    let stats = client.stats().await;
    assert_eq!(
        (&stats["provisioning"], &stats["available"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(
        client.allocate("early").await.code(),
        "NO_SANDBOXES_AVAILABLE"
    );
    let calls = checked.simulator.calls();
    assert_eq!((calls.sign_ins, calls.switches), (0, 0));

    checked.broker.clock.advance(MINUTE);
    let report = checked.check().await;
    assert_eq!(counts(&report, RESULTS), [3, 0, 0, 0, 0], "{report}");
    let calls = checked.simulator.calls();
    assert_eq!((calls.sign_ins, calls.switches, calls.groups), (1, 3, 3));
    // The same broker knows them at once.
    let id = client.allocate("play-1").await.sandbox_id();
    let sandbox = checked.sandbox(&id).await;
    assert_eq!(sandbox["usable_at"], json!(START.0 + 60));
    assert_eq!(sandbox["checked_at"], json!(START.0 + 60));
    let path = format!("/v1/admin/sandboxes/{id}");
    let shown = client.admin(Method::GET, &path).await.json();
    let events = shown["events"].as_array().unwrap().iter();
    let names: Vec<_> = events.map(|event| &event["action"]).collect();
    assert_eq!(names, ["allocated", "usable", "inserted"], "{shown}");

    let report = checked.check().await;
    assert_eq!(report["due"], 0, "{report}");
    let later = checked.simulator.calls();
    assert_eq!(
        (later.sign_ins, later.switches),
        (1, 3),
        "no call for nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn laptop_checks_its_simulated_accounts_without_further_settings() {
    let data = tempfile::tempdir().unwrap();
    let mut variables = laptop(data.path());
    let more = [("CHECK_MODE", "new"), ("SIMULATOR_ACCOUNTS", "3")];
    variables.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let broker = BrokerProcess::serve(data.path(), &variables);
    while broker.client.allocate("play-1").await.status != 201 {
        // Stays below the rate limit.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn account_that_never_becomes_usable_is_set_aside_with_a_reason_and_returns() {
    let checked = Checked::new("new", 2, &[("PROVISION_TIMEOUT_MINUTES", "5")]).await;
    let bad = checked.ids()[0];
    checked.inject(Call::Groups, FaultKind::Empty, &[bad]);
    checked.sync().await;
    let report = checked.check().await;
    assert_eq!(counts(&report, RESULTS), [1, 1, 0, 0, 0], "{report}");
    for _ in 0..4 {
        checked.broker.clock.advance(MINUTE);
        let report = checked.check().await;
        assert_eq!(counts(&report, RESULTS), [0, 1, 0, 0, 0], "{report}");
    }
    let id = bad.to_string();
    let waiting = checked.sandbox(&id).await;
    assert_eq!(
        (&waiting["status"], &waiting["unusable_seconds"]),
        (&json!("provisioning"), &json!(240))
    );
    checked.broker.clock.advance(MINUTE);
    let report = checked.check().await;
    assert_eq!(counts(&report, RESULTS), [0, 0, 0, 1, 0], "{report}");
    let aside = checked.sandbox(&id).await;
    for (name, value) in [
        ("status", json!("quarantined")),
        ("quarantined_by", json!("check")),
        ("quarantined_from", json!("provisioning")),
        ("quarantined_until", Value::Null),
        (
            "quarantine_reason",
            json!(
                "checks have found the account not usable for 5 minutes, until 2036-11-19T11:11:40Z: the account has no \
                 groups yet"
            ),
        ),
        ("check_error", json!("the account has no groups yet")),
    ] {
        assert_eq!(aside[name], value, "{name}");
    }
    let records = audit::done_to(&checked.pool, &id).await;
    assert_eq!(records.len(), 1);
    for (name, value) in [
        ("actor", json!("check")),
        ("action", json!("sandbox.quarantine")),
        ("reason", aside["quarantine_reason"].clone()),
        ("before", json!({ "status": "provisioning" })),
    ] {
        assert_eq!(records[0][name], value, "{name}");
    }
    assert_eq!(checked.check().await["due"], 0);

    checked.mend();
    let because = json!({ "reason": "its groups were created" });
    let restored = checked.broker.client.act(&id, "restore", &because).await;
    assert_eq!(restored.status, 200, "{restored:?}");
    let restored = checked.sandbox(&id).await;
    for (name, value) in [
        ("status", json!("provisioning")),
        ("unusable_seconds", json!(0)),
        ("check_failures", json!(0)),
        ("check_error", Value::Null),
        ("checked_at", Value::Null),
    ] {
        assert_eq!(restored[name], value, "{name}");
    }
    let report = checked.check().await;
    assert_eq!(counts(&report, RESULTS), [1, 0, 0, 0, 0], "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_sandbox_follows_the_list_of_accounts() {
    let checked = Checked::new("new", 6, &[]).await;
    let ids = checked.ids();
    checked.sync().await;
    let (gone, renamed) = (ids[0], ids[1]);
    checked.simulator.hide(gone, true);
    assert!(checked.simulator.rename(renamed, "renamed"));
    let report = checked.sync().await;
    assert_eq!(
        counts(&report, ["marked_stale", "updated"]),
        [1, 1],
        "{report}"
    );
    assert_eq!(
        checked.sandbox(&renamed.to_string()).await["name"],
        "renamed"
    );
    assert_eq!(checked.sandbox(&gone.to_string()).await["status"], "stale");
    checked.simulator.hide(gone, false);
    assert_eq!(checked.sync().await["restored"], 1);
    assert_eq!(
        checked.sandbox(&gone.to_string()).await["status"],
        "provisioning",
        "it was never found usable"
    );
    assert_eq!(checked.check().await["usable"], 6);
    checked.simulator.hide(gone, true);
    checked.sync().await;
    checked.simulator.hide(gone, false);
    checked.sync().await;
    assert_eq!(
        checked.sandbox(&gone.to_string()).await["status"],
        "available",
        "it was found usable before"
    );
    // More than half of the new ones.
    let more = checked.simulator.add_accounts(6);
    more.unwrap();
    checked.sync().await;
    for id in checked.ids().split_off(6) {
        checked.simulator.hide(id, true);
    }
    assert_eq!(checked.sync().await["marked_stale"], 6, "six of twelve");
    for id in &checked.ids()[..4] {
        checked.simulator.hide(*id, true);
    }
    let report = checked.sync().await;
    assert!(
        report["stale_guard"].as_str().unwrap().contains("4 of 6"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_sandbox_returns_to_provisioning_only_while_it_is_listed() {
    let checked = Checked::new("new", 8, &[]).await;
    let id = checked.ids()[0];
    checked.sync().await;
    let because = json!({ "reason": "looks odd" });
    let client = &checked.broker.client;
    let aside = client.act(&id.to_string(), "quarantine", &because).await;
    assert_eq!(aside.status, 200, "{aside:?}");
    assert_eq!(checked.check().await["usable"], 7);
    let from = async || checked.sandbox(&id.to_string()).await["quarantined_from"].clone();
    assert_eq!(from().await, "provisioning");
    checked.simulator.hide(id, true);
    checked.sync().await;
    assert_eq!(from().await, "stale");
    checked.simulator.hide(id, false);
    checked.sync().await;
    assert_eq!(from().await, "provisioning");
    let until = START + MINUTE;
    let attributes = [(
        "quarantined_until",
        Some(aws_sdk_dynamodb::types::AttributeValue::N(
            until.0.to_string(),
        )),
    )];
    checked
        .pool
        .rewrite_sandbox(&id.to_string(), &attributes)
        .await;
    checked.broker.clock.advance(MINUTE);
    let report = client.job("auto-expire").await;
    assert_eq!(report["quarantines_ended"], 1, "{report}");
    assert_eq!(checked.count("provisioning").await, 1);
    assert_eq!(
        checked.check().await["usable"],
        1,
        "its quarantine has ended"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_deletes_a_provisioning_sandbox() {
    let checked = Checked::new("new", 2, &[]).await;
    checked.sync().await;
    let id = checked.ids()[0].to_string();
    let because = json!({ "reason": "created by mistake" });
    let client = &checked.broker.client;
    assert_eq!(client.act(&id, "delete", &because).await.status, 200);
    assert_eq!(client.job("cleanup").await["deleted"], 1);
    assert_eq!(checked.simulator.accounts().len(), 1);
    assert_eq!(checked.check().await["usable"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_are_turned_off_leave_nothing_in_provisioning() {
    let checked = Checked::new("new", 4, &[]).await;
    checked.sync().await;
    let bad = checked.ids()[0];
    checked.inject(Call::Groups, FaultKind::Empty, &[bad]);
    assert_eq!(checked.check().await["not_yet"], 1);
    let calls = checked.simulator.calls();
    let off = checked.another("off", &[]).await;
    let refused = off.client.admin(Method::POST, "/v1/admin/check").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (409, "JOB_OFF")
    );
    let report = off.client.job("sync").await;
    assert_eq!(
        counts(&report, ["provided", "marked_stale"]),
        [1, 0],
        "{report}"
    );
    let sandbox = checked.sandbox(&bad.to_string()).await;
    assert_eq!(
        (&sandbox["status"], &sandbox["check_error"]),
        (&json!("available"), &Value::Null)
    );
    for n in 0..4 {
        off.client.allocate(&format!("play-{n}")).await.sandbox_id();
    }
    let later = checked.simulator.calls();
    assert_eq!(
        (later.sign_ins, later.switches, later.groups),
        (calls.sign_ins, calls.switches, calls.groups)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn way_back_to_the_fastapi_service_leaves_no_status_that_it_does_not_know() {
    let checked = Checked::new("new", 3, &[]).await;
    checked.sync().await;
    let ids = checked.ids();
    let because = json!({ "reason": "looks odd" });
    let client = &checked.broker.client;
    client
        .act(&ids[0].to_string(), "quarantine", &because)
        .await;
    let store = &checked.pool.store;
    let converted = store.convert_for_fastapi(&*checked.broker.clock);
    let converted = converted.await.unwrap();
    assert_eq!((converted.converted, converted.made_stale), (1, 2));
    assert_eq!(checked.count("stale").await, 2);
    assert_eq!(checked.count("deletion_failed").await, 1);
    let records = audit::done_to(&checked.pool, &ids[1].to_string()).await;
    assert_eq!(records[0]["after"], json!({ "status": "stale" }));
    // The return to this broker checks them.
    assert_eq!(checked.sync().await["restored"], 2);
    assert_eq!(checked.check().await["usable"], 2);
}
