//! Copies in memory of what operators change in the companion table, such as the pauses and the policy.
//!
//! Every process polls the table every [`LONGEST_POLL_INTERVAL`] or more often, so that a change is in force everywhere
//! at most [`MAX_DELAY`] after it was made. Requests and jobs read the copy. While the table cannot be read, the last
//! known state stays in force.

use std::{
    error::Error,
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::RngExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{shared::lock, store::StoreError, telemetry::chain};

/// The longest time between a change and its effect in any process that can read the table.
pub const MAX_DELAY: Duration = Duration::from_secs(5);
/// The longest time from the start of a poll to that of the next. The shortest is three quarters of it, so that processes
/// that start together do not poll together.
pub const LONGEST_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The longest time that a poll waits for the table: not more than an interval, so that it delays no other poll.
pub const POLL_TIMEOUT: Duration = Duration::from_secs(2);
const _: () = assert!(
    POLL_TIMEOUT.as_millis() <= LONGEST_POLL_INTERVAL.as_millis()
        && LONGEST_POLL_INTERVAL.as_millis() + POLL_TIMEOUT.as_millis() < MAX_DELAY.as_millis(),
    "a change that a poll just missed is known at the end of the next one"
);

/// The log messages of an outage: one at its beginning, or when its cause changes, and one at its end, not one for each
/// poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutageMessages {
    pub(super) begin: &'static str,
    pub(super) end: &'static str,
}

/// A copy of some state in the table.
#[derive(Debug)]
pub(super) struct PolledCopy<T> {
    known: watch::Sender<Known<T>>,
    /// The number of reads begun.
    reads: AtomicU64,
    messages: OutageMessages,
    /// Why the last poll failed.
    fault: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Known<T> {
    /// The number of the read that returned `state`.
    read: u64,
    state: T,
}

impl<T> PolledCopy<T> {
    /// Creates the copy with the state before the first read.
    pub(super) fn new(state: T, messages: OutageMessages) -> Self {
        Self {
            known: watch::Sender::new(Known { read: 0, state }),
            reads: AtomicU64::default(),
            messages,
            fault: Mutex::default(),
        }
    }

    /// Returns what `get` returns for the last known state.
    pub(super) fn with<R>(&self, get: impl FnOnce(&T) -> R) -> R {
        get(&self.known.borrow().state)
    }

    /// Waits until `find` returns something for the last known state, and returns that.
    pub(super) async fn wait_for<R>(&self, find: impl Fn(&T) -> Option<R>) -> R {
        let mut known = self.known.subscribe();
        loop {
            // Before the wait: a change since the last one is seen here, a later one wakes this task.
            known.mark_unchanged();
            if let Some(found) = self.with(&find) {
                return found;
            }
            // Fails only without a sender, which `self` has.
            let _ = known.changed().await;
        }
    }

    /// Returns why the last poll failed, if it did.
    pub(super) fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    /// Reads the table, and lets `update` change the state by the result. `update` returns whether it has.
    ///
    /// # Errors
    /// Those of `read`; the last known state stays.
    pub(super) async fn refresh<R, E>(
        &self,
        read: impl Future<Output = Result<R, E>>,
        update: impl FnOnce(&mut T, R) -> bool,
    ) -> Result<(), E> {
        let number = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let result = read.await?;
        self.known.send_if_modified(|known| {
            // A read that began later has already shown a newer state.
            if number < known.read {
                return false;
            }
            known.read = number;
            update(&mut known.state, result)
        });
        Ok(())
    }

    /// Polls the table with `refresh` until `stop`.
    pub(super) async fn run<F, E>(&self, refresh: impl Fn() -> F, stop: CancellationToken)
    where
        F: Future<Output = Result<(), E>>,
        E: Error + From<StoreError> + 'static,
    {
        let polls = async {
            let mut began = Instant::now();
            loop {
                let share = rand::rng().random_range(0.75..1.0);
                sleep_until(began + LONGEST_POLL_INTERVAL.mul_f64(share)).await;
                began = Instant::now();
                self.poll(refresh()).await;
            }
        };
        let _: Option<()> = stop.run_until_cancelled(polls).await;
    }

    async fn poll<E>(&self, refresh: impl Future<Output = Result<(), E>>)
    where
        E: Error + From<StoreError> + 'static,
    {
        let polled = timeout(POLL_TIMEOUT, refresh).await;
        let polled = polled.unwrap_or_else(|_| Err(StoreError::timed_out("GetItem").into()));
        self.record_poll(polled);
    }

    /// Records the result of a poll. A failure is logged, and is the [`fault`](Self::fault) until the next poll.
    pub(super) fn record_poll<E: Error + 'static>(&self, polled: Result<(), E>) {
        let mut fault = lock(&self.fault);
        match polled {
            Ok(()) if fault.take().is_some() => tracing::info!("{}", self.messages.end),
            Ok(()) => {}
            Err(error) => {
                let text = error.to_string();
                if fault.as_ref() != Some(&text) {
                    tracing::warn!(cause = chain(&error), "{}", self.messages.begin);
                }
                *fault = Some(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::ready;

    use super::*;

    const MESSAGES: OutageMessages = OutageMessages {
        begin: "begin",
        end: "end",
    };

    /// Applies a read with this result, which began after `copy` was asked for it.
    async fn read(copy: &PolledCopy<u32>, result: u32) {
        let read = ready(Ok::<_, StoreError>(result));
        let update = |state: &mut u32, read| std::mem::replace(state, read) != read;
        copy.refresh(read, update).await.unwrap();
    }

    #[tokio::test]
    async fn read_that_began_earlier_does_not_undo_a_later_one() {
        let copy = PolledCopy::new(0, MESSAGES);
        let (send, receive) = tokio::sync::oneshot::channel();
        let slow = copy.refresh(
            async { receive.await.map_err(|_| StoreError::timed_out("GetItem")) },
            |state, read| {
                *state = read;
                true
            },
        );
        tokio::pin!(slow);
        assert!(futures_util::poll!(&mut slow).is_pending());
        read(&copy, 2).await;
        send.send(1).unwrap();
        slow.await.unwrap();
        assert_eq!(copy.with(|state| *state), 2);
        read(&copy, 3).await;
        assert_eq!(copy.with(|state| *state), 3);
    }

    #[tokio::test]
    async fn waiting_task_sees_a_change_made_before_or_during_its_wait() {
        let copy = PolledCopy::new(1, MESSAGES);
        let at_least = |least: u32| move |state: &u32| (*state >= least).then_some(*state);
        assert_eq!(copy.wait_for(at_least(1)).await, 1);
        let waiting = copy.wait_for(at_least(3));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        read(&copy, 2).await;
        assert!(futures_util::poll!(&mut waiting).is_pending());
        read(&copy, 3).await;
        assert_eq!(waiting.await, 3);
    }

    #[test]
    fn failed_poll_is_the_fault_until_the_next_one_and_keeps_the_state() {
        let copy = PolledCopy::new(7, MESSAGES);
        for error in [StoreError::timed_out("GetItem"), StoreError::Busy] {
            let text = error.to_string();
            copy.record_poll(Err(error));
            assert_eq!(copy.fault(), Some(text));
        }
        assert_eq!(copy.with(|state| *state), 7);
        copy.record_poll(Ok::<_, StoreError>(()));
        assert_eq!(copy.fault(), None);
    }
}
