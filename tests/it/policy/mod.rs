//! The policy: its API, its versions, races of writers, and faults of the table.

mod api;
mod documents;
mod in_force;
mod outages;
mod races;
mod schedules;
mod versions;

use std::fmt::Write;

use reqwest::{Method, RequestBuilder, header};
use serde_json::{Value, json};

use crate::support::{ADMIN, Answer, BrokerClient};

const POLICY: &str = "/v1/admin/policy";

fn request(client: &BrokerClient, method: Method, path: &str) -> RequestBuilder {
    let path = format!("{POLICY}{path}");
    client.request(method, &path).bearer_auth(ADMIN)
}

/// Prepares a change that was made from version `from`.
fn change(client: &BrokerClient, from: u32, document: &Value) -> RequestBuilder {
    request(client, Method::PUT, "")
        .header(header::IF_MATCH, format!("\"{from}\""))
        .json(document)
}

/// Prepares a change with a parameter in its query.
fn change_with(
    client: &BrokerClient,
    from: u32,
    document: &Value,
    (name, value): (&str, &str),
) -> RequestBuilder {
    let value = value.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02X}");
        text
    });
    request(client, Method::PUT, &format!("?{name}={value}"))
        .header(header::IF_MATCH, from)
        .json(document)
}

async fn put(client: &BrokerClient, from: u32, document: &Value) -> Answer {
    client.send(change(client, from, document)).await
}

/// Changes the policy, and returns the answer.
async fn set(client: &BrokerClient, from: u32, document: &Value) -> Value {
    let answer = put(client, from, document).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn get(client: &BrokerClient, path: &str) -> Answer {
    client.send(request(client, Method::GET, path)).await
}

/// Returns the policy in the table.
async fn current(client: &BrokerClient) -> Value {
    let answer = get(client, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Returns a document that states the duration of one lab.
fn document(minutes: u32) -> Value {
    json!({ "lab": [{ "id": "cloud-101", "duration_minutes": minutes }] })
}

/// Returns the policy in force in this broker, as its overview shows it.
async fn status(client: &BrokerClient) -> Value {
    client.overview().await["policy"].clone()
}
