//! Scans of the tables, without the proxy.

use sandbox_broker::store::Item;

use super::event::{ClaimRow, EventKind, Row};
use crate::support::Pool;

fn text(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

fn number(item: &Item, name: &str) -> i64 {
    let number = item.get(name).and_then(|value| value.as_n().ok());
    number.map_or(0, |number| number.parse().unwrap())
}

fn row(item: &Item) -> Row {
    Row {
        sandbox: text(item, "sandbox_id").unwrap(),
        name: text(item, "name").unwrap(),
        external_id: text(item, "external_id").unwrap(),
        status: text(item, "status").unwrap(),
        caller: text(item, "allocated_to_track"),
        key: text(item, "idempotency_key"),
        allocated_at: number(item, "allocated_at"),
        lab: text(item, "track_name"),
        replaced_by: text(item, "replaced_by"),
        quarantined_by: text(item, "quarantined_by"),
        deletion_retry_count: u64::try_from(number(item, "deletion_retry_count")).unwrap(),
    }
}

fn claim(item: &Item) -> Option<ClaimRow> {
    Some(ClaimRow {
        caller: text(item, "caller")?,
        key: text(item, "key")?,
        sandbox: text(item, "sandbox_id")?,
        allocated_at: number(item, "allocated_at"),
    })
}

/// Reads the open creations of a pool: the name of each, and its state.
pub(super) async fn open_creations(pool: &Pool, prefix: &str) -> Vec<String> {
    let partition = format!("REFILL#{prefix}");
    let is_open = |item: &&Item| {
        let sort = text(item, "SK").unwrap_or_default();
        text(item, "PK").as_deref() == Some(&partition) && sort.starts_with("CREATE#")
    };
    let items = pool.items().await;
    let open = items.iter().filter(is_open).map(|item| {
        let (name, state) = (text(item, "name"), text(item, "state"));
        format!("{} {}", name.unwrap_or_default(), state.unwrap_or_default())
    });
    open.collect()
}

/// Reads the pool's table, and then the companion table.
pub(super) async fn table(pool: &Pool) -> EventKind {
    let (mut sandboxes, mut claims, mut tombstones) = (Vec::new(), Vec::new(), Vec::new());
    for item in pool.items().await {
        let (key, sort) = (text(&item, "PK").unwrap(), text(&item, "SK"));
        match key.split_once('#') {
            // Audit records of a sandbox have its key, and another sort key.
            Some(("SBX", _)) if sort.as_deref() == Some("META") => sandboxes.push(row(&item)),
            Some(("CLAIM", _)) => claims.extend(claim(&item)),
            Some(("TOMBSTONES", _)) => tombstones.extend(text(&item, "SK")),
            _ => {}
        }
    }
    EventKind::Table {
        sandboxes,
        claims,
        tombstones,
    }
}
