//! Fills a table without the broker.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    types::{AttributeValue, PutRequest, WriteRequest},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::csp;

/// What `BatchWriteItem` takes.
const BATCH: usize = 25;
const AT_ONCE: usize = 4;

pub fn client(endpoint: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "loopback"))
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

/// Writes `size` available sandboxes, as a sync would.
pub async fn fill(client: &Client, table: &str, size: usize, now: i64) -> Result<()> {
    let starts: Vec<_> = (0..size).step_by(BATCH).collect();
    stream::iter(starts)
        .map(|start| write(client, table, start..size.min(start + BATCH), now))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

async fn write(
    client: &Client,
    table: &str,
    numbers: std::ops::Range<usize>,
    now: i64,
) -> Result<()> {
    let requests = numbers
        .map(|number| {
            let put = PutRequest::builder()
                .set_item(Some(sandbox(number, now)))
                .build()?;
            Ok(WriteRequest::builder().put_request(put).build())
        })
        .collect::<Result<Vec<_>>>()?;
    let answer = client
        .batch_write_item()
        .request_items(table, requests)
        .send()
        .await?;
    ensure!(
        answer.unprocessed_items().is_none_or(HashMap::is_empty),
        "the engine did not take all"
    );
    Ok(())
}

fn sandbox(number: usize, now: i64) -> HashMap<String, AttributeValue> {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let integer = |value: i64| AttributeValue::N(value.to_string());
    let csp::Account { csp_id, name, id } = csp::account(number);
    [
        ("PK", text(&format!("SBX#{csp_id}"))),
        ("SK", text("META")),
        ("sandbox_id", text(&csp_id.to_string())),
        ("name", text(&name)),
        ("external_id", text(&id)),
        ("status", text("available")),
        ("allocated_at", integer(0)),
        ("lab_duration_hours", integer(4)),
        ("deletion_retry_count", integer(0)),
        // What `csp::CREATED_AT` says.
        ("created_at", integer(1_735_689_600)),
        ("updated_at", integer(now)),
        ("last_synced", integer(now)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
