//! The threads on which forecasts are computed.

use std::{future::pending, panic::resume_unwind, sync::Arc};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Computes forecasts on threads that may block, one at a time. They never wait for anything, so they would occupy a
/// thread of the runtime, and several at a time the cores of a small task.
#[derive(Debug)]
pub(in crate::jobs) struct Computation {
    tasks: TaskTracker,
    slot: Arc<Semaphore>,
}

impl Computation {
    /// Creates a computation whose tasks are on `tasks`.
    pub(in crate::jobs) fn new(tasks: TaskTracker) -> Self {
        Self {
            tasks,
            slot: Arc::new(Semaphore::new(1)),
        }
    }

    /// Returns the result of `compute`. It is computed to its end, even if the client disconnects, and keeps the slot until
    /// then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let slot = Arc::clone(&self.slot).acquire_owned().await;
        let task = self.tasks.spawn_blocking(move || {
            let _slot = slot;
            compute()
        });
        match task.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(result) => result,
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime ends, and drops this future.
            Err(Err(_)) => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn computation_leaves_its_thread_to_others_and_keeps_its_slot_if_its_client_leaves() {
        let computation = Computation::new(TaskTracker::new());
        let (open, gate) = mpsc::channel::<()>();
        let first = computation.run(move || gate.recv());
        // The time-out fires on the only thread of the runtime.
        assert!(timeout(MOMENT, first).await.is_err());
        assert!(timeout(MOMENT, computation.run(|| ())).await.is_err());
        open.send(()).unwrap();
        assert_eq!(computation.run(|| 7).await, 7);
    }
}
