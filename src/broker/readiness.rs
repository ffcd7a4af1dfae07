//! The readiness checks: whether the broker can serve requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::table_check::TableCheck;
use crate::{
    clock::Clock,
    store::{Engine, PoolStore, StoreError},
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// How long the result of a read is returned for further checks.
const READ_FRESH_FOR: Duration = Duration::from_secs(1);
/// How long the result of a write is returned for further checks. A write costs more than a read.
const WRITE_FRESH_FOR: Duration = Duration::from_secs(10);

/// The name of a check, and its result or a text that describes the failure.
type Check = (&'static str, Result<(), String>);

/// Checks whether the broker can serve requests.
#[derive(Debug)]
pub struct Readiness {
    store: PoolStore,
    engine: Engine,
    clock: Arc<dyn Clock>,
    read: CachedCheck,
    write: CachedCheck,
    tables: TableCheck,
    is_stopping: AtomicBool,
}

impl Readiness {
    /// Creates checks of `store`, which is on `engine`.
    #[must_use]
    pub fn new(store: PoolStore, engine: Engine, clock: Arc<dyn Clock>) -> Self {
        Self {
            tables: TableCheck::new(store.clone()),
            store,
            engine,
            clock,
            read: CachedCheck::new(READ_FRESH_FOR),
            write: CachedCheck::new(WRITE_FRESH_FOR),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// From now on the broker is not ready, because it is about to stop.
    pub fn announce_stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Returns the result of each check.
    pub async fn check(self: Arc<Self>) -> Vec<Check> {
        let read = async { self.store.schema_version().await.map(drop) };
        let mut checks = vec![
            ("dynamodb", self.read.result(read).await),
            ("tables", self.tables.result().await),
        ];
        // DynamoDB has no disk that could be full; the writes would cost money and show nothing.
        if self.engine == Engine::Embedded {
            let write = self.store.probe_write(self.clock.now());
            let result = self.write.result(write).await.map_err(|fault| {
                format!("the disk of DATA_DIR cannot be written; it may be full: {fault}")
            });
            checks.push(("disk", result));
        }
        if self.is_stopping.load(Ordering::Relaxed) {
            checks.push(("shutdown", Err("the broker is stopping".to_owned())));
        }
        checks
    }
}

/// A check that runs at most once in an interval, however often its result is requested.
#[derive(Debug)]
struct CachedCheck {
    fresh_for: Duration,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl CachedCheck {
    fn new(fresh_for: Duration) -> Self {
        Self {
            fresh_for,
            last: Mutex::default(),
        }
    }

    /// Returns the last result, or runs `check` if that is not fresh.
    async fn result(
        &self,
        check: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < self.fresh_for
        {
            return result.clone();
        }
        let result = match timeout(TIMEOUT, check).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        *last = Some((Instant::now(), result.clone()));
        result
    }
}
