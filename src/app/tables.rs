//! The checks and the migration of the tables at the start.

use std::error::Error;

use super::{StartError, unusable};
use crate::{
    clock::Clock,
    config::Config,
    store::{Engine, PoolStore, SCHEMA_VERSION},
};

/// Compares the tables with the required schema, and migrates the pool's table if necessary.
pub(super) async fn prepare(
    config: &Config,
    store: &PoolStore,
    clock: &dyn Clock,
) -> Result<(), StartError> {
    let (check, version) = tokio::join!(check(config, store), store.schema_version());
    // First, because it says what to do about a table that does not exist.
    check?;
    let version = version.map_err(|source| unusable(config, source))?;
    migrate_from(version, config, store, clock).await
}

/// Compares the tables with the required schema. Without the permission to describe them, they are used as they are.
async fn check(config: &Config, store: &PoolStore) -> Result<(), StartError> {
    let differences = match store.compare_tables().await {
        Ok(differences) => differences,
        Err(error) => {
            let error = &error as &dyn Error;
            tracing::warn!(error, "tables not compared with the required schema");
            return Ok(());
        }
    };
    let (fatal, tolerable): (Vec<_>, Vec<_>) = differences
        .iter()
        .partition(|difference| difference.is_fatal);
    for difference in tolerable {
        tracing::warn!(%difference, "table differs from the required schema");
    }
    if fatal.is_empty() {
        return Ok(());
    }
    Err(StartError::Tables {
        table: config.store.table.name.clone(),
        differences: fatal.iter().map(ToString::to_string).collect(),
    })
}

/// Migrates the pool's table if it was written by the FastAPI service, which wrote no claims. The layout of an earlier
/// build is migrated only where no other process can use the table.
async fn migrate_from(
    version: Option<u32>,
    config: &Config,
    store: &PoolStore,
    clock: &dyn Clock,
) -> Result<(), StartError> {
    match version {
        Some(found) if found > SCHEMA_VERSION => Err(StartError::NewerSchema {
            table: config.store.table.name.clone(),
            found,
        }),
        Some(_) => Ok(()),
        None if config.store.engine != Engine::Embedded
            && store
                .has_earlier_layout()
                .await
                .map_err(|source| unusable(config, source))? =>
        {
            Err(StartError::EarlierLayout {
                table: config.store.table.name.clone(),
            })
        }
        None => {
            let migration = store
                .migrate(config.terms, clock.now())
                .await
                .map_err(|source| unusable(config, source))?;
            tracing::info!(
                allocated = migration.allocated,
                claims_written = migration.claims_written,
                moved = migration.moved,
                duplicates = migration.duplicates,
                inherited = migration.inherited,
                unreadable = migration.unreadable,
                "table migrated"
            );
            Ok(())
        }
    }
}
