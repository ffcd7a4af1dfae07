//! Pauses: a [copy](super::polling) of the pauses in the table, and the changes of them.

use std::sync::Arc;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::{sync::Mutex, time::sleep};
use tokio_util::sync::CancellationToken;

use super::polling::{OutageMessages, PolledCopy};
use crate::{
    backoff::Backoff,
    clock::{Clock, UnixSeconds},
    domain::{
        Activity, AuditAction, AuditRecord, AuditTarget, Author, InvalidEnd, Pause, Pauses, Reason,
        check_end,
    },
    store::{PoolStore, StoreError, StoredPauses},
};

const OUTAGE: OutageMessages = OutageMessages {
    begin: "pauses could not be read; the last known ones stay in force",
    end: "pauses can be read again",
};

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
    copy: PolledCopy<Known>,
    /// One change at a time in a process, so that only processes compete for the item.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
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
            copy: PolledCopy::new(Known::default(), OUTAGE),
            changing: Mutex::default(),
        }));
        watch.refresh().await?;
        Ok(watch)
    }

    /// Polls the table until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        self.0.copy.run(|| self.refresh(), stop).await;
    }

    /// Returns the pause of an activity if it is in force. Makes no call to the database.
    #[must_use]
    pub fn of(&self, activity: Activity) -> Option<Pause> {
        self.0.copy.with(|known| self.find(known, activity))
    }

    fn find(&self, known: &Known, activity: Activity) -> Option<Pause> {
        known.pauses.of(activity, self.0.clock.now()).cloned()
    }

    /// Returns the pauses in force. Makes no call to the database.
    #[must_use]
    pub fn in_force(&self) -> Vec<Pause> {
        let now = self.0.clock.now();
        let in_force = |known: &Known| known.pauses.in_force(now).cloned().collect();
        self.0.copy.with(in_force)
    }

    /// Waits until the activity is paused, and returns its pause.
    pub async fn paused(&self, activity: Activity) -> Pause {
        let pause = |known: &Known| self.find(known, activity);
        self.0.copy.wait_for(pause).await
    }

    /// Reads the pauses from the table.
    ///
    /// # Errors
    /// [`StoreError`]; the last known pauses stay in force.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let update = |known: &mut Known, stored: StoredPauses| {
            if stored == known.stored {
                return false;
            }
            let pauses = stored.pauses();
            log_difference(&known.pauses, &pauses, inner.clock.now());
            *known = Known { stored, pauses };
            true
        };
        inner.copy.refresh(inner.store.pauses(), update).await
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
