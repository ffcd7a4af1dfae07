//! `table`: creates or migrates the table.

use std::process::ExitCode;

use anyhow::Context;

use super::{Table, print};
use crate::{
    app::Storage,
    clock::{Clock, SystemClock},
    config::Config,
    telemetry::metrics::Metrics,
};

/// Creates or migrates the table of `config`, and prints the result as one line of JSON.
///
/// # Errors
/// If the table cannot be reached or changed.
pub async fn run(config: &Config, table: Table) -> anyhow::Result<ExitCode> {
    let storage = Storage::open(config, Metrics::new()).await?;
    let name = &config.store.table.name;
    match table {
        Table::Create => {
            let creation = storage
                .store
                .create_tables()
                .await
                .with_context(|| format!("table {name}"))?;
            print(serde_json::json!({ "table": name, "result": creation }));
        }
        Table::Migrate => {
            let migration = storage
                .store
                .migrate(config.terms, SystemClock.now())
                .await
                .with_context(|| format!("table {name}"))?;
            print(serde_json::to_string(&migration)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
