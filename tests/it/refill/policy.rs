//! The policy: targets, maxima, and changes of it while creations are open.

use sandbox_broker::{csp::simulator::NewAccount, domain::CreationState};
use serde_json::{Value, json};

use super::{Refilled, counts, creation, document, items, pool_entry};

fn with_max(target: u32, max: u32) -> Value {
    let mut entry = pool_entry("lab", target);
    entry["max_total"] = max.into();
    json!({ "pool": [entry] })
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_gets_no_more_accounts_than_its_maximum() {
    let lab = Refilled::with(&with_max(3, 4), &[]).await;
    lab.refill().await;
    lab.sync().await;
    for n in 0..3 {
        lab.broker.client.allocate(&format!("play-{n}")).await;
    }
    let report = lab.refill().await;
    assert_eq!(report["created"], 1, "{report}");
    assert_eq!(
        report["pools"][0]["reason"],
        "the pool may have max_total sandboxes"
    );
    lab.sync().await;
    assert_eq!(lab.refill().await["created"], 0);
    assert_eq!(lab.accounts().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_without_a_target_creates_nothing() {
    let mut entry = pool_entry("lab", 0);
    for target in [json!(0), Value::Null] {
        match target {
            Value::Null => drop(entry.as_object_mut().unwrap().remove("target_available")),
            target => entry["target_available"] = target,
        }
        let lab = Refilled::with(&json!({ "pool": [entry.clone()] }), &[]).await;
        let report = lab.refill().await;
        assert_eq!(
            counts(&report["pools"][0], ["target", "wanted", "creations"]),
            [0; 3]
        );
        assert_eq!(lab.simulator.calls().create, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_creations_that_are_no_longer_wanted_end() {
    let lab = Refilled::with(&document(0), &[]).await;
    lab.write(&creation(1, CreationState::Intended)).await;
    lab.write(&creation(2, CreationState::Attempted)).await;
    lab.write(&creation(3, CreationState::Attempted)).await;
    let exists = NewAccount::named("lab-r000003");
    lab.simulator.create_account(exists).unwrap();
    let report = lab.refill().await;
    assert_eq!(
        counts(&report, ["created", "adopted", "dropped"]),
        [0, 1, 2]
    );
    let open = lab.open().await;
    assert_eq!(
        open.into_iter().collect::<Vec<_>>(),
        [("lab-r000003".to_owned(), CreationState::Created)]
    );
    assert_eq!(lab.accounts(), ["lab-r000003"], "refill never deletes");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_version_of_the_policy_is_in_force_for_open_creations() {
    let lab = Refilled::new(2).await;
    lab.write(&creation(1, CreationState::Intended)).await;
    let mut changed = document(1);
    changed["pool"][0]["create"]["tags"]["instruqt"] = "changed".into();
    lab.broker.client.set_policy(1, &changed).await;
    assert_eq!(lab.refill().await["created"], 1);
    let created = lab.simulator.created_accounts();
    assert_eq!(created[0].request.tags["instruqt"], "changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_of_a_removed_pool_wait_until_it_is_in_the_policy_again() {
    let lab = Refilled::new(3).await;
    lab.write(&creation(1, CreationState::Attempted)).await;
    lab.write(&creation(2, CreationState::Intended)).await;
    let exists = NewAccount::named("lab-r000001");
    lab.simulator.create_account(exists).unwrap();
    let other = json!({ "pool": [pool_entry("other", 1)] });
    lab.broker.client.set_policy(1, &other).await;
    assert_eq!(lab.refill().await["created"], 1);
    // Its accounts join the pool all the same.
    lab.sync().await;
    assert_eq!(lab.pool.sandboxes().await.len(), 2);
    assert_eq!(items(&lab.pool, "lab").await.creations.len(), 2);
    lab.broker.client.set_policy(2, &document(3)).await;
    let report = lab.refill().await;
    assert_eq!(report["created"], 2, "{report}");
    let names = ["lab-r000001", "lab-r000002", "lab-r000003", "other-r000001"];
    assert_eq!(lab.accounts(), names);
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_in_force_replaces_the_target() {
    let mut entry = pool_entry("lab", 1);
    let from = jiff::Timestamp::from_second(crate::support::START.0 - 60).unwrap();
    let to = jiff::Timestamp::from_second(crate::support::START.0 + 600).unwrap();
    entry["schedule"] = json!([{
        "from": from.to_string(), "to": to.to_string(), "target_available": 4,
    }]);
    let lab = Refilled::with(&json!({ "pool": [entry] }), &[]).await;
    let report = lab.refill().await;
    assert_eq!(counts(&report["pools"][0], ["target", "goal"]), [4, 4]);
    assert_eq!(report["created"], 4);
}
