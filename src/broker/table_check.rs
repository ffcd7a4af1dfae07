//! The readiness check that the tables have the schema that the broker requires.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::store::PoolStore;

/// How long a result is returned for further checks. Tables rarely change, and AWS limits how often they are described.
const FRESH_FOR: Duration = Duration::from_mins(10);
/// The same, while something differs.
const FAULT_FRESH_FOR: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Compares the tables with the required schema, at most once in an interval.
#[derive(Debug)]
pub(super) struct TableCheck {
    store: PoolStore,
    last: Mutex<(Instant, Result<(), String>)>,
}

impl TableCheck {
    /// Creates a check of `store`, whose tables were compared at the start.
    pub(super) fn new(store: PoolStore) -> Self {
        Self {
            store,
            last: Mutex::new((Instant::now(), Ok(()))),
        }
    }

    /// Returns the last result, or compares the tables again. If they cannot be compared, the last result remains.
    ///
    /// # Errors
    /// The differences, and the remedy of each.
    pub(super) async fn result(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        let (at, result) = &mut *last;
        let fresh_for = match result {
            Ok(()) => FRESH_FOR,
            Err(_) => FAULT_FRESH_FOR,
        };
        if at.elapsed() >= fresh_for {
            if let Ok(Ok(differences)) = timeout(TIMEOUT, self.store.compare_tables()).await {
                let fatal = differences.iter().filter(|difference| difference.is_fatal);
                let fatal: Vec<_> = fatal.map(ToString::to_string).collect();
                *result = if fatal.is_empty() {
                    Ok(())
                } else {
                    Err(fatal.join("; "))
                };
            }
            *at = Instant::now();
        }
        result.clone()
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;
    use crate::{
        store::{Engine, StoreConfig, TableNames, embedded::EmbeddedEngine},
        telemetry::metrics::Metrics,
    };

    /// Makes the last result old enough to compare the tables again.
    async fn result_later(check: &TableCheck, by: Duration) -> Result<(), String> {
        check.last.lock().await.0 -= by;
        check.result().await
    }

    #[tokio::test]
    async fn result_is_cached_for_minutes_and_then_follows_the_tables() {
        let config = StoreConfig {
            engine: Engine::Embedded,
            data_dir: "unused".into(),
            table: TableNames {
                name: "Pool".into(),
                companion: "Pool-companion".into(),
                status_index: "StatusIndex".into(),
                track_index: "TrackIndex".into(),
                idempotency_index: "IdempotencyIndex".into(),
            },
            endpoint: None,
            region: "us-east-1".into(),
            inherited_hours: 48,
        };
        let engine = EmbeddedEngine::in_memory().unwrap();
        let store = PoolStore::embedded(&config, &engine, Metrics::new()).await;
        let check = TableCheck::new(store.clone());
        assert_eq!(check.result().await, Ok(()), "as compared at the start");
        let missing = result_later(&check, FRESH_FOR).await.unwrap_err();
        assert!(
            missing.contains("the pool's table does not exist"),
            "{missing}"
        );
        assert!(
            missing.contains("the companion table does not exist"),
            "{missing}"
        );
        store.create_tables().await.unwrap();
        assert!(check.result().await.is_err());
        assert_eq!(result_later(&check, FAULT_FRESH_FOR).await, Ok(()));
    }
}
