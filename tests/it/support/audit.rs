//! The audit records in the companion table.

use std::collections::BTreeMap;

use sandbox_broker::store::Item;
use serde_json::{Value, json};

use super::Pool;

/// Returns the records of the actions that were done to a sandbox, oldest first, after checking that each is stored under
/// its day as well.
pub async fn done_to(pool: &Pool, id: &str) -> Vec<Value> {
    let target = format!("sandbox/{id}");
    let mut records = done(pool).await.remove(&target).unwrap_or_default();
    records.sort_by_key(|record| record["at_ms"].as_i64());
    records
}

/// Returns the records of the done actions whose names begin with `prefix`, in the order of their keys.
pub async fn done_actions(pool: &Pool, prefix: &str) -> Vec<Value> {
    let mut items = pool.items_of(&pool.companion).await;
    items.retain(|item| {
        let is_by_day = item["PK"].as_s().unwrap().starts_with("AUDIT#");
        let action = text(item, "action");
        let has_prefix = action.as_str().is_some_and(|it| it.starts_with(prefix));
        is_by_day && has_prefix && text(item, "outcome") == "done"
    });
    items.sort_by_key(|item| item["SK"].as_s().unwrap().clone());
    items.iter().map(record).collect()
}

/// Returns the records of the actions that were done to sandboxes, by target.
pub async fn done(pool: &Pool) -> BTreeMap<String, Vec<Value>> {
    let (mut by_day, mut by_sandbox) = (Vec::new(), Vec::new());
    for item in pool.items_of(&pool.companion).await {
        let key = item["PK"].as_s().unwrap();
        let is_done = text(&item, "outcome") == "done";
        let is_of_a_sandbox = text(&item, "target")
            .as_str()
            .unwrap_or("")
            .starts_with("sandbox/");
        if is_done && is_of_a_sandbox {
            let records = if key.starts_with("AUDIT#") {
                &mut by_day
            } else {
                &mut by_sandbox
            };
            records.push((
                item["SK"].as_s().unwrap().replace("EVENT#", ""),
                record(&item),
            ));
        }
    }
    let sort = |records: &mut Vec<(String, Value)>| records.sort_by(|a, b| a.0.cmp(&b.0));
    sort(&mut by_day);
    sort(&mut by_sandbox);
    assert_eq!(by_day, by_sandbox);
    let mut done: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, record) in by_sandbox {
        let target = record["target"].as_str().unwrap().to_owned();
        done.entry(target).or_default().push(record);
    }
    done
}

fn text(item: &Item, name: &str) -> Value {
    let text = item.get(name).and_then(|value| value.as_s().ok());
    text.map_or(Value::Null, |text| text.as_str().into())
}

fn record(item: &Item) -> Value {
    let state = |name: &str| {
        let text = text(item, name);
        text.as_str()
            .map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    };
    let at_ms: i64 = item["at_ms"].as_n().unwrap().parse().unwrap();
    json!({
        "at_ms": at_ms, "actor": text(item, "actor"), "role": text(item, "role"), "action": text(item, "action"),
        "target": text(item, "target"), "reason": text(item, "reason"), "before": state("before"),
        "after": state("after"), "request_id": text(item, "request_id"),
    })
}
