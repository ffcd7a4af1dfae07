//! Faults of single calls and accounts.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use sandbox_broker::csp::simulator::{Call, Fault, FaultKind};
use serde_json::json;

use super::{Csp, TOKEN, creation, fault_on, message};

#[tokio::test(flavor = "multi_thread")]
async fn account_exists_although_the_answer_to_its_creation_is_lost() {
    let csp = Csp::new(0).await;
    assert!(csp.simulator.take_creation_requests().is_empty());
    for (name, kind) in [
        ("hang", FaultKind::Hang),
        ("reset", FaultKind::Reset),
        ("lost", FaultKind::LostAnswer { code: 504 }),
    ] {
        csp.simulator.inject([fault_on(Call::Create, kind)]);
        let request = csp.request(Method::POST, "/sandbox/accounts", TOKEN);
        let answer = match request.json(&creation(name)).send().await {
            Ok(answer) if answer.status().is_success() => answer.bytes().await.map(drop),
            Ok(answer) => answer.error_for_status().map(drop),
            Err(fault) => Err(fault),
        };
        assert!(answer.is_err(), "{name}");
        assert_eq!(csp.find(name).await.len(), 1, "{name}");
    }
    let requests = csp.simulator.take_creation_requests();
    assert!(requests.is_sorted());
    let names: Vec<_> = requests.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["hang", "reset", "lost"]);
    assert!(csp.simulator.take_creation_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_creation_goes_on_without_its_client() {
    let csp = Csp::new(0).await;
    csp.simulator
        .inject([fault_on(Call::Create, FaultKind::Slow { delay_ms: 200 })]);
    let request = csp.request(Method::POST, "/sandbox/accounts", TOKEN);
    let client = tokio::spawn(request.json(&creation("lab-1")).send());
    eventually(|| csp.simulator.calls().create == 1).await;
    client.abort();
    eventually(|| csp.simulator.accounts_named("lab-1").len() == 1).await;
}

/// Waits until `is_met`, for at most half a minute.
async fn eventually(is_met: impl Fn() -> bool) {
    let wait = async {
        while !is_met() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, wait).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_creation_creates_nothing() {
    let csp = Csp::new(0).await;
    for (kind, code) in [
        (FaultKind::Status { code: 409 }, 409),
        (FaultKind::Status { code: 503 }, 503),
        (
            FaultKind::RateLimit {
                retry_after_sec: Some(3),
            },
            429,
        ),
        (
            FaultKind::Refuse {
                code: 403,
                message: "no sandboxes left".to_owned(),
            },
            403,
        ),
    ] {
        csp.simulator.inject([fault_on(Call::Create, kind)]);
        let (status, answer) = csp.create("lab-1").await;
        assert_eq!(status.as_u16(), code);
        assert!(["simulated", "no sandboxes left"].contains(&message(&answer)));
    }
    assert!(csp.find("lab-1").await.is_empty());
    assert!(csp.simulator.created_accounts().is_empty());
    assert_eq!(
        (csp.simulator.calls().create, csp.simulator.calls().faulty),
        (4, 4)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_of_one_account_leaves_the_others_alone() {
    let csp = Csp::new(1).await;
    let initial = csp.simulator.accounts()[0].clone();
    csp.simulator.inject([Fault {
        names: vec!["denied".to_owned()],
        accounts: vec![initial.csp_id],
        ..Fault::always(FaultKind::Status { code: 403 })
    }]);
    assert_eq!(csp.create("denied").await.0, StatusCode::FORBIDDEN);
    let allowed = csp.created("allowed").await;
    let session = csp.signed_in().await;
    assert_eq!(
        csp.switch(&session, &initial.id).await.0,
        StatusCode::FORBIDDEN
    );
    assert!(csp.switch(&session, &allowed).await.0.is_success());
    let (status, _) = csp
        .get("/sandbox/accounts?_filter=name==%22denied%22", TOKEN)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(csp.find("missing").await.is_empty());
    assert_eq!(csp.listed().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_without_groups_never_becomes_usable() {
    let csp = Csp::new(2).await;
    let accounts = csp.simulator.accounts();
    csp.simulator.inject([Fault {
        accounts: vec![accounts[0].csp_id],
        ..fault_on(Call::Groups, FaultKind::Empty)
    }]);
    let (_, groups) = csp
        .get("/groups", &csp.switched_to(&accounts[0].id).await)
        .await;
    assert_eq!(groups, json!({ "results": [] }));
    let (_, groups) = csp
        .get("/groups", &csp.switched_to(&accounts[1].id).await)
        .await;
    assert_ne!(groups, json!({ "results": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn search_can_miss_an_account_or_repeat_it() {
    let csp = Csp::new(0).await;
    let id = csp.created("lab-1").await;
    csp.simulator.inject([
        Fault {
            times: Some(1),
            ..fault_on(Call::Find, FaultKind::Empty)
        },
        fault_on(Call::Find, FaultKind::Duplicates),
    ]);
    assert!(csp.find("lab-1").await.is_empty());
    assert_eq!(csp.find("lab-1").await, [id.clone(), id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_on_niosxaas_applies_to_sessions_too() {
    let csp = Csp::new(1).await;
    csp.simulator
        .inject([fault_on(Call::Niosxaas, FaultKind::Status { code: 500 })]);
    let (status, _) = csp.sign_in("labs@example.com", "password").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    csp.simulator
        .inject([fault_on(Call::Switch, FaultKind::Status { code: 423 })]);
    let session = csp.signed_in().await;
    let id = csp.simulator.accounts()[0].id.clone();
    assert_eq!(csp.switch(&session, &id).await.0, StatusCode::LOCKED);
    let calls = csp.simulator.calls();
    assert_eq!((calls.sign_ins, calls.switches, calls.niosxaas), (2, 1, 3));
}
