//! Creation, search, list and deletion of accounts.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox_broker::csp::simulator::{AccountDelays, ListForm, Settings, SuccessStatus};
use serde_json::json;

use super::{Csp, TOKEN, creation, message, texts};

#[tokio::test(flavor = "multi_thread")]
async fn created_account_is_found_at_once_and_listed_after_its_delay() {
    let csp = Csp::new(1).await;
    csp.simulator.configure(Settings {
        listing_delay: Duration::from_mins(2),
        ..Settings::default()
    });
    let (_, answer) = csp.create("lab-r000001").await;
    let result = &answer["result"];
    assert!(
        result["id"]
            .as_str()
            .unwrap()
            .starts_with("identity/accounts/")
    );
    assert_eq!(result["admin_user"]["account_id"], result["id"]);
    assert_eq!(result.get("csp_id"), None);
    assert_eq!(
        csp.find("lab-r000001").await,
        [result["id"].as_str().unwrap()]
    );
    assert_eq!(csp.listed().await.len(), 1);

    csp.simulator.advance(Duration::from_mins(2)).unwrap();
    let listed = csp.listed().await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1]["id"], result["id"]);
    assert_eq!(listed[1]["name"], "lab-r000001");
    assert_eq!(
        (&listed[1]["account_type"], &listed[1]["state"]),
        (&json!("sandbox"), &json!("active"))
    );
    let ids: Vec<_> = listed
        .iter()
        .map(|account| account["csp_id"].as_u64())
        .collect();
    assert!(ids[0].is_some() && ids[1] > ids[0], "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn account_is_found_by_any_name() {
    let csp = Csp::new(3).await;
    for name in [
        "a \"quoted\" name",
        "it's",
        "a&b=c+d%20",
        "ünïcödé",
        "a\\\"b",
    ] {
        let id = csp.created(name).await;
        assert_eq!(csp.find(name).await, [id], "{name}");
    }
    assert_eq!(csp.find("a").await, Vec::<String>::new());
    let (status, answer) = csp.get("/sandbox/accounts?_filter=csp_id==7", TOKEN).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&answer).contains("csp_id==7"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_creation_makes_a_second_account_unless_names_are_unique() {
    let csp = Csp::new(0).await;
    let first = csp.created("lab-1").await;
    let second = csp.created("lab-1").await;
    assert_ne!(first, second);
    assert_eq!(csp.find("lab-1").await, [first.clone(), second.clone()]);
    assert_eq!(csp.simulator.accounts_named("lab-1").len(), 2);

    csp.simulator.configure(Settings {
        unique_names: true,
        ..Settings::default()
    });
    let (status, answer) = csp.create("lab-1").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(message(&answer).contains("'lab-1'"), "{answer}");
    for id in [first, second] {
        let uuid = id.rsplit('/').next().unwrap();
        let path = format!("/sandbox/accounts/{uuid}");
        assert_eq!(csp.delete(&path, TOKEN).await, StatusCode::NO_CONTENT);
        assert_eq!(csp.delete(&path, TOKEN).await, StatusCode::NOT_FOUND);
    }
    csp.created("lab-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_of_accounts_counts_existing_accounts() {
    let csp = Csp::new(2).await;
    csp.simulator.configure(Settings {
        max_accounts: Some(3),
        listing_delay: Duration::from_hours(1),
        ..Settings::default()
    });
    let id = csp.created("lab-1").await;
    let (status, answer) = csp.create("lab-2").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(message(&answer), "the quota of 3 accounts is exhausted");
    // An account that is not listed yet can be deleted.
    let path = format!("/sandbox/accounts/{}", id.rsplit('/').next().unwrap());
    assert_eq!(csp.delete(&path, TOKEN).await, StatusCode::NO_CONTENT);
    csp.created("lab-2").await;
    let created: Vec<_> = csp
        .simulator
        .created_accounts()
        .into_iter()
        .map(|account| (account.request.name, account.is_deleted))
        .collect();
    assert_eq!(
        created,
        [("lab-1".to_owned(), true), ("lab-2".to_owned(), false)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn some_accounts_take_longer_than_others() {
    let csp = Csp::new(0).await;
    csp.simulator.configure(Settings {
        listing_delay: Duration::from_mins(1),
        accounts: vec![AccountDelays {
            names: vec!["late-*".to_owned()],
            listing_delay: Some(Duration::from_hours(1)),
            usable_delay: None,
        }],
        ..Settings::default()
    });
    csp.created("lab-1").await;
    csp.created("late-1").await;
    csp.simulator.advance(Duration::from_mins(1)).unwrap();
    assert_eq!(texts(&json!(csp.listed().await), "name"), ["lab-1"]);
    csp.simulator.advance(Duration::from_mins(59)).unwrap();
    assert_eq!(csp.listed().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_statuses_and_forms_in_which_csp_sends_them() {
    let csp = Csp::new(0).await;
    let mut statuses = Vec::new();
    for name in ["lab-1", "lab-2", "lab-3"] {
        statuses.push(csp.create(name).await.0.as_u16());
    }
    assert_eq!(statuses, [200, 201, 200]);
    for (success, lists, pointer) in [
        (SuccessStatus::Ok, ListForm::Results, "/results/0/name"),
        (SuccessStatus::Created, ListForm::Result, "/result/0/name"),
        (SuccessStatus::Alternating, ListForm::Bare, "/0/name"),
    ] {
        csp.simulator.configure(Settings {
            success,
            lists,
            ..Settings::default()
        });
        let (status, _) = csp.create("lab-4").await;
        let expected = match success {
            SuccessStatus::Ok => StatusCode::OK,
            SuccessStatus::Created | SuccessStatus::Alternating => StatusCode::CREATED,
        };
        assert_eq!(status, expected);
        let filter = "_filter=name%3D%3D%22lab-1%22";
        let (_, list) = csp.get(&format!("/sandbox/accounts?{filter}"), TOKEN).await;
        assert_eq!(list.pointer(pointer), Some(&json!("lab-1")), "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_request_is_rejected_in_the_form_of_csp() {
    let csp = Csp::new(0).await;
    let unnamed = creation(" ");
    for body in [json!({}), json!([]), json!({"name": 7}), unnamed] {
        let (status, answer) = csp.post("/sandbox/accounts", TOKEN, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(!message(&answer).is_empty());
    }
    let creation = creation("lab-1");
    for authorization in ["", "Token ", "Bearer any"] {
        let (status, _) = csp
            .post("/sandbox/accounts", authorization, &creation)
            .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{authorization}");
    }
    assert!(csp.simulator.created_accounts().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_account_is_as_if_it_were_deleted_until_it_is_shown() {
    let csp = Csp::new(2).await;
    let account = csp.simulator.accounts()[0].clone();
    let uuid = account.id.rsplit('/').next().unwrap();
    let path = format!("/sandbox/accounts/{uuid}");
    assert!(csp.simulator.rename(account.csp_id, "renamed"));
    assert_eq!(csp.listed().await[0]["name"], "renamed");
    csp.simulator.hide(account.csp_id, true);
    assert_eq!(csp.listed().await.len(), 1);
    assert!(csp.find("renamed").await.is_empty());
    assert_eq!(csp.delete(&path, TOKEN).await, StatusCode::NOT_FOUND);
    assert_eq!(csp.simulator.accounts_named("renamed").len(), 1);
    csp.simulator.hide(account.csp_id, false);
    assert_eq!(csp.listed().await.len(), 2);
    assert_eq!(csp.delete(&path, TOKEN).await, StatusCode::NO_CONTENT);
    assert!(!csp.simulator.rename(account.csp_id, "gone"));
}
