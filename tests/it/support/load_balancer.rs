//! A load balancer that signs people in, as the broker sees it: the headers that it adds, and the endpoint of its keys.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{
    BrokerClient,
    signer::{CLIENT_ID, ISSUER, SIGNER_ARN, TokenSigner},
};

/// The answer of the endpoint for one key.
#[derive(Clone)]
pub enum KeyAnswer {
    Pem(String),
    Status(u16),
    RedirectTo(String),
}

impl IntoResponse for KeyAnswer {
    fn into_response(self) -> Response {
        match self {
            Self::Pem(text) => text.into_response(),
            Self::Status(code) => StatusCode::from_u16(code).unwrap().into_response(),
            Self::RedirectTo(url) => Redirect::temporary(&url).into_response(),
        }
    }
}

#[derive(Clone, Default)]
struct Endpoint {
    keys: Arc<Mutex<HashMap<String, KeyAnswer>>>,
    fetches: Arc<AtomicUsize>,
}

pub struct LoadBalancer {
    pub signer: TokenSigner,
    pub keys_url: String,
    endpoint: Endpoint,
}

impl LoadBalancer {
    pub async fn start() -> Self {
        let endpoint = Endpoint::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keys_url = format!("http://{}/keys", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/keys/{id}", get(answer))
            .with_state(endpoint.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let load_balancer = Self {
            signer: TokenSigner::new(),
            keys_url,
            endpoint,
        };
        load_balancer.publish(&load_balancer.signer);
        load_balancer
    }

    /// Publishes the key of a signer.
    pub fn publish(&self, signer: &TokenSigner) {
        self.answer_with(&signer.key_id, KeyAnswer::Pem(signer.pem().to_owned()));
    }

    pub fn answer_with(&self, key_id: &str, answer: KeyAnswer) {
        let mut keys = self.endpoint.keys.lock().unwrap();
        keys.insert(key_id.to_owned(), answer);
    }

    /// The number of requests that the endpoint has received.
    pub fn fetches(&self) -> usize {
        self.endpoint.fetches.load(Ordering::SeqCst)
    }

    /// The settings of a broker behind this load balancer.
    pub fn settings(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("ALB_OIDC_SIGNER_ARN", SIGNER_ARN),
            ("ALB_OIDC_ISSUER", ISSUER),
            ("ALB_OIDC_CLIENT_ID", CLIENT_ID),
            ("ALB_OIDC_KEYS_URL", &self.keys_url),
            ("ALB_OIDC_ADMINS", "email:ada@example.com"),
            ("ALB_OIDC_OPERATORS", "group:platform-team"),
            ("ALB_OIDC_VIEWERS", "group:support, email:vic@example.com"),
        ]
    }
}

async fn answer(State(endpoint): State<Endpoint>, Path(id): Path<String>) -> KeyAnswer {
    endpoint.fetches.fetch_add(1, Ordering::SeqCst);
    let keys = endpoint.keys.lock().unwrap();
    // As S3 answers requests for objects that do not exist.
    keys.get(&id).cloned().unwrap_or(KeyAnswer::Status(403))
}

/// The claims of a person.
pub fn person(email: &str, groups: &[&str]) -> Value {
    json!({
        "sub": format!("sub-of-{email}"),
        "email": email,
        "email_verified": true,
        "groups": groups,
    })
}

impl BrokerClient {
    /// Prepares a request of the dashboard as it arrives from a load balancer that has signed somebody in.
    pub fn signed_in(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.request(method, path)
            .header("x-amzn-oidc-data", token)
            .header("Sec-Fetch-Site", "same-origin")
    }
}
