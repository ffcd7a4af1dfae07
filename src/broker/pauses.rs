//! Pauses: a copy in memory of the pauses in the table, and the changes of them.
//!
//! Every process reads them every [`LONGEST_POLL_INTERVAL`] or more often, so that a pause is in force everywhere at
//! most [`MAX_DELAY`] after it was set. Requests and jobs read the copy in memory. While the table cannot be read, the
//! last known pauses stay in force.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::RngExt;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    clock::{Clock, UnixSeconds},
    domain::{
        Activity, AuditAction, AuditRecord, AuditTarget, Author, InvalidEnd, Pause, Pauses, Reason,
        check_end,
    },
    store::{PoolStore, StoreError, StoredPauses},
    telemetry::chain,
};

/// The longest time between a change of the pauses and its effect in any process that can read the table.
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

/// Attempts to change a pause while other brokers change it.
const ATTEMPTS: u32 = 8;

/// The pauses last read from the table, and their changes. Cheap to clone; clones share the copy.
#[derive(Clone, Debug)]
pub struct PauseWatch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PoolStore,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    known: watch::Sender<Known>,
    /// The number of reads begun.
    reads: AtomicU64,
    /// One change at a time in a process, so that only processes compete for the item.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The number of the read that returned `stored`.
    read: u64,
    stored: StoredPauses,
    pauses: Pauses,
}

/// The reason why a pause was not changed.
#[derive(Debug, Error)]
pub enum PauseError {
    /// The pause cannot end at this time.
    #[error(transparent)]
    End(#[from] InvalidEnd),
    /// The table could not be read or written. Whether the pause was changed is then unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PauseWatch {
    /// Reads the pauses for the first time. [`run`](Self::run) keeps them up to date.
    ///
    /// # Errors
    /// [`StoreError`]: a process that does not know the pauses must not begin.
    pub async fn open(
        store: PoolStore,
        clock: Arc<dyn Clock>,
        backoff: Backoff,
    ) -> Result<Self, StoreError> {
        let watch = Self(Arc::new(Inner {
            store,
            clock,
            backoff,
            known: watch::Sender::default(),
            reads: AtomicU64::default(),
            changing: Mutex::default(),
        }));
        watch.refresh().await?;
        Ok(watch)
    }

    /// Polls the table until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let polls = async {
            let mut is_failing = false;
            let mut began = Instant::now();
            loop {
                let share = rand::rng().random_range(0.75..1.0);
                sleep_until(began + LONGEST_POLL_INTERVAL.mul_f64(share)).await;
                began = Instant::now();
                let polled = timeout(POLL_TIMEOUT, self.refresh()).await;
                let polled = polled.unwrap_or_else(|_| Err(StoreError::timed_out("GetItem")));
                // One event for each outage, not for each poll.
                match (&polled, is_failing) {
                    (Err(error), false) => tracing::warn!(
                        cause = chain(error),
                        "pauses could not be read; the last known ones stay in force"
                    ),
                    (Ok(()), true) => tracing::info!("pauses can be read again"),
                    _ => {}
                }
                is_failing = polled.is_err();
            }
        };
        let _: Option<()> = stop.run_until_cancelled(polls).await;
    }

    /// Returns the pause of an activity if it is in force. Makes no call to the database.
    #[must_use]
    pub fn of(&self, activity: Activity) -> Option<Pause> {
        let known = self.0.known.borrow();
        known.pauses.of(activity, self.0.clock.now()).cloned()
    }

    /// Returns the pauses in force. Makes no call to the database.
    #[must_use]
    pub fn in_force(&self) -> Vec<Pause> {
        let known = self.0.known.borrow();
        known.pauses.in_force(self.0.clock.now()).cloned().collect()
    }

    /// Waits until the activity is paused, and returns its pause.
    pub async fn paused(&self, activity: Activity) -> Pause {
        let mut known = self.0.known.subscribe();
        loop {
            // Before the wait: a change since the last one is seen here, a later one wakes this task.
            known.mark_unchanged();
            if let Some(pause) = self.of(activity) {
                return pause;
            }
            // Fails only without a sender, which `self` has.
            let _ = known.changed().await;
        }
    }

    /// Reads the pauses from the table.
    ///
    /// # Errors
    /// [`StoreError`]; the last known pauses stay in force.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let read = inner.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let stored = inner.store.pauses().await?;
        inner.known.send_if_modified(|known| {
            // A read that began later has already shown a newer state.
            if read < known.read {
                return false;
            }
            known.read = read;
            if stored == known.stored {
                return false;
            }
            let pauses = stored.pauses();
            log_difference(&known.pauses, &pauses, inner.clock.now());
            (known.stored, known.pauses) = (stored, pauses);
            true
        });
        Ok(())
    }

    /// Pauses an activity, or changes reason and end of its pause.
    ///
    /// # Errors
    /// [`PauseError`].
    pub async fn set(
        &self,
        activity: Activity,
        reason: Reason,
        until: Option<UnixSeconds>,
        author: &Author,
    ) -> Result<Pause, PauseError> {
        let now = self.0.clock.now();
        if let Some(until) = until {
            check_end(until, now)?;
        }
        let pause = Pause {
            activity,
            reason,
            author: Arc::clone(&author.name),
            since: now,
            until,
        };
        let before = self.change(activity, author, Some(&pause)).await?;
        Ok(pause.replacing(before.as_ref()))
    }

    /// Ends the pause of an activity, if it is paused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end(&self, activity: Activity, author: &Author) -> Result<(), StoreError> {
        self.change(activity, author, None).await?;
        Ok(())
    }

    /// Replaces the pause of an activity by `pause`, or ends it. Returns the pause that was in force before.
    async fn change(
        &self,
        activity: Activity,
        author: &Author,
        pause: Option<&Pause>,
    ) -> Result<Option<Pause>, StoreError> {
        let Inner {
            store,
            clock,
            backoff,
            changing,
            ..
        } = &*self.0;
        let _turn = changing.lock().await;
        for attempt in 0..ATTEMPTS {
            let read = store.pauses().await?;
            let before = read.pauses().of(activity, clock.now()).cloned();
            let after = pause.map(|pause| pause.clone().replacing(before.as_ref()));
            if before.is_none() && after.is_none() {
                return Ok(None);
            }
            let action = if after.is_some() {
                AuditAction::Pause
            } else {
                AuditAction::Resume
            };
            let target = AuditTarget::Pause(activity);
            let record = AuditRecord {
                reason: after.as_ref().map(|pause| pause.reason.clone()),
                before: before.as_ref().map(state),
                after: after.as_ref().map(state),
                ..AuditRecord::done(clock.now_ms(), author.clone(), action, target)
            };
            let changed = store.change_pause(&read, activity, after.as_ref(), &record);
            if changed.await? {
                // If it fails, the next poll shows the change.
                let _ = self.refresh().await;
                return Ok(before);
            }
            sleep(backoff.pause(attempt)).await;
        }
        Err(StoreError::contended("TransactWriteItems"))
    }
}

fn log_difference(before: &Pauses, after: &Pauses, now: UnixSeconds) {
    for pause in after.in_force(now) {
        if before.of(pause.activity, now) != Some(pause) {
            tracing::info!(
                activity = pause.activity.as_str(),
                author = &*pause.author,
                reason = pause.reason.as_str(),
                since = pause.since.0,
                until = pause.until.map(|until| until.0),
                "activity paused"
            );
        }
    }
    for pause in before.in_force(now) {
        if after.of(pause.activity, now).is_none() {
            tracing::info!(activity = pause.activity.as_str(), "pause ended");
        }
    }
}

/// Returns a pause as audit records show it.
fn state(pause: &Pause) -> Value {
    json!({
        "reason": pause.reason.as_str(), "author": &*pause.author, "since": pause.since, "until": pause.until,
    })
}
