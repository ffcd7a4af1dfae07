//! Counts the capacity units of calls, twice: by DynamoDB's published rules, from the items before and after each call,
//! and as the server reports them.
//!
//! Sources: "DynamoDB item sizes and formats", "Capacity unit consumption" in AWS's documentation.

use std::{collections::BTreeMap, io};

use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::call::{Answer, Call, Server};

/// The indexes and their partition keys.
pub const INDEXES: [(&str, &str); 3] = [
    ("StatusIndex", "status"),
    ("TrackIndex", "allocated_to_track"),
    ("IdempotencyIndex", "idempotency_key"),
];
/// The sort key of every index.
const SORT: &str = "allocated_at";
/// The resource that is not an index: both tables.
pub const TABLES: &str = "tables";
const WRITE_UNIT: usize = 1024;
const READ_UNIT: usize = 4096;

/// The origin of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Rules,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    Read,
    Write,
}

/// Calls and capacity units, by resource: the tables or an index.
#[derive(Clone, Debug, Default)]
pub struct Consumption {
    pub calls: usize,
    units: BTreeMap<(Source, Access, String), f64>,
}

impl Consumption {
    pub fn units(&self, source: Source, access: Access, resource: &str) -> f64 {
        let key = (source, access, resource.to_owned());
        self.units.get(&key).copied().unwrap_or(0.0)
    }

    fn add(&mut self, source: Source, access: Access, resource: &str, units: f64) {
        let key = (source, access, resource.to_owned());
        *self.units.entry(key).or_default() += units;
    }

    fn add_write(&mut self, old: Option<&Value>, new: Option<&Value>, is_transaction: bool) {
        // A transaction writes each item twice (prepare, commit), also for a condition check.
        let times = if is_transaction { 2.0 } else { 1.0 };
        let both = write_units([old, new]);
        self.add(Source::Rules, Access::Write, TABLES, both * times);
        for (index, partition) in INDEXES {
            let key = |item: Option<&Value>| {
                let item = item.filter(|item| item.get(partition).is_some())?;
                Some((item[partition].clone(), item[SORT].clone()))
            };
            let (from, to) = (key(old), key(new));
            let units = if from != to {
                // One write removes the old entry of the index, another one adds the new entry.
                let removed = from.map_or(0.0, |_| write_units([old]));
                removed + to.map_or(0.0, |_| write_units([new]))
            } else if from.is_some() && old != new {
                both
            } else {
                0.0
            };
            self.add(Source::Rules, Access::Write, index, units);
        }
    }

    /// Adds what the server reports in `ConsumedCapacity`.
    fn add_reported(&mut self, consumed: &Value, access: Access) {
        let parts = consumed.as_array().cloned();
        for part in parts.unwrap_or_else(|| vec![consumed.clone()]) {
            let units = |resource: &Value| resource["CapacityUnits"].as_f64().unwrap_or(0.0);
            self.add(Source::Server, access, TABLES, units(&part["Table"]));
            for (index, resource) in part["GlobalSecondaryIndexes"]
                .as_object()
                .into_iter()
                .flatten()
            {
                self.add(Source::Server, access, index, units(resource));
            }
        }
    }
}

/// The meter. It makes one call at a time, so that the items before and after a call differ by that call only.
#[derive(Default)]
pub(super) struct Meter(Mutex<Consumption>);

impl Meter {
    pub(super) async fn take(&self) -> Consumption {
        std::mem::take(&mut *self.0.lock().await)
    }

    /// Sends a call and counts it.
    pub(super) async fn send(&self, call: &Call, server: &Server) -> io::Result<Answer> {
        let mut consumption = self.0.lock().await;
        let mut body = call.json();
        let is_read = matches!(
            call.operation.as_str(),
            "BatchGetItem" | "GetItem" | "Query" | "Scan"
        );
        if !is_read && !call.is_write() {
            return server.send(call).await;
        }
        consumption.calls += 1;
        body["ReturnConsumedCapacity"] = "INDEXES".into();
        let keys = written_keys(&call.operation, &body);
        let before = items(call, server, &keys).await?;
        let answer = server.send(&call.with(&call.operation, &body)).await?;
        let after = items(call, server, &keys).await?;
        let answered: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let access = if is_read { Access::Read } else { Access::Write };
        consumption.add_reported(&answered["ConsumedCapacity"], access);
        if call.operation == "BatchGetItem" {
            let (keys, is_consistent) = batch(&body);
            let read = items(call, server, &keys).await?;
            // Each item is rounded up by itself.
            let units = read
                .iter()
                .map(|item| read_units(item.as_slice(), is_consistent));
            consumption.add(Source::Rules, Access::Read, TABLES, units.sum());
        } else if is_read {
            let read = match call.operation.as_str() {
                "GetItem" => vec![answered["Item"].clone()],
                operation => unfiltered(operation, call, &body, server).await?,
            };
            let resource = body["IndexName"].as_str().unwrap_or(TABLES);
            let is_consistent = body["ConsistentRead"] == true;
            let units = read_units(&read, is_consistent);
            consumption.add(Source::Rules, Access::Read, resource, units);
        }
        let is_transaction = call.operation == "TransactWriteItems";
        for (old, new) in before.iter().zip(&after) {
            consumption.add_write(old.as_ref(), new.as_ref(), is_transaction);
        }
        Ok(answer)
    }
}

/// Returns the keys of the items of a batch, and whether all of them are read consistently.
fn batch(body: &Value) -> (Vec<Value>, bool) {
    let (mut keys, mut is_consistent) = (Vec::new(), true);
    for (table, batch) in body["RequestItems"].as_object().into_iter().flatten() {
        is_consistent &= batch["ConsistentRead"] == true;
        let of_table = batch["Keys"].as_array().into_iter().flatten();
        keys.extend(of_table.map(|key| json!({ "TableName": table, "Key": key })));
    }
    (keys, is_consistent)
}

/// Returns the keys of the items that a call writes or checks.
fn written_keys(operation: &str, body: &Value) -> Vec<Value> {
    let key = |action: &Value| match action["Item"].as_object() {
        Some(item) => {
            json!({ "TableName": action["TableName"], "Key": { "PK": item["PK"], "SK": item["SK"] } })
        }
        None => json!({ "TableName": action["TableName"], "Key": action["Key"] }),
    };
    match operation {
        "TransactWriteItems" => body["TransactItems"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|action| action.as_object()?.values().next().map(key))
            .collect(),
        "PutItem" | "UpdateItem" | "DeleteItem" => vec![key(body)],
        _ => Vec::new(),
    }
}

/// Reads items, past the meter.
async fn items(call: &Call, server: &Server, keys: &[Value]) -> io::Result<Vec<Option<Value>>> {
    let mut items = Vec::with_capacity(keys.len());
    for key in keys {
        let mut get = key.clone();
        get["ConsistentRead"] = true.into();
        let answer = server.send(&call.with("GetItem", &get)).await?;
        let mut answer: Value = serde_json::from_slice(&answer.body)?;
        items.push(answer.get_mut("Item").map(Value::take));
    }
    Ok(items)
}

/// Returns all items that a query or scan reads, including those and the attributes that its answer leaves out.
async fn unfiltered(
    operation: &str,
    call: &Call,
    body: &Value,
    server: &Server,
) -> io::Result<Vec<Value>> {
    const SELECTING: [&str; 7] = [
        "TableName",
        "IndexName",
        "Limit",
        "ExclusiveStartKey",
        "ScanIndexForward",
        "ConsistentRead",
        "KeyConditionExpression",
    ];
    let mut full = Map::new();
    for name in SELECTING {
        full.extend(body.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let condition = body["KeyConditionExpression"].as_str().unwrap_or("");
    let words: Vec<_> = condition
        .split(|character: char| !(character.is_alphanumeric() || "#:_".contains(character)))
        .collect();
    for name in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
        let all = body[name].as_object().into_iter().flatten();
        let used: Map<_, _> = all
            .filter(|(key, _)| words.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !used.is_empty() {
            full.insert(name.to_owned(), used.into());
        }
    }
    let answer = server.send(&call.with(operation, &full.into())).await?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    Ok(answer["Items"].as_array().cloned().unwrap_or_default())
}

/// The size of an item in bytes.
pub fn item_size(item: &Value) -> usize {
    item.as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| name.len() + value_size(value))
        .sum()
}

fn value_size(value: &Value) -> usize {
    let Some((kind, content)) = value.as_object().and_then(|value| value.iter().next()) else {
        panic!("not an attribute value: {value}");
    };
    let text = content.as_str().unwrap_or_default();
    match kind.as_str() {
        "S" => text.len(),
        "N" => {
            let digits = text.trim_start_matches('-').replace('.', "");
            digits.trim_matches('0').len().div_ceil(2) + 1
        }
        "NULL" | "BOOL" => 1,
        "L" => {
            let parts = content.as_array().into_iter().flatten();
            3 + parts.map(|part| 1 + value_size(part)).sum::<usize>()
        }
        "M" => {
            let entries = content.as_object().into_iter().flatten();
            let sizes = entries.map(|(name, part)| 1 + name.len() + value_size(part));
            3 + sizes.sum::<usize>()
        }
        other => panic!("no rule for the size of type {other}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "units are small numbers")]
fn write_units<const N: usize>(items: [Option<&Value>; N]) -> f64 {
    let sizes = items.into_iter().flatten().map(item_size);
    sizes.max().unwrap_or(0).div_ceil(WRITE_UNIT).max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "units are small numbers")]
fn read_units(items: &[Value], is_consistent: bool) -> f64 {
    let size: usize = items.iter().map(item_size).sum();
    let units = size.div_ceil(READ_UNIT).max(1) as f64;
    if is_consistent { units } else { units / 2.0 }
}

#[test]
fn items_have_the_documented_sizes() {
    let item = json!({
        "PK": { "S": "ab" },
        "count": { "N": "-1200" },
        "flag": { "BOOL": true },
        "list": { "L": [{ "S": "a" }] },
        "map": { "M": { "k": { "NULL": true } } },
    });
    assert_eq!(
        item_size(&item),
        (2 + 2) + (5 + 2) + (4 + 1) + (4 + 5) + (3 + 6)
    );
}
