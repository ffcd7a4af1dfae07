//! Faults of CSP during a creation, and of stored items.

use std::time::Duration;

use sandbox_broker::{
    csp::simulator::{Call, Fault, FaultKind, Settings},
    domain::CreationState,
};
use serde_json::{Value, json};

use super::{Refilled, counts, creation, items, pool_entry, text};
use crate::support::key;

/// The ways in which an answer to a creation gets lost. CSP has created the account.
fn lost_answers() -> Vec<FaultKind> {
    let mut faults = vec![FaultKind::Reset, FaultKind::Hang];
    faults.extend(
        [408, 409, 425, 429, 500, 502, 503, 504].map(|code| FaultKind::LostAnswer { code }),
    );
    faults
}

/// The ways in which a creation fails, without a clear answer, and without an account.
fn failures() -> Vec<FaultKind> {
    let mut faults = vec![
        FaultKind::Html,
        FaultKind::RateLimit {
            retry_after_sec: None,
        },
    ];
    faults.extend([408, 423, 500, 502, 503, 504].map(|code| FaultKind::Status { code }));
    faults.extend(
        [json!({}), json!([]), json!({"result": {"id": "../../x"}})]
            .map(|body| FaultKind::Answer { body }),
    );
    faults
}

/// Lets creations of three accounts meet the fault once, and checks that there are three in the end.
async fn refill_with(fault: FaultKind) {
    let lab = Refilled::new(3).await;
    lab.fault(fault.clone(), 1);
    lab.refill().await;
    let mut runs = 0;
    while lab
        .items()
        .await
        .creations
        .iter()
        .any(|it| it.external_id.is_none())
        || runs == 0
    {
        // An operator's run also probes a pool that an answer has stopped.
        let report = lab.refill().await;
        runs += 1;
        assert!(runs < 5, "{fault:?}: {report}");
    }
    lab.refill().await;
    let names = ["lab-r000001", "lab-r000002", "lab-r000003"];
    assert_eq!(lab.accounts(), names, "{fault:?}");
    lab.sync().await;
    let report = lab.refill().await;
    assert_eq!(report["pools"][0]["available"], 3, "{fault:?}");
    let state = lab.items().await;
    assert_eq!(
        (state.creations.len(), state.state.stop),
        (0, None),
        "{fault:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn account_of_a_lost_answer_is_adopted() {
    let all = lost_answers().into_iter().map(refill_with);
    futures_util::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creation_without_a_clear_answer_is_tried_again_if_there_is_no_account() {
    futures_util::future::join_all(failures().into_iter().map(refill_with)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_leaves_a_creation_without_an_answer_to_the_next_one() {
    let lab = Refilled::new(2).await;
    lab.fault(FaultKind::LostAnswer { code: 504 }, 1);
    let report = lab.refill().await;
    assert_eq!(
        counts(&report, ["created", "adopted", "unanswered"]),
        [0, 0, 1]
    );
    assert!(
        report["stopped"].as_str().unwrap().contains("HTTP 504"),
        "{report}"
    );
    assert_eq!(lab.open().await["lab-r000001"], CreationState::Attempted);
    let report = lab.refill().await;
    assert_eq!(
        counts(&report, ["created", "adopted", "unanswered"]),
        [1, 1, 0]
    );
    assert_eq!(lab.accounts().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_names_make_a_repeated_creation_adopt_the_account() {
    let lab = Refilled::new(1).await;
    lab.simulator.configure(Settings {
        unique_names: true,
        ..Settings::default()
    });
    lab.simulator.inject([
        Fault {
            on: Call::Create,
            times: Some(1),
            ..Fault::always(FaultKind::LostAnswer { code: 502 })
        },
        // The search of the next run does not show the account yet.
        Fault {
            on: Call::Find,
            times: Some(2),
            ..Fault::always(FaultKind::Empty)
        },
    ]);
    lab.refill().await;
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "adopted", "failed"]), [0, 1, 0]);
    assert_eq!(lab.accounts(), ["lab-r000001"]);
}

/// CSP says that the name is taken, but has no account of that name for this token.
#[tokio::test(flavor = "multi_thread")]
async fn creation_whose_name_is_taken_is_dropped_for_another_name() {
    let lab = Refilled::new(1).await;
    lab.simulator.inject([Fault {
        on: Call::Create,
        names: vec!["lab-r000001".to_owned()],
        ..Fault::always(FaultKind::Status { code: 409 })
    }]);
    for attempts in 1..=2 {
        lab.refill().await;
        assert_eq!(lab.items().await.creations[0].attempts, attempts);
    }
    assert_eq!(lab.refill().await["dropped"], 1);
    let stop = lab.items().await.state.stop.unwrap();
    assert!(stop.reason.contains("409"), "{stop:?}");
    assert_eq!(lab.refill().await["created"], 1);
    assert_eq!(lab.items().await.state.stop, None);
    assert_eq!(lab.accounts(), ["lab-r000002"]);
}

/// The request may take effect later, so another name could become a second account.
#[tokio::test(flavor = "multi_thread")]
async fn creation_that_meets_another_conflict_keeps_its_name() {
    for code in [423, 425] {
        let lab = Refilled::new(1).await;
        let fault = Fault {
            on: Call::Create,
            ..Fault::always(FaultKind::Status { code })
        };
        lab.simulator.inject([fault]);
        for attempts in 1..=4 {
            lab.refill().await;
            assert_eq!(lab.items().await.creations[0].attempts, attempts, "{code}");
        }
        lab.simulator.inject([]);
        assert_eq!(lab.refill().await["created"], 1, "{code}");
        assert_eq!(lab.accounts(), ["lab-r000001"], "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_stops_its_pool_with_the_message_and_no_other() {
    let document = json!({ "pool": [pool_entry("lab", 3), pool_entry("other", 2)] });
    let lab = Refilled::with(&document, &[]).await;
    lab.simulator.inject([Fault {
        on: Call::Create,
        names: vec!["lab*".to_owned()],
        ..Fault::always(FaultKind::Refuse {
            code: 403,
            message: "account quota\nexceeded".to_owned(),
        })
    }]);
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "failed"]), [2, 1]);
    let pool = &report["pools"][0];
    assert_eq!(
        (&pool["name_prefix"], &pool["stopped"]),
        (&"lab".into(), &true.into())
    );
    let reason = "CSP refuses the request (HTTP 403): account quota exceeded";
    assert!(
        pool["reason"].as_str().unwrap().starts_with(reason),
        "{pool}"
    );
    let state = lab.items().await;
    assert_eq!(state.state.stop.unwrap().reason, reason);
    assert_eq!(state.creations[0].state, CreationState::Intended);
    assert_eq!(lab.accounts(), ["other-r000001", "other-r000002"]);

    // Each run of an operator probes once.
    let probe = lab.refill().await;
    assert_eq!(counts(&probe, ["created", "failed"]), [0, 1]);
    lab.simulator.inject([]);
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "failed"]), [3, 0]);
    assert_eq!(lab.items().await.state.stop, None);
    let names: Vec<_> = lab.accounts().into_iter().take(3).collect();
    assert_eq!(names, ["lab-r000001", "lab-r000002", "lab-r000003"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_of_accounts_stops_the_pool_until_there_is_room() {
    let lab = Refilled::new(4).await;
    let quota = |max_accounts| Settings {
        max_accounts,
        ..Settings::default()
    };
    lab.simulator.configure(quota(Some(2)));
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "failed"]), [2, 1]);
    lab.sync().await;
    lab.simulator.configure(quota(None));
    assert_eq!(lab.refill().await["created"], 2);
    assert_eq!(lab.accounts().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_token_fails_the_run_and_leaves_nothing_unclear() {
    for call in [Call::Find, Call::Create] {
        let lab = Refilled::new(2).await;
        lab.simulator.inject([Fault {
            on: call,
            ..Fault::always(FaultKind::Status { code: 401 })
        }]);
        let answer = lab
            .broker
            .client
            .admin(reqwest::Method::POST, "/v1/admin/refill")
            .await;
        assert_eq!(answer.code(), "CSP_ERROR");
        assert_eq!(lab.open().await["lab-r000001"], CreationState::Intended);
        lab.simulator.inject([]);
        assert_eq!(lab.refill().await["created"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_ends_the_run() {
    let lab = Refilled::new(5).await;
    lab.simulator.inject([Fault {
        on: Call::Find,
        times: Some(1),
        ..Fault::always(FaultKind::RateLimit {
            retry_after_sec: Some(9),
        })
    }]);
    let report = lab.refill().await;
    assert_eq!(counts(&report, ["created", "unanswered"]), [0, 0]);
    let reason = "CSP limits the rate of requests; the rest is left to a later run";
    assert_eq!(report["stopped"], reason);
    assert_eq!(lab.simulator.calls().find, 1);
    let pace = lab.pool.store.csp_state().await.unwrap().state.pace;
    assert!((pace - 0.5).abs() < 1e-9, "{pace}");
    let report = lab.refill().await;
    assert_eq!(report["created"], 2, "half of the batch: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_that_csp_never_serves_leaves_the_others_their_turns() {
    let document = json!({ "pool": [pool_entry("lab", 5), pool_entry("other", 2)] });
    let lab = Refilled::with(&document, &[]).await;
    lab.simulator.inject([Fault {
        on: Call::Create,
        names: vec!["lab*".to_owned()],
        ..Fault::always(FaultKind::Status { code: 504 })
    }]);
    for _ in 0..3 {
        lab.refill().await;
    }
    assert_eq!(lab.accounts(), ["other-r000001", "other-r000002"]);
    assert!(lab.items().await.creations.len() <= 5);
    lab.simulator.inject([]);
    for _ in 0..6 {
        lab.refill().await;
    }
    assert_eq!(lab.accounts().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_breaker_ends_the_run_without_a_call() {
    let more = [
        ("CIRCUIT_BREAKER_THRESHOLD", "2"),
        ("CIRCUIT_BREAKER_TIMEOUT_SEC", "60"),
    ];
    let lab = Refilled::with(&super::document(3), &more).await;
    lab.simulator
        .inject([Fault::always(FaultKind::Status { code: 500 })]);
    for _ in 0..2 {
        lab.refill().await;
    }
    let before = lab.simulator.calls().find;
    let report = lab.refill().await;
    let reason = report["stopped"].as_str().unwrap();
    assert!(
        reason.starts_with("CSP is unavailable; creations resume after"),
        "{reason}"
    );
    assert_eq!(lab.simulator.calls().find, before);
    assert_eq!(lab.open().await.len(), 1, "the outage leaves one intention");
    lab.simulator.inject([]);
    lab.broker.clock.advance(Duration::from_mins(1));
    let mut created = 0;
    for _ in 0..3 {
        created += lab.refill().await["created"].as_u64().unwrap();
    }
    assert_eq!((created, lab.accounts().len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_item_stops_its_pool_only_and_is_kept() {
    let document = json!({ "pool": [pool_entry("lab", 3), pool_entry("other", 1)] });
    let lab = Refilled::with(&document, &[]).await;
    lab.write(&creation(1, CreationState::Attempted)).await;
    let broken = key("REFILL#lab", "CREATE#0000000001");
    let rewrite = async |state: &str| {
        let state = [("state", Some(text(state)))];
        lab.pool
            .rewrite(&lab.pool.companion, broken.clone(), &state)
            .await;
    };
    rewrite("begun").await;
    let before = items(&lab.pool, "lab").await;
    let report = lab.refill().await;
    assert_eq!(report["created"], 1, "{report}");
    let pool = &report["pools"][0];
    let reason = pool["reason"].as_str().unwrap();
    assert_eq!(pool["stopped"], true);
    assert!(
        reason.starts_with("unreadable item: REFILL#lab / CREATE#0000000001: state"),
        "{reason}"
    );
    assert_eq!(items(&lab.pool, "lab").await, before);
    rewrite("attempted").await;
    assert_eq!(lab.refill().await["created"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn search_that_answers_with_other_accounts_proves_nothing() {
    let lab = Refilled::new(1).await;
    lab.write(&creation(1, CreationState::Attempted)).await;
    let others = json!({"results": [{"id": "identity/accounts/1", "name": "another"}]});
    let answer = |body: Value| Fault {
        on: Call::Find,
        ..Fault::always(FaultKind::Answer { body })
    };
    lab.simulator.inject([answer(others)]);
    let report = lab.refill().await;
    assert_eq!(report["pools"][0]["stopped"], true, "{report}");
    assert_eq!(lab.open().await["lab-r000001"], CreationState::Attempted);
    assert_eq!(lab.simulator.calls().create, 0);
    let hostile = json!({"results": [{"id": "../../x", "name": "lab-r000001"}]});
    lab.simulator.inject([answer(hostile)]);
    let report = lab.refill().await;
    let reason = report["pools"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("is not of the form identity/accounts/<uuid>"),
        "{reason}"
    );
    assert_eq!(lab.simulator.calls().create, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_whose_creations_always_fail_takes_no_turns_of_the_others() {
    let pools = json!({"pool": [pool_entry("bad", 10), pool_entry("good", 12)]});
    let lab = Refilled::with(&pools, &[("REFILL_BATCH", "1")]).await;
    lab.simulator.inject([Fault {
        on: Call::Create,
        names: vec!["bad-*".to_owned()],
        ..Fault::always(FaultKind::Status { code: 500 })
    }]);
    for run in 1..=4 {
        lab.refill().await;
        assert_eq!(lab.accounts().len(), run);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_in_which_csp_refused_is_no_part_of_what_a_creation_takes() {
    let lab = Refilled::new(1).await;
    lab.fault(FaultKind::Status { code: 403 }, 1);
    lab.refill().await;
    lab.broker.clock.advance(Duration::from_hours(60));
    lab.refill().await;
    lab.broker.clock.advance(Duration::from_mins(2));
    lab.sync().await;
    lab.refill().await;
    let times = lab.items().await.state.times;
    assert_eq!(times, [Duration::from_mins(2)]);
}

/// CSP changes the names of accounts, so that no account that is created is ever one of the pool.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_under_other_names_are_not_created_again_and_again() {
    let lab = Refilled::new(2).await;
    for _ in 0..4 {
        lab.refill().await;
        for account in lab.simulator.accounts() {
            let name = account.name.to_uppercase();
            assert!(lab.simulator.rename(account.csp_id, &name));
        }
        lab.sync().await;
        lab.broker.clock.advance(Duration::from_hours(2));
    }
    assert_eq!(lab.accounts(), ["LAB-R000001", "LAB-R000002"]);
}
