//! Writes down what happens.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::event::{Event, What};

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

    /// Something that began then and has just ended.
    pub(super) fn record(&self, began: Duration, what: What) {
        let is_operation = matches!(
            what,
            What::Allocate { .. } | What::Release { .. } | What::Get { .. }
        );
        self.operations
            .fetch_add(usize::from(is_operation), Ordering::Relaxed);
        // Under the lock, so that the events are in the order of their ends.
        let mut events = self.events.lock().unwrap();
        let ended = self.now();
        events.push(Event { began, ended, what });
    }

    /// Something that happened at one moment, a while ago.
    pub(super) fn record_at(&self, at: Instant, what: What) {
        let at = at.saturating_duration_since(self.start);
        self.events.lock().unwrap().push(Event {
            began: at,
            ended: at,
            what,
        });
    }

    /// Calls of clients so far.
    pub(super) fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    /// The history, in the order of the ends.
    pub(super) fn history(&self) -> Vec<Event> {
        let mut events = self.events.lock().unwrap().clone();
        events.sort_by_key(|event| event.ended);
        events
    }
}
