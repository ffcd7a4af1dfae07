//! Runs that end at any point, overlap, or whose clock jumps.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use sandbox_broker::{
    csp::simulator::{Call, Fault, FaultKind, NewAccount},
    domain::{CreationState, JobName, RunId},
    store::Acquired,
};

use super::{Refilled, broker, counts, creation, document};
use crate::support::{BINARY, Proxy, START, command, proxy};

/// Every state that a run can leave when it ends at any point, with the accounts that exist then.
#[tokio::test(flavor = "multi_thread")]
async fn run_goes_on_from_every_point_at_which_another_has_ended() {
    use CreationState::{Attempted, Created, Intended};
    for (state, exists) in [
        (Intended, false),
        (Attempted, false),
        (Attempted, true),
        (Created, true),
    ] {
        let lab = Refilled::new(1).await;
        let mut creation = creation(1, state);
        if exists {
            let account = NewAccount::named(&creation.name);
            let account = lab.simulator.create_account(account).unwrap();
            let is_noted = state == Created;
            creation.external_id = is_noted.then_some(account.id);
            creation.created_at = is_noted.then_some(START);
        }
        lab.write(&creation).await;
        for _ in 0..2 {
            lab.refill().await;
            assert_eq!(lab.accounts(), ["lab-r000001"], "{state:?} {exists}");
        }
        lab.sync().await;
        lab.refill().await;
        assert_eq!(
            lab.closed().await["lab-r000001"],
            "available",
            "{state:?} {exists}"
        );
        assert_eq!(lab.accounts().len(), 1);
    }
}

/// A sync may add the account before refill has noted it.
#[tokio::test(flavor = "multi_thread")]
async fn sync_that_is_faster_than_the_answer_closes_the_creation() {
    for state in [CreationState::Intended, CreationState::Attempted] {
        let lab = Refilled::new(1).await;
        lab.write(&creation(1, state)).await;
        let account = NewAccount::named("lab-r000001");
        let account = lab.simulator.create_account(account).unwrap();
        lab.sync().await;
        let listed = lab.items().await.creations[0].clone();
        assert_eq!(
            (listed.state, listed.external_id),
            (CreationState::Listed, Some(account.id))
        );
        let report = lab.refill().await;
        assert_eq!(counts(&report, ["created", "adopted"]), [0, 0]);
        assert_eq!(lab.closed().await["lab-r000001"], "available");
        assert_eq!(lab.simulator.calls().find, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_create_the_deficit_once() {
    let more = [("REFILL_BATCH", "20")];
    let lab = Refilled::with(&document(12), &more).await;
    let second = broker(&lab.pool, &lab.base_url, &more).await;
    lab.simulator.inject([Fault {
        on: Call::Create,
        every: Some(3),
        ..Fault::always(FaultKind::LostAnswer { code: 504 })
    }]);
    for _ in 0..14 {
        let runs = [&lab.broker, &second].map(async |broker| {
            let path = "/v1/admin/refill";
            let answer = broker.client.admin(Method::POST, path).await;
            assert!([200, 409].contains(&answer.status.as_u16()), "{answer:?}");
        });
        join_all(runs).await;
        assert!(lab.accounts().len() <= 12);
    }
    let mut names = lab.accounts();
    assert_eq!(names.len(), 12);
    names.dedup();
    assert_eq!(names.len(), 12, "each name is used once");
    lab.sync().await;
    lab.refill().await;
    assert_eq!(lab.closed().await.len(), 12);
}

/// The request of a run that has lost its lease is on its way while another run begins.
#[tokio::test(flavor = "multi_thread")]
async fn account_requested_by_a_run_without_its_lease_is_adopted() {
    let more = [("REFILL_SETTLE_SEC", "1"), ("CSP_TIMEOUT_READ_SEC", "5")];
    let lab = Refilled::with(&document(1), &more).await;
    lab.fault(FaultKind::Slow { delay_ms: 600 }, 1);
    let client = lab.broker.client.clone();
    let first = tokio::spawn(async move { client.admin(Method::POST, "/v1/admin/refill").await });
    while lab.simulator.calls().create == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let later = START + Duration::from_mins(10);
    let run = RunId::new(JobName::Refill, later, 1);
    let acquired = lab
        .pool
        .store
        .acquire_lease(&run, "second", None, later)
        .await;
    let Acquired::Granted { fence, .. } = acquired.unwrap() else {
        panic!("not granted")
    };
    let answer = first.await.unwrap();
    assert_ne!(
        answer.status, 200,
        "the first run cannot note the account: {answer:?}"
    );
    assert_eq!(lab.open().await["lab-r000001"], CreationState::Attempted);
    let end = sandbox_broker::store::RunEnd {
        outcome: sandbox_broker::store::RunOutcome::Interrupted,
        at: later,
        processed: Vec::new(),
    };
    lab.pool.store.release_lease(&fence, &end).await.unwrap();
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "adopted"]), [0, 1]);
    assert_eq!(lab.accounts(), ["lab-r000001"]);
}

/// Lets a run fail at the transaction after `calls` others, and checks that later ones create what is missing.
async fn refill_with_failing_write(calls: usize, fault: proxy::Fault) {
    let lab = Refilled::new(2).await;
    let proxy = Proxy::to(lab.pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = broker(&lab.pool, &lab.base_url, &[("DDB_ENDPOINT_URL", &endpoint)]).await;
    // As often as the SDK tries.
    for calls in [calls, 0, 0] {
        proxy.inject_after(calls, "TransactWriteItems", fault);
    }
    let first = broker.client.admin(Method::POST, "/v1/admin/refill").await;
    assert_eq!(first.status, 503, "{calls} {fault:?}: {first:?}");
    for _ in 0..2 {
        lab.refill().await;
    }
    let names = ["lab-r000001", "lab-r000002"];
    assert_eq!(lab.accounts(), names, "{calls} {fault:?}");
    lab.sync().await;
    lab.refill().await;
    assert_eq!(lab.closed().await.len(), 2, "{calls} {fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_of_the_table_at_any_write_creates_no_second_account() {
    // A creation is intended, attempted and noted; the first one also sets when the pool fell below its target. The
    // audit record of the start comes before them.
    let writes = 1..8;
    let faults = [proxy::Fault::DropAnswer, proxy::Fault::DropRequest];
    let runs = faults.map(|fault| {
        writes
            .clone()
            .map(move |nth| refill_with_failing_write(nth, fault))
    });
    join_all(runs.into_iter().flatten()).await;
}

/// Another run may have looked for the account by the time of such a request.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_requested_after_a_write_that_took_too_long() {
    let lab = Refilled::new(1).await;
    let proxy = Proxy::to(lab.pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = broker(&lab.pool, &lab.base_url, &[("DDB_ENDPOINT_URL", &endpoint)]).await;
    let gate = proxy.hold(|call| {
        let body = String::from_utf8_lossy(&call.body).into_owned();
        call.operation == "TransactWriteItems" && body.contains("attempted_at = :at")
    });
    let run = tokio::spawn(async move { broker.client.job("refill").await });
    gate.wait_for_one().await;
    tokio::time::sleep(Duration::from_millis(5100)).await;
    gate.open();
    let report = run.await.unwrap();
    assert_eq!(counts(&report, ["created", "unanswered"]), [0, 1]);
    assert_eq!(lab.open().await["lab-r000001"], CreationState::Attempted);
    assert_eq!(lab.simulator.calls().create, 0);
    assert_eq!(lab.refill().await["created"], 1);
}

/// All of them are looked for before any is requested again.
#[tokio::test(flavor = "multi_thread")]
async fn account_that_exists_goes_before_one_that_would_have_to_be_requested_again() {
    let lab = Refilled::new(1).await;
    for number in [1, 2] {
        lab.write(&creation(number, CreationState::Attempted)).await;
    }
    let exists = NewAccount::named("lab-r000002");
    lab.simulator.create_account(exists).unwrap();
    let report = lab.refill().await;
    assert_eq!(
        counts(&report, ["created", "adopted", "dropped"]),
        [0, 1, 1]
    );
    assert_eq!(lab.accounts(), ["lab-r000002"]);
}

/// The sandbox of a creation without an answer is used up before refill runs again.
#[tokio::test(flavor = "multi_thread")]
async fn account_that_was_used_and_deleted_is_not_created_again() {
    let lab = Refilled::new(1).await;
    lab.fault(FaultKind::LostAnswer { code: 504 }, 1);
    lab.refill().await;
    lab.sync().await;
    let client = &lab.broker.client;
    let id = client.allocate("play-1").await.sandbox_id();
    client.release(&id, "play-1").await;
    assert_eq!(client.job("cleanup").await["deleted"], 1);
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "adopted"]), [1, 0]);
    assert_eq!(lab.accounts(), ["lab-r000002"], "a name is used once");
    assert_eq!(lab.closed().await["lab-r000001"], "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn jump_of_the_clock_creates_no_further_account() {
    let lab = Refilled::new(3).await;
    lab.fault(FaultKind::LostAnswer { code: 500 }, 1);
    for hours in [0, 100, -200, 100, 0] {
        lab.broker
            .clock
            .set(sandbox_broker::clock::UnixSeconds(START.0 + hours * 3600));
        lab.refill().await;
        assert!(lab.accounts().len() <= 3);
    }
    lab.broker.clock.set(START);
    lab.sync().await;
    lab.broker
        .clock
        .set(sandbox_broker::clock::UnixSeconds(START.0 - 3600));
    let report = lab.refill().await;
    assert_eq!(report["pools"][0]["available"], 3);
    assert_eq!((lab.accounts().len(), lab.closed().await.len()), (3, 3));
    let times = lab.items().await.state.times;
    assert!(
        times
            .iter()
            .all(|time| *time <= Duration::from_hours(7 * 24))
    );
}

/// A scheduled run tries a stopped pool again only after a pause, or under another policy.
#[tokio::test(flavor = "multi_thread")]
async fn scheduled_run_probes_a_stopped_pool_after_a_pause_or_a_change_of_the_policy() {
    let lab = Refilled::new(1).await;
    let directory = tempfile::tempdir().unwrap();
    let csp = [("CSP_BASE_URL", lab.base_url.as_str())];
    let variables = lab.pool.variables(&[&super::FAST[..], &csp].concat());
    let refusal = || FaultKind::Refuse {
        code: 403,
        message: "quota".to_owned(),
    };
    lab.simulator.inject([Fault {
        on: Call::Create,
        ..Fault::always(refusal())
    }]);
    let job = async || {
        let mut command = command(directory.path(), &variables);
        command.args(["job", "refill"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert!(output.status.success(), "{BINARY}: {output:?}");
    };
    let requests = || lab.simulator.calls().create;
    job().await;
    assert_eq!(requests(), 1);
    job().await;
    assert_eq!(requests(), 1, "not before the pause is over");
    lab.rewrite_state(&[("next_attempt_at", Some(super::number(START.0)))])
        .await;
    job().await;
    assert_eq!(requests(), 2, "the pause is over");
    job().await;
    assert_eq!(requests(), 2, "the pause begins again");
    let mut changed = document(1);
    changed["pool"][0]["create"]["description"] = "another".into();
    lab.broker.client.set_policy(1, &changed).await;
    job().await;
    assert_eq!(requests(), 3, "another policy may be permitted");
    lab.broker.client.set_policy(2, &document(0)).await;
    job().await;
    assert_eq!(
        (requests(), lab.items().await.state.stop),
        (3, None),
        "nothing is wanted"
    );
}
