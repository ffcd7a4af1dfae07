//! Sign in, switch, groups and users.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox_broker::csp::simulator::{ListForm, Settings, SimulatedUser};
use serde_json::{Value, json};

use super::{Csp, message, texts};

#[tokio::test(flavor = "multi_thread")]
async fn account_has_groups_once_it_is_usable() {
    let csp = Csp::new(1).await;
    let delayed = |lists| Settings {
        usable_delay: Duration::from_mins(3),
        lists,
        ..Settings::default()
    };
    csp.simulator.configure(delayed(ListForm::Results));
    let id = csp.created("lab-1").await;
    // The switch succeeds before there are groups.
    let session = csp.switched_to(&id).await;
    let (status, groups) = csp.get("/groups", &session).await;
    assert_eq!((status, groups), (StatusCode::OK, json!({ "results": [] })));

    csp.simulator.advance(Duration::from_mins(3)).unwrap();
    for (form, attribute) in [
        (ListForm::Results, Some("results")),
        (ListForm::Result, Some("result")),
        (ListForm::Bare, None),
    ] {
        csp.simulator.configure(delayed(form));
        let (_, groups) = csp.get("/groups", &session).await;
        let groups = attribute.map_or(&groups, |attribute| &groups[attribute]);
        assert_eq!(texts(groups, "name").len(), 2, "{form:?}");
    }
    // Accounts that were not created over the API are usable from the start.
    let first = csp.simulator.accounts()[0].id.clone();
    csp.simulator.configure(delayed(ListForm::Bare));
    let (_, groups) = csp.get("/groups", &csp.switched_to(&first).await).await;
    assert_eq!(groups.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_needs_a_session_and_an_account() {
    let csp = Csp::new(1).await;
    let account = csp.simulator.accounts()[0].clone();
    assert_eq!(
        csp.switch("Bearer none", &account.id).await.0,
        StatusCode::UNAUTHORIZED
    );
    let session = csp.signed_in().await;
    let missing = "identity/accounts/00000000-0000-4000-8000-000000000000";
    assert_eq!(csp.switch(&session, missing).await.0, StatusCode::NOT_FOUND);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(csp.switch(&session, &account.id).await.0.as_u16());
    }
    assert_eq!(statuses, [200, 201, 200]);
    // A session that has not switched has no groups, and one of a deleted account neither.
    assert_eq!(
        csp.get("/groups", &session).await.0,
        StatusCode::UNAUTHORIZED
    );
    let switched = csp.switched_to(&account.id).await;
    csp.simulator.remove_account(account.csp_id).unwrap();
    assert_eq!(
        csp.get("/groups", &switched).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        csp.switch(&session, &account.id).await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn session_expires_after_an_hour() {
    let csp = Csp::new(1).await;
    let session = csp.switched_to(&csp.simulator.accounts()[0].id).await;
    csp.simulator.advance(Duration::from_mins(59)).unwrap();
    assert_eq!(csp.get("/groups", &session).await.0, StatusCode::OK);
    csp.simulator.advance(Duration::from_mins(1)).unwrap();
    assert_eq!(
        csp.get("/groups", &session).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_configured_operator_can_sign_in() {
    let csp = Csp::new(0).await;
    for (email, password) in [
        ("", "password"),
        ("a@example.com", ""),
        ("a@example.com", "wrong"),
    ] {
        let (status, _) = csp.sign_in(email, password).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{email} {password}");
    }
    csp.simulator.configure(Settings {
        user: Some(SimulatedUser {
            email: "labs@example.com".to_owned(),
            password: "Secret-1!".into(),
        }),
        ..Settings::default()
    });
    for (email, password, status) in [
        ("labs@example.com", "Secret-1!", StatusCode::OK),
        ("labs@example.com", "password", StatusCode::UNAUTHORIZED),
        ("others@example.com", "Secret-1!", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(
            csp.sign_in(email, password).await.0,
            status,
            "{email} {password}"
        );
    }
    assert_eq!(csp.simulator.calls().sign_ins, 6);
}

fn user(email: &str, groups: &[String]) -> Value {
    json!({ "name": "Student", "email": email, "type": "interactive", "group_ids": groups })
}

#[tokio::test(flavor = "multi_thread")]
async fn user_is_created_found_given_a_password_and_deleted() {
    let csp = Csp::new(2).await;
    let accounts = csp.simulator.accounts();
    let session = csp.switched_to(&accounts[0].id).await;
    let (_, groups) = csp.get("/groups", &session).await;
    let body = user("student+1@example.com", &texts(&groups["results"], "id"));
    let (status, answer) = csp.post("/users", &session, &body).await;
    assert!(status.is_success(), "{answer}");
    let id = answer["result"]["id"].as_str().unwrap();
    let (status, answer) = csp.post("/users", &session, &body).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(message(&answer).contains("student+1@example.com"));
    let by_email = "/users?_filter=email==%22student%2B1@example.com%22";
    let (_, found) = csp.get(by_email, &session).await;
    assert_eq!(texts(&found["results"], "id"), [id]);

    let path = format!("/users/{}", id.strip_prefix("identity/users/").unwrap());
    let password_path = format!("{path}/password");
    for (password, is_accepted) in [("weak", false), ("Strong-1!", true)] {
        let body = json!({ "new_password": password });
        let (status, answer) = csp.post(&password_path, &session, &body).await;
        assert_eq!(status.is_success(), is_accepted, "{password}: {answer}");
    }

    // Another account has other users.
    let other = csp.switched_to(&accounts[1].id).await;
    let (_, found) = csp.get(by_email, &other).await;
    assert_eq!(found, json!({ "results": [] }));
    assert_eq!(csp.delete(&path, &other).await, StatusCode::NOT_FOUND);
    assert_eq!(csp.delete(&path, &session).await, StatusCode::NO_CONTENT);
    assert_eq!(csp.delete(&path, &session).await, StatusCode::NOT_FOUND);
    assert_eq!(csp.simulator.users(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn user_with_an_unknown_group_or_without_a_session_is_rejected() {
    let csp = Csp::new(1).await;
    let session = csp.switched_to(&csp.simulator.accounts()[0].id).await;
    let unknown = user("a@example.com", &["identity/groups/unknown".to_owned()]);
    let (status, answer) = csp.post("/users", &session, &unknown).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&answer).contains("identity/groups/unknown"));
    let (status, _) = csp.post("/users", &session, &user("", &[])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = csp
        .post("/users", "Bearer none", &user("a@example.com", &[]))
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
