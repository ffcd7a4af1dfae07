//! The readiness check: whether the database answers.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::store::PoolStore;

/// How long a result is returned for further checks.
const FRESH_FOR: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A check of the database that reads it at most once a second.
#[derive(Debug)]
pub struct Readiness {
    store: PoolStore,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    /// Creates a check that reads `store`.
    #[must_use]
    pub fn new(store: PoolStore) -> Self {
        Self {
            store,
            last: Mutex::default(),
        }
    }

    /// Checks the database, or returns the result of a check less than a second ago.
    ///
    /// # Errors
    /// A text that describes the failure.
    pub async fn check(self: Arc<Self>) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < FRESH_FOR
        {
            return result.clone();
        }
        let result = match tokio::time::timeout(CHECK_TIMEOUT, self.store.schema_version()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", CHECK_TIMEOUT.as_secs())),
        };
        *last = Some((Instant::now(), result.clone()));
        result
    }
}
