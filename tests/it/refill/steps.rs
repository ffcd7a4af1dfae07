//! The steps of a creation, from the deficit to the available sandbox.

use std::time::Duration;

use sandbox_broker::{
    csp::simulator::{NewAccount, Settings},
    domain::CreationState,
};
use serde_json::json;

use super::{Refilled, counts, creation, items, pool_entry};
use crate::support::START;

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn pool_below_its_target_gets_accounts_that_a_sync_adds_to_it() {
    let lab = Refilled::new(3).await;
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "adopted", "failed"]), [3, 0, 0]);
    assert_eq!(report["pools"][0]["wanted"], 3);
    assert_eq!(report["pools"][0]["creations"], 3);
    let names = ["lab-r000001", "lab-r000002", "lab-r000003"];
    assert_eq!(lab.accounts(), names);
    for account in lab.simulator.created_accounts() {
        let request = account.request;
        assert_eq!(request.description, "Hands-on labs");
        assert_eq!(request.tags["instruqt"], "labs");
        assert_eq!(request.admin_user.email, "labs@example.com");
        assert_eq!(request.state, "active");
    }
    assert!(
        lab.open()
            .await
            .values()
            .all(|it| *it == CreationState::Created)
    );

    lab.sync().await;
    assert!(
        lab.open()
            .await
            .values()
            .all(|it| *it == CreationState::Listed)
    );
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "adopted", "dropped"]), [0; 3]);
    assert_eq!(report["pools"][0]["available"], 3);
    assert_eq!(lab.closed().await.len(), 3);
    assert!(
        lab.closed()
            .await
            .values()
            .all(|outcome| outcome == "available")
    );
    let items = lab.items().await;
    assert_eq!((items.creations.len(), items.state.times.len()), (0, 3));
    assert_eq!(items.state.last_number, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_that_csp_lists_late_is_under_way_and_not_created_again() {
    let lab = Refilled::new(3).await;
    lab.simulator.configure(Settings {
        listing_delay: HOUR,
        ..Settings::default()
    });
    lab.refill().await;
    for _ in 0..3 {
        lab.sync().await;
        let report = lab.refill().await;
        assert_eq!(report["pools"][0]["under_way"], 3, "{report}");
        assert_eq!(
            report["pools"][0]["reason"],
            "enough accounts are under way"
        );
    }
    assert_eq!(lab.accounts().len(), 3);
    lab.simulator.advance(HOUR).unwrap();
    lab.sync().await;
    let report = lab.refill().await;
    assert_eq!(report["pools"][0]["under_way"], 0);
    assert_eq!(lab.accounts().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn allocated_sandboxes_are_replaced_by_new_accounts() {
    let lab = Refilled::new(2).await;
    lab.refill().await;
    lab.sync().await;
    for n in 0..2 {
        let answer = lab.broker.client.allocate(&format!("play-{n}")).await;
        assert_eq!(answer.status, 201);
    }
    let report = lab.refill().await;
    assert_eq!(report["created"], 2, "{report}");
    lab.sync().await;
    assert_eq!(lab.broker.client.allocate("play-3").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_take_turns_within_the_batch() {
    let document = json!({ "pool": [pool_entry("big-", 20), pool_entry("small_", 2)] });
    let lab = Refilled::with(&document, &[("REFILL_BATCH", "4")]).await;
    let report = lab.refill().await;
    assert_eq!(report["created"], 4);
    let of = |prefix: &str| {
        let accounts = lab.accounts().into_iter();
        accounts.filter(|name| name.starts_with(prefix)).count()
    };
    // One sandbox is half of the small target, and a twentieth of the big one.
    assert_eq!((of("big-r"), of("small_r")), (3, 1));
    let reason = &report["pools"][0]["reason"];
    assert_eq!(reason, "a run creates REFILL_BATCH accounts at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn account_with_the_next_name_is_adopted() {
    let lab = Refilled::new(2).await;
    let theirs = NewAccount::named("lab-r000001");
    let theirs = lab.simulator.create_account(theirs).unwrap();
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "adopted"]), [1, 1]);
    assert_eq!(lab.accounts(), ["lab-r000001", "lab-r000002"]);
    let first = lab.items().await.creations[0].clone();
    assert_eq!(first.external_id, Some(theirs.id));
    lab.sync().await;
    assert_eq!(lab.refill().await["pools"][0]["available"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn counter_of_a_restored_table_passes_the_names_of_sandboxes() {
    let lab = Refilled::new(3).await;
    lab.pool
        .add(["lab-r000041", "lab-0099", "other-r000077"])
        .await;
    lab.rewrite_state(&[("last_number", Some(super::number(7)))])
        .await;
    lab.refill().await;
    let accounts = lab.accounts();
    assert_eq!(accounts, ["lab-r000042"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_of_one_name_both_count() {
    let lab = Refilled::new(3).await;
    lab.write(&creation(1, CreationState::Attempted)).await;
    for _ in 0..2 {
        let account = NewAccount::named("lab-r000001");
        lab.simulator.create_account(account).unwrap();
    }
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["adopted", "created"]), [1, 2]);
    lab.sync().await;
    let report = lab.refill().await;
    assert_eq!(report["pools"][0]["available"], 4, "{report}");
    assert_eq!(report["created"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_that_no_sync_lists_is_looked_up_after_an_hour() {
    let lab = Refilled::new(1).await;
    lab.refill().await;
    let account = lab.simulator.accounts()[0].clone();
    lab.simulator.configure(Settings {
        listing_delay: HOUR * 100,
        ..Settings::default()
    });
    let find = || lab.simulator.calls().find;
    let before = find();
    lab.refill().await;
    assert_eq!(find(), before, "not before an hour has passed");
    lab.broker.clock.advance(HOUR);
    let report = lab.refill().await;
    assert_eq!((find(), &report["dropped"]), (before + 1, &0.into()));
    lab.refill().await;
    assert_eq!(find(), before + 1, "once an hour");
    lab.simulator.remove_account(account.csp_id).unwrap();
    lab.broker.clock.advance(HOUR);
    let report = lab.refill().await;
    assert_eq!(report["dropped"], 1, "{report}");
    lab.refill().await;
    assert_eq!(lab.accounts(), ["lab-r000002"]);
    assert_eq!(lab.closed().await["lab-r000001"], "dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn account_of_a_sandbox_that_is_gone_needs_no_look_up() {
    let lab = Refilled::new(1).await;
    lab.refill().await;
    lab.sync().await;
    let account = lab.simulator.accounts()[0].clone();
    lab.simulator.remove_account(account.csp_id).unwrap();
    let key = crate::support::key(&format!("SBX#{}", account.csp_id), "META");
    let delete = lab.pool.client.delete_item().table_name(&lab.pool.table);
    delete.set_key(Some(key)).send().await.unwrap();
    assert_eq!(lab.refill().await["created"], 1);
    assert_eq!(lab.closed().await["lab-r000001"], "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_with_closed_creations_reads_only_open_ones() {
    let lab = Refilled::new(1).await;
    for number in 0..200 {
        let key = crate::support::key("REFILL#lab", &format!("CLOSED#{number:010}"));
        lab.pool.rewrite(&lab.pool.companion, key, &[]).await;
    }
    let items = items(&lab.pool, "lab").await;
    assert_eq!(items.creations, []);
    assert_eq!(items.unreadable, [""; 0]);
    assert_eq!(lab.refill().await["created"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_records_since_when_a_pool_is_below_its_target() {
    let lab = Refilled::new(2).await;
    for minutes in [0, 30] {
        lab.broker.clock.advance(Duration::from_mins(minutes));
        lab.refill().await;
        assert_eq!(lab.items().await.state.below_since, Some(START));
    }
    lab.sync().await;
    lab.refill().await;
    assert_eq!(lab.items().await.state.below_since, None);
}
