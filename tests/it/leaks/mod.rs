//! Leaks: the histories of labs, the allocations whose play is likely over, and their release in one go.

mod history;
mod listing;
mod release;

use std::time::Duration;

use reqwest::Method;
use sandbox_broker::domain::{LabId, SandboxId};
use serde_json::{Value, json};

use crate::support::{ADMIN, Answer, BrokerClient, Pool, START, TestBroker};

const LAB: &str = "dns-101";
const MINUTE: Duration = Duration::from_mins(1);

/// Returns the body of a page of leaks.
async fn page(client: &BrokerClient, query: &str) -> Value {
    let path = format!("/v1/admin/leaks{query}");
    let answer = client.admin(Method::GET, &path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Returns the ids of the leaks on a page.
fn ids(page: &Value) -> Vec<&str> {
    let leaks = page["leaks"].as_array().unwrap().iter();
    leaks
        .map(|leak| leak["sandbox_id"].as_str().unwrap())
        .collect()
}

/// Adds plays that released their sandboxes after so many minutes to the history of a lab.
async fn add_plays(pool: &Pool, lab: &str, minutes: u32) {
    let duration = |number| {
        (
            SandboxId::parse(format!("{number}")).unwrap(),
            MINUTE * minutes,
        )
    };
    let durations: Vec<_> = (0..40).map(duration).collect();
    let lab = LabId::parse(lab).unwrap();
    pool.store
        .add_durations(&lab, &durations, START)
        .await
        .unwrap();
}

/// Allocates a sandbox in a lab, and returns its id.
async fn allocate(broker: &TestBroker, lab: &str, caller: &str) -> String {
    let answer = broker.client.allocate_in(lab, caller).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.sandbox_id()
}

/// Requests the release of allocations.
async fn release(client: &BrokerClient, allocations: &Value) -> Answer {
    let request = client.request(Method::POST, "/v1/admin/leaks/release");
    let body = json!({ "reason": "the class is over", "allocations": allocations });
    client.send(request.bearer_auth(ADMIN).json(&body)).await
}
