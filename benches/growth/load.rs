//! Fills a table of the embedded engine directly: a sync would take many minutes, and the broker rejects lists of
//! accounts as long as that.

use std::path::Path;

use anyhow::Result;
use dynoxide::{Database, ImportOptions};
use serde_json::json;

use crate::csp;

const CHUNK: usize = 10_000;

/// Writes `size` available sandboxes, as a sync would, into the table that a broker has created in `data`.
pub fn fill(data: &Path, table: &str, size: usize, now: i64) -> Result<()> {
    let path = data.join("pool.sqlite");
    let database = Database::new(&path.to_string_lossy())?;
    database.enable_bulk_loading()?;
    for start in (0..size).step_by(CHUNK) {
        let items = (start..size.min(start + CHUNK))
            .map(|number| Ok(serde_json::from_value(sandbox(number, now))?))
            .collect::<Result<Vec<_>>>()?;
        database.import_items(table, items, ImportOptions::default())?;
    }
    database.disable_bulk_loading()?;
    Ok(())
}

/// The item of a sandbox in the JSON of the DynamoDB API.
fn sandbox(number: usize, now: i64) -> serde_json::Value {
    let csp::Account { csp_id, name, id } = csp::account(number);
    let now = now.to_string();
    json!({
        "PK": { "S": format!("SBX#{csp_id}") },
        "SK": { "S": "META" },
        "sandbox_id": { "S": csp_id.to_string() },
        "name": { "S": name },
        "external_id": { "S": id },
        "status": { "S": "available" },
        "allocated_at": { "N": "0" },
        "lab_duration_hours": { "N": "4" },
        "deletion_retry_count": { "N": "0" },
        // `csp::CREATED_AT` in seconds.
        "created_at": { "N": "1735689600" },
        "updated_at": { "N": now },
        "last_synced": { "N": now },
    })
}
