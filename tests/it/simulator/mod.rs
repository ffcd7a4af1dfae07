//! The CSP simulator over HTTP.

mod accounts;
mod control;
mod credentials;
mod faults;
mod sessions;

use std::time::Duration;

use reqwest::{Method, StatusCode, Url, header};
use sandbox_broker::csp::simulator::{Call, Fault, FaultKind, Simulator};
use serde_json::{Value, json};

use crate::support::simulated_csp;

const TOKEN: &str = "Token any";

/// A simulator and a client of it.
struct Csp {
    simulator: Simulator,
    base_url: String,
    http: reqwest::Client,
}

impl Csp {
    async fn new(accounts: u64) -> Self {
        let (simulator, base_url) = simulated_csp(accounts).await;
        let client = reqwest::Client::builder()
            .no_proxy()
            .read_timeout(Duration::from_secs(1));
        Self {
            simulator,
            base_url,
            http: client.build().unwrap(),
        }
    }

    fn request(&self, method: Method, path: &str, authorization: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base_url))
            .header(header::AUTHORIZATION, authorization)
    }

    async fn get(&self, path: &str, authorization: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path, authorization)).await
    }

    async fn post(&self, path: &str, authorization: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path, authorization).json(body)).await
    }

    async fn delete(&self, path: &str, authorization: &str) -> StatusCode {
        answer(self.request(Method::DELETE, path, authorization))
            .await
            .0
    }

    /// Creates an account. Returns the status code and the answer.
    async fn create(&self, name: &str) -> (StatusCode, Value) {
        self.post("/sandbox/accounts", TOKEN, &creation(name)).await
    }

    /// Creates an account that CSP accepts. Returns its resource id.
    async fn created(&self, name: &str) -> String {
        let (status, answer) = self.create(name).await;
        assert!(status.is_success(), "{answer}");
        answer["result"]["id"].as_str().unwrap().to_owned()
    }

    /// Returns the resource ids of the accounts that are found by name.
    async fn find(&self, name: &str) -> Vec<String> {
        let filter = format!("name==\"{}\"", name.replace('"', "\"\""));
        let mut url = Url::parse("http://csp/sandbox/accounts").unwrap();
        url.query_pairs_mut().append_pair("_filter", &filter);
        let path = format!("{}?{}", url.path(), url.query().unwrap());
        let (status, answer) = self.get(&path, TOKEN).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        texts(&answer["results"], "id")
    }

    /// Returns the listed accounts.
    async fn listed(&self) -> Vec<Value> {
        let (status, list) = self.get("/current_user/accounts", TOKEN).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        list["results"].as_array().unwrap().clone()
    }

    async fn sign_in(&self, email: &str, password: &str) -> (StatusCode, Value) {
        let body = json!({ "email": email, "password": password });
        self.post("/session/users/sign_in", "", &body).await
    }

    /// Signs in. Returns the value of the header for further calls.
    async fn signed_in(&self) -> String {
        let (status, answer) = self.sign_in("labs@example.com", "password").await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        bearer(&answer)
    }

    async fn switch(&self, session: &str, id: &str) -> (StatusCode, Value) {
        let body = json!({ "id": id });
        self.post("/session/account_switch", session, &body).await
    }

    /// Signs in and switches to an account. Returns the value of the header for further calls.
    async fn switched_to(&self, id: &str) -> String {
        let (status, answer) = self.switch(&self.signed_in().await, id).await;
        assert!(status.is_success(), "{answer}");
        bearer(&answer)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let body = answer.text().await.unwrap();
    (status, serde_json::from_str(&body).unwrap_or_default())
}

fn bearer(answer: &Value) -> String {
    format!("Bearer {}", answer["jwt"].as_str().unwrap())
}

/// Returns the body of a request that creates an account.
fn creation(name: &str) -> Value {
    json!({
        "name": name,
        "description": "Hands-on labs",
        "state": "active",
        "tags": { "instruqt": "labs" },
        "admin_user": { "email": "labs@example.com", "name": "Labs" },
    })
}

fn texts(entries: &Value, attribute: &str) -> Vec<String> {
    let entries = entries.as_array().unwrap().iter();
    entries
        .map(|entry| entry[attribute].as_str().unwrap().to_owned())
        .collect()
}

/// Returns the message of an error in the form of CSP.
fn message(answer: &Value) -> &str {
    answer["error"][0]["message"].as_str().unwrap()
}

fn fault_on(on: Call, kind: FaultKind) -> Fault {
    Fault {
        on,
        ..Fault::always(kind)
    }
}
