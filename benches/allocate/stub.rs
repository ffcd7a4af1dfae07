//! A stub of DynamoDB that does only what an allocation needs, so that the cost of the rest becomes visible.
//!
//! It keeps the numbers of the available sandboxes and the claims, without the guarantees of a database.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use axum::body::{Body, Bytes, to_bytes};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    process::wait_for_parent,
    sandbox::{external_id, name, sandbox_id},
};

/// Sandboxes per page, about as many as DynamoDB puts on a page of 1 MB.
const PAGE: usize = 2_000;

#[derive(Default)]
struct Table {
    available: BTreeSet<usize>,
    /// The claim item of each key.
    claims: HashMap<String, Value>,
    /// The expression values of each allocated sandbox's update, by its number.
    holders: HashMap<usize, Value>,
}

#[derive(Default)]
struct Stub {
    tables: Mutex<HashMap<String, Table>>,
    /// The expressions of all allocations: the broker and the bare SDK must use the same.
    expressions: Mutex<HashSet<String>>,
    latency: Duration,
}

/// An operation of the stub only, which adds sandboxes.
const GROW: &str = "Grow";

/// Adds the sandboxes with these numbers to a table of the stub at `endpoint`.
pub async fn grow(endpoint: &str, table: &str, from: usize, to: usize) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    http.post(endpoint)
        .header("x-amz-target", GROW)
        .json(&json!({ "TableName": table, "From": from, "To": to }))
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}

/// The entry point of the stub's process.
pub fn serve(latency_ms: u64) -> Result<()> {
    let stub = Arc::new(Stub {
        latency: Duration::from_millis(latency_ms),
        ..Stub::default()
    });
    // One thread, to leave the cores to the measured processes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    println!("http://{}", listener.local_addr()?);
    std::thread::spawn(|| {
        let _ = wait_for_parent();
        std::process::exit(0);
    });
    runtime.block_on(async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let stub = Arc::clone(&stub);
            tokio::spawn(async move {
                let answer = service_fn(|request| answer(Arc::clone(&stub), request));
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await
            });
        }
    })
}

async fn answer(stub: Arc<Stub>, request: Request<Incoming>) -> Result<Response<Body>> {
    let operation = request
        .headers()
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok()?.rsplit('.').next())
        .unwrap_or_default()
        .to_owned();
    let body = to_bytes(Body::new(request.into_body()), usize::MAX).await?;
    if !stub.latency.is_zero() {
        tokio::time::sleep(stub.latency).await;
    }
    let (status, text) = stub.answer(&operation, &body);
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0")
        .body(Body::from(text))?)
}

impl Stub {
    fn answer(&self, operation: &str, body: &Bytes) -> (StatusCode, String) {
        let Ok(input) = serde_json::from_slice::<Value>(body) else {
            return rejection("SerializationException", &json!([]));
        };
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let table_of = |input: &Value| input["TableName"].as_str().unwrap_or_default().to_owned();
        match operation {
            "TransactWriteItems" => {
                let update = &input["TransactItems"][0]["Update"];
                let put = &input["TransactItems"][1]["Put"];
                self.check_expressions(update, put);
                // The claim of an allocation is kept with its sandbox, although it is for the companion table.
                tables
                    .entry(table_of(update))
                    .or_default()
                    .allocate(update, put)
            }
            GROW => {
                let of =
                    |name: &str| usize::try_from(input[name].as_u64().unwrap_or(0)).unwrap_or(0);
                let available = &mut tables.entry(table_of(&input)).or_default().available;
                available.extend(of("From")..of("To"));
                ok(&json!({}))
            }
            "GetItem" => tables
                .entry(table_of(&input))
                .or_default()
                .get(&input["Key"]["PK"]),
            "Query" => tables.entry(table_of(&input)).or_default().query(&input),
            _ => rejection("UnknownOperationException", &json!([])),
        }
    }

    /// Panics if the expressions differ from those of earlier allocations.
    fn check_expressions(&self, update: &Value, put: &Value) {
        let mut known = self
            .expressions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let expressions = [
            &update["ConditionExpression"],
            &update["UpdateExpression"],
            &put["ConditionExpression"],
        ];
        let text = expressions.map(Value::to_string).join(" | ");
        if !known.contains(&text) {
            assert!(
                known.is_empty(),
                "the broker and the bare SDK differ: {known:?}, {text}"
            );
            known.insert(text);
        }
    }
}

impl Table {
    fn allocate(&mut self, update: &Value, put: &Value) -> (StatusCode, String) {
        let key = put["Item"]["PK"]["S"].as_str().unwrap_or_default();
        if let Some(claim) = self.claims.get(key) {
            let reasons = json!([
                { "Code": "None" },
                { "Code": "ConditionalCheckFailed", "Item": claim, "Message": "rejected" },
            ]);
            return rejection("TransactionCanceledException", &reasons);
        }
        let Some(number) = number(&update["Key"]["PK"]).filter(|n| self.available.remove(n)) else {
            let reasons = json!([
                { "Code": "ConditionalCheckFailed", "Message": "rejected" },
                { "Code": "None" },
            ]);
            return rejection("TransactionCanceledException", &reasons);
        };
        self.claims.insert(key.to_owned(), put["Item"].clone());
        self.holders
            .insert(number, update["ExpressionAttributeValues"].clone());
        ok(&json!({}))
    }

    fn get(&self, key: &Value) -> (StatusCode, String) {
        if key["S"] == "SCHEMA" {
            return ok(&json!({ "Item": {
                "PK": { "S": "SCHEMA" }, "SK": { "S": "SCHEMA" }, "version": { "N": "2" },
            }}));
        }
        let held = number(key).and_then(|number| Some((number, self.holders.get(&number)?)));
        let Some((number, by)) = held else {
            return ok(&json!({}));
        };
        let mut item: Value = serde_json::from_str(&available(number)).unwrap_or_default();
        item["status"] = by[":to"].clone();
        item["allocated_to_track"] = by[":caller"].clone();
        item["idempotency_key"] = by[":key"].clone();
        item["allocated_at"] = by[":now"].clone();
        item["expires_at"] = by[":end"].clone();
        ok(&json!({ "Item": item }))
    }

    /// A page of the available sandboxes. Queries of other statuses and indexes return nothing.
    fn query(&self, input: &Value) -> (StatusCode, String) {
        let values = input["ExpressionAttributeValues"].as_object();
        let is_of_available = values
            .into_iter()
            .flat_map(serde_json::Map::values)
            .any(|value| value["S"] == "available");
        if input["IndexName"] != "StatusIndex" || !is_of_available {
            return ok(&json!({ "Items": [], "Count": 0, "ScannedCount": 0 }));
        }
        let from = number(&input["ExclusiveStartKey"]["PK"]).map_or(0, |number| number + 1);
        let limit = input["Limit"].as_u64().unwrap_or(u64::MAX);
        let size = usize::try_from(limit).unwrap_or(PAGE).min(PAGE);
        let page: Vec<usize> = self.available.range(from..).take(size).copied().collect();
        let (count, items) = (page.len(), page.iter().map(|number| available(*number)));
        let items: Vec<String> = items.collect();
        let last = page.last().filter(|_| count == size).map(|last| {
            let key = format!(r#"{{"PK":{{"S":"SBX#{}"}},"SK":{{"S":"META"}}"#, sandbox_id(*last));
            format!(r#","LastEvaluatedKey":{key},"status":{{"S":"available"}},"allocated_at":{{"N":"0"}}}}"#)
        });
        let answer = format!(
            r#"{{"Count":{count},"ScannedCount":{count},"Items":[{}]{}}}"#,
            items.join(","),
            last.unwrap_or_default()
        );
        (StatusCode::OK, answer)
    }
}

/// An available sandbox as JSON, formatted as text: a scan must cost the stub little CPU time, since DynamoDB's scans
/// do not slow its clients.
fn available(number: usize) -> String {
    let (id, name, external_id) = (sandbox_id(number), name(number), external_id(number));
    format!(
        r#"{{"PK":{{"S":"SBX#{id}"}},"SK":{{"S":"META"}},"sandbox_id":{{"S":"{id}"}},"name":{{"S":"{name}"}},"external_id":{{"S":"{external_id}"}},"status":{{"S":"available"}},"allocated_at":{{"N":"0"}}}}"#
    )
}

/// The number in a sandbox's key.
fn number(key: &Value) -> Option<usize> {
    key["S"]
        .as_str()?
        .strip_prefix("SBX#sandbox-")?
        .parse()
        .ok()
}

fn ok(body: &Value) -> (StatusCode, String) {
    (StatusCode::OK, body.to_string())
}

fn rejection(name: &str, reasons: &Value) -> (StatusCode, String) {
    let body = json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{name}"),
        "message": "rejected",
        "CancellationReasons": reasons,
    });
    (StatusCode::BAD_REQUEST, body.to_string())
}
