//! `table`: creates, migrates or converts the tables.

use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{TableCommand, print};
use crate::{
    app::Storage,
    clock::{Clock, SystemClock},
    config::Config,
    telemetry::metrics::Metrics,
};

/// Creates, migrates or converts the tables of `config`, and prints the result as one line of JSON.
///
/// # Errors
/// If the tables cannot be reached or changed, or if an existing one differs from the required schema.
pub async fn run(config: &Config, table: TableCommand) -> anyhow::Result<ExitCode> {
    let storage = Storage::open(config, Metrics::new()).await?;
    let name = &config.store.table.name;
    let context = || format!("table {name}");
    match table {
        TableCommand::Create => {
            let creation = storage.store.create_tables().await.with_context(context)?;
            let differences = storage.store.compare_tables().await.with_context(context)?;
            if !differences.is_empty() {
                let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
                bail!("table {name}: {}", differences.join("; "));
            }
            print(serde_json::json!({ "table": name, "result": creation }));
        }
        TableCommand::Migrate => {
            let migration = storage
                .store
                .migrate(config.terms, SystemClock.now())
                .await
                .with_context(context)?;
            print(serde_json::to_string(&migration)?);
        }
        TableCommand::ToFastapi => {
            let conversion = storage
                .store
                .convert_for_fastapi(&SystemClock)
                .await
                .with_context(context)?;
            if conversion.brokers_seen {
                tracing::warn!(
                    "a broker has counted the pool within the last minutes: as long as one runs, an operator can \
                     quarantine another sandbox; stop all brokers and run this again"
                );
            }
            print(serde_json::to_string(&conversion)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
