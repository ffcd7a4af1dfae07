//! The audit records of refused requests.
//!
//! They are written apart from the requests, so that an answer neither waits for its record nor fails with it. A client
//! can send any number of requests that are refused, so few of them are recorded, and the others are counted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::{AuditAction, AuditRecord, AuditTarget, Author, Reason},
    shared::lock,
    store::PoolStore,
    telemetry::{chain, metrics::Metrics},
};

/// The time window of the limits.
const WINDOW: Duration = Duration::from_hours(1);
/// The maximum number of records of one principal in a window.
const PER_PRINCIPAL: u32 = 60;
/// The maximum number of records of all principals in a window.
const IN_TOTAL: u32 = 240;
/// The maximum number of records that wait to be written.
const QUEUE: usize = 64;

/// A refused request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The principal that sent it.
    pub author: Author,
    /// The requested action.
    pub action: AuditAction,
    /// The object of the action.
    pub target: AuditTarget,
    /// The reason that it gave for the action.
    pub reason: Option<Reason>,
    /// The code of the error.
    pub code: &'static str,
}

/// Records refused requests in the audit, within limits.
#[derive(Debug)]
pub struct RefusalLog {
    store: PoolStore,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    budget: Mutex<Budget>,
    sender: Sender<AuditRecord>,
    queue: tokio::sync::Mutex<Receiver<AuditRecord>>,
}

impl RefusalLog {
    /// Creates a log that writes to `store` while [`run`](Self::run) runs.
    #[must_use]
    pub fn new(store: PoolStore, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        Self {
            store,
            clock,
            metrics,
            budget: Mutex::default(),
            sender,
            queue: queue.into(),
        }
    }

    /// Records a refused request of `principal`, or counts it as left out. Does not wait.
    pub fn record(&self, principal: &Arc<str>, refusal: impl FnOnce() -> Refusal) {
        let mut budget = lock(&self.budget);
        let slot = self.sender.try_reserve().ok();
        let is_recorded = budget.take(principal, self.clock.monotonic(), slot.is_some());
        let Some(slot) = slot.filter(|_| is_recorded) else {
            if budget.left_out == 1 {
                tracing::warn!(
                    %principal,
                    "refused requests are left out of the audit; the request log has them"
                );
            }
            drop(budget);
            self.count("left_out");
            return;
        };
        let left_out = std::mem::take(&mut budget.left_out);
        drop(budget);
        let Refusal {
            author,
            action,
            target,
            reason,
            code,
        } = refusal();
        slot.send(AuditRecord {
            at_ms: self.clock.now_ms(),
            author,
            action,
            target,
            reason,
            before: None,
            after: (left_out > 0).then(|| json!({ "left_out": left_out })),
            outcome: code,
        });
    }

    /// Writes the records, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut queue = self.queue.lock().await;
        while let Some(Some(record)) = stop.run_until_cancelled(queue.recv()).await {
            self.write(&record).await;
        }
    }

    /// Writes the records that still wait after [`run`](Self::run) has ended.
    pub async fn write_pending(&self) {
        let mut queue = self.queue.lock().await;
        while let Ok(record) = queue.try_recv() {
            self.write(&record).await;
        }
        let left_out = lock(&self.budget).left_out;
        if left_out > 0 {
            tracing::warn!(left_out, "refused requests were left out of the audit");
        }
    }

    async fn write(&self, record: &AuditRecord) {
        match self.store.record_audit(record).await {
            Ok(()) => self.count("recorded"),
            Err(error) => {
                tracing::warn!(
                    request_id = record.author.request_id,
                    cause = chain(&error),
                    "refused request could not be recorded in the audit"
                );
                self.count("error");
            }
        }
    }

    fn count(&self, outcome: &str) {
        let counter = &self.metrics.audit_refusals;
        counter.with_label_values(&[outcome]).inc();
    }
}

/// The records of the current window. As a principal has an entry only with a record, its size is bounded too.
#[derive(Debug, Default)]
struct Budget {
    /// The start of the window, on the monotonic clock.
    since: Duration,
    by_principal: HashMap<Arc<str>, u32>,
    in_total: u32,
    /// The requests left out since the last one that was recorded.
    left_out: u64,
}

impl Budget {
    /// Counts a request as recorded if `is_possible` and within the limits, otherwise as left out. Returns whether it is
    /// to be recorded.
    fn take(&mut self, principal: &Arc<str>, now: Duration, is_possible: bool) -> bool {
        if now.saturating_sub(self.since) >= WINDOW {
            self.since = now;
            self.by_principal.clear();
            self.in_total = 0;
        }
        let recorded = self.by_principal.get(principal).copied().unwrap_or(0);
        if !is_possible || recorded >= PER_PRINCIPAL || self.in_total >= IN_TOTAL {
            self.left_out += 1;
            return false;
        }
        self.by_principal
            .insert(Arc::clone(principal), recorded + 1);
        self.in_total += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut Budget, principal: &str, requests: u32, now: Duration) -> usize {
        let principal = principal.into();
        (0..requests)
            .filter(|_| budget.take(&principal, now, true))
            .count()
    }

    #[test]
    fn one_principal_leaves_room_for_others() {
        let mut budget = Budget::default();
        assert_eq!(taken(&mut budget, "anna", 1000, Duration::ZERO), 60);
        assert_eq!(taken(&mut budget, "ben", 10, Duration::ZERO), 10);
        assert_eq!(budget.left_out, 940);
    }

    #[test]
    fn any_number_of_principals_and_requests_takes_little() {
        let mut budget = Budget::default();
        let recorded: usize = (0..10_000)
            .map(|n| taken(&mut budget, &format!("principal-{n}"), 3, Duration::ZERO))
            .sum();
        assert_eq!(recorded, 240);
        assert!(budget.by_principal.len() <= 240);
        assert_eq!(budget.left_out, 30_000 - 240);
    }

    #[test]
    fn next_window_has_a_budget_of_its_own() {
        let mut budget = Budget::default();
        taken(&mut budget, "anna", 1000, Duration::from_mins(5));
        assert_eq!(taken(&mut budget, "anna", 1, Duration::from_mins(59)), 0);
        assert_eq!(
            taken(&mut budget, "anna", 1000, Duration::from_mins(61)),
            60
        );
        assert_eq!(budget.by_principal.len(), 1);
    }

    #[test]
    fn request_beyond_the_queue_is_left_out_and_takes_no_budget() {
        let mut budget = Budget::default();
        assert!(!budget.take(&"anna".into(), Duration::ZERO, false));
        assert_eq!((budget.left_out, budget.in_total), (1, 0));
    }
}
