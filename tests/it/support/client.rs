//! An HTTP client of a broker, and the answers that it gets.

use std::time::Duration;

use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, IF_MATCH},
};
use serde_json::{Value, json};

use super::{ADMIN, TRACK};

/// An answer of the broker.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Returns the id of the sandbox in the answer.
    pub fn sandbox_id(&self) -> String {
        self.json()["sandbox_id"]
            .as_str()
            .unwrap_or_else(|| panic!("no sandbox: {self:?}"))
            .to_owned()
    }

    /// Returns the code of an error after checking that the error envelope is complete.
    pub fn code(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        assert_eq!(error, &body["detail"], "{self:?}");
        assert_eq!(
            error["request_id"].as_str(),
            self.header("x-request-id"),
            "{self:?}"
        );
        assert!(!error["message"].as_str().unwrap().is_empty(), "{self:?}");
        let retry_after = error["retry_after"]
            .as_u64()
            .map(|seconds| seconds.to_string());
        assert_eq!(
            retry_after.as_deref(),
            self.header("retry-after"),
            "{self:?}"
        );
        if matches!(self.status.as_u16(), 429 | 503) {
            assert!(retry_after.is_some(), "{self:?}");
        }
        error["code"].as_str().unwrap().to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// An HTTP client of one broker.
#[derive(Clone)]
pub struct BrokerClient {
    pub base: String,
    http: reqwest::Client,
}

impl BrokerClient {
    pub fn new(base: String) -> Self {
        Self {
            base,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request that must be answered.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let answer = request.send().await?;
        Ok(Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            text: answer.text().await?,
        })
    }

    fn track(&self, method: Method, path: &str, caller: &str) -> reqwest::RequestBuilder {
        self.request(method, path)
            .bearer_auth(TRACK)
            .header("X-Instruqt-Sandbox-ID", caller)
    }

    /// Prepares an allocate request.
    pub fn allocation(&self, caller: &str) -> reqwest::RequestBuilder {
        self.track(Method::POST, "/v1/allocate", caller)
    }

    pub async fn allocate(&self, caller: &str) -> Answer {
        self.send(self.allocation(caller)).await
    }

    /// Prepares an allocate request of a lab.
    pub fn allocation_in(&self, lab: &str, caller: &str) -> reqwest::RequestBuilder {
        let request = self.allocation(caller);
        request.header("X-Instruqt-Track-ID", lab)
    }

    pub async fn allocate_in(&self, lab: &str, caller: &str) -> Answer {
        self.send(self.allocation_in(lab, caller)).await
    }

    pub async fn release(&self, id: &str, caller: &str) -> Answer {
        self.send(self.track(
            Method::POST,
            &format!("/v1/sandboxes/{id}/mark-for-deletion"),
            caller,
        ))
        .await
    }

    /// Requests the extension of an allocation by its holder.
    pub async fn extend(&self, id: &str, caller: &str, minutes: u64) -> Answer {
        let path = format!("/v1/sandboxes/{id}/extend");
        let request = self.track(Method::POST, &path, caller);
        self.send(request.json(&json!({ "minutes": minutes })))
            .await
    }

    /// Prepares a replace request.
    pub fn replacement(&self, id: &str, caller: &str) -> reqwest::RequestBuilder {
        let path = format!("/v1/sandboxes/{id}/replace");
        let request = self.track(Method::POST, &path, caller);
        request.json(&json!({ "reason": "DNS does not resolve" }))
    }

    pub async fn replace(&self, id: &str, caller: &str) -> Answer {
        self.send(self.replacement(id, caller)).await
    }

    pub async fn get(&self, id: &str, caller: &str) -> Answer {
        self.send(self.track(Method::GET, &format!("/v1/sandboxes/{id}"), caller))
            .await
    }

    pub async fn list(&self, caller: &str) -> Answer {
        self.send(self.track(Method::GET, "/v1/sandboxes", caller))
            .await
    }

    pub async fn admin(&self, method: Method, path: &str) -> Answer {
        self.send(self.request(method, path).bearer_auth(ADMIN))
            .await
    }

    /// Requests an action of an operator on a sandbox.
    pub async fn act(&self, id: &str, action: &str, body: &Value) -> Answer {
        let path = format!("/v1/admin/sandboxes/{id}/{action}");
        let request = self.request(Method::POST, &path).bearer_auth(ADMIN);
        self.send(request.json(body)).await
    }

    /// Replaces version `from` of the policy, which must be in force, by `document`.
    pub async fn set_policy(&self, from: u64, document: &Value) {
        let request = self.request(Method::PUT, "/v1/admin/policy");
        let request = request.bearer_auth(ADMIN).header(IF_MATCH, from);
        let answer = self.send(request.json(document)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Runs a job to completion and returns its report.
    pub async fn job(&self, path: &str) -> Value {
        let answer = self.admin(Method::POST, &format!("/v1/admin/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Waits until no run is in progress, and returns the recent runs.
    pub async fn finished_runs(&self) -> Vec<Value> {
        loop {
            let body = self.admin(Method::GET, "/v1/admin/jobs").await.json();
            let runs = body["runs"].as_array().unwrap();
            if runs.iter().all(|run| run["state"] != "running") {
                return runs.clone();
            }
            // Stays below the rate limit of admins.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn stats(&self) -> Value {
        self.admin(Method::GET, "/v1/admin/stats").await.json()
    }

    pub async fn overview(&self) -> Value {
        let answer = self.admin(Method::GET, "/v1/admin/overview").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Sends a GET request without a token.
    pub async fn plain(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }
}

/// Returns the codes of the warnings in an overview.
pub fn warning_codes(overview: &Value) -> Vec<&str> {
    let warnings = overview["warnings"].as_array().unwrap();
    warnings
        .iter()
        .map(|warning| warning["code"].as_str().unwrap())
        .collect()
}
