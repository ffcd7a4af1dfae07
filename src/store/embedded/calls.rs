//! The queue of calls to the engine.
//!
//! SQLite executes one call at a time. Reads of a page of many items take milliseconds, other calls a fraction of one.
//! So pages are read one at a time, and other calls overtake waiting pages: an allocation waits for at most the page
//! that is being read.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot::{self, Receiver, Sender};

use super::EngineAnswer;
use crate::shared::lock;

/// How many other calls overtake a waiting page, at most: a page is read even while the engine is saturated.
const CALLS_PER_PAGE: u32 = 8;

#[derive(Debug)]
struct Call {
    operation: String,
    body: Vec<u8>,
    answer: Sender<EngineAnswer>,
}

/// The waiting calls.
#[derive(Debug, Default)]
struct Waiting {
    short: VecDeque<Call>,
    pages: VecDeque<Call>,
    /// Whether a page is being read.
    is_reading_page: bool,
    /// The number of calls since the last page that overtook a waiting one.
    overtaking: u32,
    is_closed: bool,
}

impl Waiting {
    /// Takes the next call, and returns whether it reads a page.
    fn take(&mut self) -> Option<(Call, bool)> {
        let may_read = !self.is_reading_page && !self.pages.is_empty();
        if may_read && (self.short.is_empty() || self.overtaking == CALLS_PER_PAGE) {
            self.overtaking = 0;
            self.is_reading_page = true;
            return Some((self.pages.pop_front()?, true));
        }
        let call = self.short.pop_front()?;
        if may_read {
            self.overtaking += 1;
        }
        Some((call, false))
    }
}

/// The queue of calls, and the threads that wait for them.
#[derive(Debug, Default)]
pub(super) struct Calls {
    waiting: Mutex<Waiting>,
    /// Signalled when a thread may find a call, or the queue is closed.
    changed: Condvar,
}

impl Calls {
    /// Adds a call. The receiver fails if the engine is stopped.
    pub(super) fn push(&self, operation: String, body: Vec<u8>) -> Receiver<EngineAnswer> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        // In a closed queue the sender is dropped, and the receiver fails.
        if !waiting.is_closed {
            let queue = if matches!(&*operation, "BatchGetItem" | "Query" | "Scan") {
                &mut waiting.pages
            } else {
                &mut waiting.short
            };
            queue.push_back(Call {
                operation,
                body,
                answer,
            });
            drop(waiting);
            self.changed.notify_one();
        }
        receiver
    }

    /// Refuses calls from now on. Those that wait are still executed.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Executes calls until the queue is closed and empty. Several threads may serve one queue.
    pub(super) fn serve(&self, execute: impl Fn(&str, &[u8]) -> EngineAnswer) {
        while let Some((call, is_page)) = self.next() {
            // Without a receiver, the request of the call was cancelled or has timed out.
            if !call.answer.is_closed() {
                let run = AssertUnwindSafe(|| execute(&call.operation, &call.body));
                // The panic is logged by the hook. Without an answer the call fails.
                if let Ok(answer) = catch_unwind(run) {
                    let _ = call.answer.send(answer);
                }
            }
            if is_page {
                self.lock().is_reading_page = false;
                self.changed.notify_one();
            }
        }
    }

    fn next(&self) -> Option<(Call, bool)> {
        let mut waiting = self.lock();
        loop {
            if let Some(next) = waiting.take() {
                return Some(next);
            }
            // A page that waits for the one in progress is left to the thread that reads that one.
            if waiting.is_closed {
                return None;
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(calls: &Calls, operation: &str) -> Receiver<EngineAnswer> {
        calls.push(operation.to_owned(), Vec::new())
    }

    /// Serves everything that waits, and returns the operations in the order of their execution.
    fn order(calls: &Calls) -> Vec<String> {
        calls.close();
        let executed = Mutex::new(Vec::new());
        calls.serve(|operation, _| {
            lock(&executed).push(operation.to_owned());
            EngineAnswer {
                status: 200,
                body: Vec::new(),
            }
        });
        executed.into_inner().unwrap()
    }

    #[test]
    fn short_call_overtakes_waiting_pages() {
        let calls = Calls::default();
        let _waiting =
            ["Scan", "Query", "GetItem", "TransactWriteItems"].map(|name| push(&calls, name));
        assert_eq!(
            order(&calls),
            ["GetItem", "TransactWriteItems", "Scan", "Query"]
        );
    }

    #[test]
    fn page_is_read_after_a_bounded_number_of_other_calls() {
        let calls = Calls::default();
        let _page = push(&calls, "Scan");
        let _waiting: Vec<_> = (0..20).map(|_| push(&calls, "GetItem")).collect();
        let position = order(&calls).iter().position(|name| name == "Scan");
        assert_eq!(position, Some(CALLS_PER_PAGE as usize));
    }

    #[test]
    fn page_is_not_read_beside_another_page() {
        let mut waiting = Waiting::default();
        let (answer, _receiver) = oneshot::channel();
        let page = Call {
            operation: "Scan".to_owned(),
            body: Vec::new(),
            answer,
        };
        waiting.pages.push_back(page);
        waiting.is_reading_page = true;
        assert!(waiting.take().is_none());
        waiting.is_reading_page = false;
        assert!(waiting.take().is_some_and(|(_, is_page)| is_page));
    }

    #[test]
    fn cancelled_call_is_not_executed() {
        let calls = Calls::default();
        drop(push(&calls, "Scan"));
        let _waiting = push(&calls, "GetItem");
        assert_eq!(order(&calls), ["GetItem"]);
    }

    #[test]
    fn call_fails_after_the_engine_has_stopped_or_panicked() {
        let calls = Calls::default();
        let mut panicking = push(&calls, "GetItem");
        calls.close();
        calls.serve(|_, _| panic!("expected by the test"));
        assert!(panicking.try_recv().is_err());
        assert!(push(&calls, "GetItem").try_recv().is_err());
    }
}
