//! The recorder of events.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::event::{Event, EventKind};

pub(super) struct Recorder {
    start: Instant,
    events: Mutex<Vec<Event>>,
    operations: AtomicUsize,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            events: Mutex::default(),
            operations: AtomicUsize::new(0),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Records an event that has just ended.
    pub(super) fn record(&self, began: Duration, kind: EventKind) {
        let is_operation = matches!(
            kind,
            EventKind::Allocate { .. }
                | EventKind::Release { .. }
                | EventKind::Extend { .. }
                | EventKind::Replace { .. }
                | EventKind::Get { .. }
        );
        self.operations
            .fetch_add(usize::from(is_operation), Ordering::Relaxed);
        // The time is taken under the lock, so that events are in the order of their ends.
        let mut events = self.events.lock().unwrap();
        let ended = self.now();
        events.push(Event { began, ended, kind });
    }

    /// Records an event that happened at an earlier moment.
    pub(super) fn record_at(&self, at: Instant, kind: EventKind) {
        let at = at.saturating_duration_since(self.start);
        self.events.lock().unwrap().push(Event {
            began: at,
            ended: at,
            kind,
        });
    }

    /// Returns the number of calls of clients so far.
    pub(super) fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    /// Returns the events in the order of their ends.
    pub(super) fn history(&self) -> Vec<Event> {
        let mut events = self.events.lock().unwrap().clone();
        events.sort_by_key(|event| event.ended);
        events
    }
}
