//! Reads whose result concurrent requests share.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;

use crate::store::StoreError;

/// The shortest time from the start of a read to that of the next one.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// A read that is made by one request at a time.
#[derive(Debug, Default)]
pub(super) struct SharedRead(Arc<Mutex<LastRead>>);

#[derive(Debug, Default)]
struct LastRead {
    began: Option<Instant>,
    /// When it ended, if it failed.
    failed: Option<Instant>,
}

impl SharedRead {
    /// Returns once `is_done`, after a read by this request or another one. Reads run on `tasks`, so that the time-out of
    /// a request does not end a read for which others wait.
    ///
    /// # Errors
    /// [`StoreError`] if the read failed.
    pub(super) async fn until<R>(
        &self,
        is_done: impl Fn() -> bool + Send,
        tasks: &TaskTracker,
        read: impl FnOnce() -> R + Send,
    ) -> Result<(), StoreError>
    where
        R: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let waiting_since = Instant::now();
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if is_done() {
            return Ok(());
        }
        if last.failed.is_some_and(|at| at >= waiting_since) {
            return Err(StoreError::shared("Query"));
        }
        if let Some(began) = last.began {
            sleep_until(began + INTERVAL).await;
        }
        let read = read();
        let task = tasks.spawn(async move {
            last.began = Some(Instant::now());
            let result = read.await;
            last.failed = result.is_err().then(Instant::now);
            result
        });
        task.await
            .unwrap_or_else(|_| Err(StoreError::shared("Query")))
    }
}
