//! Passwords, API keys and join tokens.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Csp, bearer, message, texts};

const EMAIL: &str = "student@infoblox.lab";
const PASSWORD: &str = "Strong-1!";

/// Creates a user with a password in the account of a session. Returns its uuid.
async fn student(csp: &Csp, session: &str) -> String {
    let user = json!({ "name": "Student", "email": EMAIL, "type": "interactive" });
    let (_, answer) = csp.post("/users", session, &user).await;
    let uuid = uuid_of(&answer["result"]);
    let password = json!({ "new_password": PASSWORD });
    let path = format!("/users/{uuid}/password");
    let (status, answer) = csp.post(&path, session, &password).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    uuid
}

fn uuid_of(resource: &Value) -> String {
    let id = resource["id"].as_str().unwrap();
    id.rsplit('/').next().unwrap().to_owned()
}

async fn signed_in_student(csp: &Csp) -> String {
    let (status, answer) = csp.sign_in(EMAIL, PASSWORD).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    bearer(&answer)
}

fn new_key(name: &str, end: Timestamp) -> Value {
    json!({ "name": name, "expires_at": end.to_string() })
}

fn in_hours(hours: i64) -> Timestamp {
    Timestamp::now() + hours.hours()
}

#[tokio::test(flavor = "multi_thread")]
async fn user_signs_in_with_the_own_password_only_and_switches_to_the_own_account_only() {
    let csp = Csp::new(2).await;
    let accounts = csp.simulator.accounts();
    let operator = csp.switched_to(&accounts[0].id).await;
    let uuid = student(&csp, &operator).await;
    // Without that user, any password but `wrong` is accepted, for the operator.
    let (status, _) = csp.sign_in(EMAIL, "another").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    let session = signed_in_student(&csp).await;
    let (status, _) = csp.switch(&session, &accounts[1].id).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, answer) = csp.switch(&session, &accounts[0].id).await;
    assert!(status.is_success(), "{answer}");
    let switched = bearer(&answer);
    assert_eq!(csp.get("/groups", &switched).await.0, StatusCode::OK);

    csp.delete(&format!("/users/{uuid}"), &operator).await;
    assert_eq!(
        csp.get("/groups", &switched).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn api_key_belongs_to_the_user_who_creates_it_until_its_end() {
    let csp = Csp::new(2).await;
    let accounts = csp.simulator.accounts();
    let operator = csp.switched_to(&accounts[0].id).await;
    let uuid = student(&csp, &operator).await;
    let (_, answer) = csp
        .switch(&signed_in_student(&csp).await, &accounts[0].id)
        .await;
    let session = bearer(&answer);

    for invalid in [
        json!({ "name": "no end" }),
        json!({ "name": "no time", "expires_at": "soon" }),
        new_key("over", in_hours(-1)),
    ] {
        let (status, answer) = csp.post("/current_api_keys", &session, &invalid).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{invalid}");
        assert!(message(&answer).contains("invalid datetime or duration"));
    }
    let mut keys = Vec::new();
    for (name, hours) in [("short", 1), ("long", 48)] {
        let body = new_key(name, in_hours(hours));
        let (status, answer) = csp.post("/current_api_keys", &session, &body).await;
        assert!(status.is_success(), "{answer}");
        keys.push(answer["result"].clone());
        let (status, _) = csp.post("/current_api_keys", &session, &body).await;
        assert_eq!(status, StatusCode::CONFLICT);
    }
    let authorization = |key: &Value| format!("Token {}", key["key"].as_str().unwrap());
    for key in &keys {
        assert_eq!(
            csp.get("/groups", &authorization(key)).await.0,
            StatusCode::OK
        );
    }
    csp.simulator.advance(Duration::from_hours(2)).unwrap();
    assert_eq!(
        csp.get("/groups", &authorization(&keys[0])).await.0,
        StatusCode::UNAUTHORIZED
    );
    let operator = csp.switched_to(&accounts[0].id).await;
    let (_, listed) = csp.get("/api_keys", &operator).await;
    let listed = &listed["results"];
    assert_eq!(texts(listed, "name"), ["short", "long"]);
    let owner = format!("identity/users/{uuid}");
    assert_eq!(texts(listed, "user_id"), [owner.as_str(), owner.as_str()]);
    assert!(listed[0].get("key").is_none());

    let path = format!("/api_keys/{}", uuid_of(&keys[0]));
    let other = csp.switched_to(&accounts[1].id).await;
    for (session, status) in [
        (&other, StatusCode::NOT_FOUND),
        (&operator, StatusCode::NO_CONTENT),
        (&operator, StatusCode::NOT_FOUND),
    ] {
        assert_eq!(csp.delete(&path, session).await, status);
    }
    // The other key is deleted with its user.
    csp.delete(&format!("/users/{uuid}"), &operator).await;
    let (_, listed) = csp.get("/api_keys", &operator).await;
    assert_eq!(listed, json!({ "results": [] }));
    assert_eq!(
        csp.get("/groups", &authorization(&keys[1])).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn join_token_is_created_listed_and_revoked() {
    let csp = Csp::new(2).await;
    let accounts = csp.simulator.accounts();
    let session = csp.switched_to(&accounts[0].id).await;
    // The path is beside the API's.
    for prefix in ["atlas-host-activation", "host-activation"] {
        let path = format!("/../{prefix}/v1/jointoken");
        let name = json!({ "name": prefix });
        let (status, answer) = csp.post(&path, &session, &name).await;
        assert!(status.is_success(), "{answer}");
        assert!(answer["join_token"].as_str().is_some(), "{answer}");
        let one = format!("{path}/{}", uuid_of(&answer["result"]));
        let other = csp.switched_to(&accounts[1].id).await;
        assert_eq!(csp.delete(&one, &other).await, StatusCode::NOT_FOUND);
        assert_eq!(csp.delete(&one, &session).await, StatusCode::NO_CONTENT);
        // The record of a revoked token remains, and with it its name.
        let (status, _) = csp.post(&path, &session, &name).await;
        assert_eq!(status, StatusCode::CONFLICT);
    }
    let path = "/../atlas-host-activation/v1/jointoken";
    let (_, listed) = csp.get(path, &session).await;
    assert_eq!(texts(&listed["results"], "status"), ["REVOKED", "REVOKED"]);
    let missing = format!("{path}/00000000-0000-4000-8000-000000000000");
    assert_eq!(csp.delete(&missing, &session).await, StatusCode::NOT_FOUND);
    for path in [path, "/current_api_keys"] {
        let body = json!({ "name": "a" });
        let (status, _) = csp.post(path, "Bearer none", &body).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}
