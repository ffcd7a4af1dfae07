//! A server with the answers of a broker that a test cannot obtain from a real one.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
};
use serde_json::Value;
use tokio::net::TcpListener;

/// Starts a server that gives these answers in turn, and the last one to all further requests. Returns its URL, and the
/// requests that it receives.
pub(super) async fn fake_broker(answers: Vec<(u16, Value)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&requests);
    let answer = move |method: Method, uri: Uri| {
        let mut received = received.lock().unwrap();
        let (status, body) = &answers[received.len().min(answers.len() - 1)];
        received.push(format!("{method} {uri}"));
        let answer = (StatusCode::from_u16(*status).unwrap(), body.to_string());
        async move { answer }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = axum::serve(listener, Router::new().fallback(answer));
    tokio::spawn(server.into_future());
    (url, requests)
}
