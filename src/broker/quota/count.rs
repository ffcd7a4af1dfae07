//! The count of the sandboxes that each lab holds.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::shared_read::SharedRead;
use crate::{
    domain::{LabId, LabsHeld},
    shared::Shared,
    store::{PoolStore, StoreError},
};

/// How old the count of allocations without a slot may be. The pool's monitor counts every minute, so a request has to
/// count only if the monitor could not.
const MAX_AGE: Duration = Duration::from_secs(90);

/// How old it may be where a request is refused because of these allocations.
const MAX_AGE_OF_REFUSAL: Duration = Duration::from_secs(5);

/// Returns how old the count may be where a request is refused, if it is otherwise `oldest`.
pub(super) fn recent(oldest: Instant) -> Instant {
    let recent = Instant::now().checked_sub(MAX_AGE_OF_REFUSAL);
    recent.map_or(oldest, |recent| recent.max(oldest))
}

/// The last count of the sandboxes that each lab holds. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct LabsHeldCount(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PoolStore,
    tasks: TaskTracker,
    last: Shared<Option<(Instant, Arc<LabsHeld>)>>,
    reads: SharedRead,
}

impl LabsHeldCount {
    /// Creates a count over `store`. Its reads run on `tasks`.
    #[must_use]
    pub fn new(store: PoolStore, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            store,
            tasks,
            last: Shared::default(),
            reads: SharedRead::default(),
        }))
    }

    /// Replaces the count by one that began at `began`.
    pub fn set(&self, began: Instant, held: Arc<LabsHeld>) {
        self.0.last.set(Some((began, held)));
    }

    /// Returns the last count.
    #[must_use]
    pub fn last(&self) -> Option<Arc<LabsHeld>> {
        self.0.last.get().map(|(_, held)| held)
    }

    /// Returns the number of the lab's allocations without a slot, as of a count that began at `oldest` or later.
    pub(super) async fn without_slot(
        &self,
        lab: &LabId,
        oldest: Instant,
    ) -> Result<u64, StoreError> {
        let now = Instant::now();
        let oldest = oldest.max(now.checked_sub(MAX_AGE).unwrap_or(oldest));
        let of_lab = |held: &LabsHeld| held.of(lab.as_str()).without_slot;
        let recent = || {
            let last = self.0.last.get();
            last.filter(|(began, _)| *began >= oldest)
        };
        loop {
            if let Some((_, held)) = recent() {
                return Ok(of_lab(&held));
            }
            let count = self.clone();
            let read = || async move {
                let began = Instant::now();
                let held = count.0.store.labs_held().await?;
                count.set(began, Arc::new(held));
                Ok(())
            };
            let is_done = || recent().is_some();
            self.0.reads.until(is_done, &self.0.tasks, read).await?;
        }
    }
}
