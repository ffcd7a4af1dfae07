//! Leaks: allocations whose play is likely over, and their release by an operator. Nothing is released by itself.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::Semaphore, time::Instant};

use super::{Broker, BrokerError};
use crate::{
    clock::UnixSeconds,
    domain::{
        ActionOrder, Author, LabHistory, LabId, Leak, Reason, Sandbox, SandboxAction, SandboxId,
        SeenAllocation, Status,
    },
    store::{Listed, Position},
};

/// The number of concurrent releases, which leave the other slots for database calls to allocations.
const CONCURRENT_RELEASES: usize = 8;
/// The time after which no further release is started, so that those in progress end within the time limit of the request.
const RELEASE_TIME: Duration = Duration::from_secs(12);

/// A page of leaks.
#[derive(Clone, Debug, PartialEq)]
pub struct LeakPage {
    /// When the allocations were judged.
    pub at: UnixSeconds,
    /// The leaks, the oldest allocation first.
    pub leaks: Vec<Leak>,
    /// The histories of all labs on the first page, none on the others.
    pub labs: BTreeMap<LabId, LabHistory>,
    /// Start of the next page; `None` on the last one.
    pub next: Option<Position>,
}

/// The outcome of one of several releases.
#[derive(Debug)]
pub enum LeakRelease {
    /// The allocation was released.
    Released,
    /// It was not released, or the outcome is unknown.
    Failed(BrokerError),
    /// [`RELEASE_TIME`] was over before the release was started.
    NotAttempted,
}

impl Broker {
    /// Returns a page of at most `limit` leaks from `start` on. A page may be shorter although there are more.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn leaks(
        &self,
        limit: usize,
        start: Option<Position>,
    ) -> Result<LeakPage, BrokerError> {
        let store = self.store.admit_read()?;
        let is_first = start.is_none();
        let histories = store.lab_histories().await?;
        let at = self.clock.now();
        let judge = |sandbox: &Sandbox| leak_of(sandbox, &histories, at);
        let is_leak = |listed: &Listed| {
            listed
                .as_ref()
                .is_ok_and(|sandbox| judge(sandbox).is_some())
        };
        let listing = store
            .list(Some(Status::Allocated), limit, start, Some(is_leak))
            .await?;
        let leaks = listing.sandboxes.iter().filter_map(judge).collect();
        let labs = if is_first {
            histories.into_iter().collect()
        } else {
            BTreeMap::new()
        };
        Ok(LeakPage {
            at,
            leaks,
            labs,
            next: listing.next,
        })
    }

    /// Releases allocations that an operator has seen, each with its audit records, and returns the outcome of each, in the
    /// same order. A failure does not stop the others.
    pub async fn release_leaks(
        &self,
        seen: Vec<(SandboxId, SeenAllocation)>,
        author: &Author,
        reason: &Reason,
    ) -> Vec<LeakRelease> {
        let releases = seen.into_iter().map(|(id, allocation)| async move {
            let order = ActionOrder {
                action: SandboxAction::Release,
                allocation: Some(allocation),
                author: author.clone(),
                reason: reason.clone(),
            };
            Box::pin(self.execute(&id, &order)).await.map(drop)
        });
        let outcomes = run_within(RELEASE_TIME, releases).await;
        let outcomes = outcomes.into_iter().map(|outcome| match outcome {
            Some(Ok(())) => LeakRelease::Released,
            Some(Err(error)) => LeakRelease::Failed(error),
            None => LeakRelease::NotAttempted,
        });
        outcomes.collect()
    }
}

/// Runs tasks, [`CONCURRENT_RELEASES`] at a time, and returns their results in the same order; `None` for those that would
/// have started after `time`.
async fn run_within<T>(
    time: Duration,
    tasks: impl Iterator<Item = impl Future<Output = T>>,
) -> Vec<Option<T>> {
    let end = Instant::now() + time;
    let permits = Semaphore::new(CONCURRENT_RELEASES);
    let mut runs = Vec::new();
    for task in tasks {
        runs.push(run_if_before(end, task, &permits));
    }
    join_all(runs).await
}

/// Runs a task once there is a permit, unless `end` has come by then.
async fn run_if_before<T>(
    end: Instant,
    task: impl Future<Output = T>,
    permits: &Semaphore,
) -> Option<T> {
    // Fails only for a closed semaphore, and this one is never closed.
    let _permit = permits.acquire().await.ok();
    if Instant::now() >= end {
        return None;
    }
    Some(task.await)
}

fn leak_of(
    sandbox: &Sandbox,
    histories: &HashMap<LabId, LabHistory>,
    now: UnixSeconds,
) -> Option<Leak> {
    let history = sandbox.lab().and_then(|lab| histories.get(lab));
    let (held, usual) = sandbox.overstayed(history, now)?;
    Some(Leak {
        sandbox: sandbox.clone(),
        held,
        usual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tasks that return their number, after a different number of steps each.
    fn tasks(count: usize) -> impl Iterator<Item = impl Future<Output = usize>> {
        (0..count).map(|number| async move {
            for _ in 0..(number * 7) % 5 {
                tokio::task::yield_now().await;
            }
            number
        })
    }

    #[tokio::test]
    async fn results_are_in_the_order_of_the_tasks() {
        let results = run_within(RELEASE_TIME, tasks(100)).await;
        assert!(results.into_iter().eq((0..100).map(Some)));
    }

    #[tokio::test]
    async fn no_task_is_started_after_the_end() {
        let results = run_within(Duration::ZERO, tasks(20)).await;
        assert_eq!(results, [None; 20]);
    }
}
