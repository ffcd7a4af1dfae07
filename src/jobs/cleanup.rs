//! Cleanup: deletes released and expired sandboxes from CSP, then from the table.
//!
//! The order makes an interruption safe at any point: if a sandbox is deleted in CSP but not in the table, the next run
//! deletes it again, CSP answers 404, and that counts as deleted.

use std::{collections::VecDeque, time::Duration};

use futures_util::future::join_all;
use rand::RngExt;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobContext, JobError,
    run::{Job, Report, ReportStatus, Run, elapsed_ms},
};
use crate::{
    clock::UnixSeconds,
    csp::{
        CspError,
        niosxaas::{Cleaned, NiosxaasClient, Session},
        throttle::BreakerDecision,
    },
    domain::{JobName, NiosxaasOutcome, Sandbox, Status},
    shared::lock,
    store::{Change, DeletionOutcome},
    telemetry::{chain, metrics::Metrics},
};

/// The pause before the second attempt to delete a sandbox; it doubles with each further attempt.
const FIRST_RETRY: Duration = Duration::from_mins(1);
/// The longest pause between two attempts.
const LONGEST_RETRY: Duration = Duration::from_hours(1);
/// No deletion is deferred for longer: [`LONGEST_RETRY`] with its jitter, or the longest pause that CSP requests.
const LONGEST_DEFERRAL: Duration = Duration::from_mins(75);
/// The longest pause requested by CSP that a run waits for; for a longer one it ends and defers the remaining
/// deletions.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest error text stored with a sandbox, in bytes.
const MAX_REASON: usize = 500;

/// The job.
#[derive(Debug)]
pub(crate) struct CleanupJob {
    /// First return every `deletion_failed` sandbox to `pending_deletion`.
    pub retry_failed: bool,
}

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "completed", "due": 200, "deleted": 180, "failed": 0, "deferred": 20, "requeued": 0,
    "niosxaas_cleaned": 0, "niosxaas_failed": 0,
    "stopped": "CSP is unavailable; deletions resume after 1774000060", "duration_ms": 41200
}))]
pub(crate) struct CleanupReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Sandboxes to delete in this run.
    pub due: usize,
    /// Sandboxes deleted.
    pub deleted: usize,
    /// Sandboxes that CSP refuses to delete, or without attempts left: now `deletion_failed`.
    pub failed: usize,
    /// Sandboxes deferred to a later run.
    pub deferred: usize,
    /// `deletion_failed` sandboxes returned to `pending_deletion` at the start.
    pub requeued: usize,
    /// Sandboxes whose NIOSXaaS services were deleted.
    pub niosxaas_cleaned: usize,
    /// Sandboxes whose NIOSXaaS services could not be deleted.
    pub niosxaas_failed: usize,
    /// Why the run ended before every deletion was attempted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for CleanupReport {
    fn is_interrupted(&self) -> bool {
        self.status == ReportStatus::Interrupted
    }

    fn count(&self, metrics: &Metrics, outcome: &str, took: Duration) {
        metrics.cleanup.with_label_values(&[outcome]).inc();
        metrics.cleanup_deleted.inc_by(self.deleted as u64);
        metrics.cleanup_failed.inc_by(self.failed as u64);
        metrics.cleanup_duration.observe(took.as_secs_f64());
    }

    fn processed(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("deleted", self.deleted),
            ("failed", self.failed),
            ("niosxaas_cleaned", self.niosxaas_cleaned),
            ("niosxaas_failed", self.niosxaas_failed),
        ]
    }

    fn deferred(&self) -> usize {
        self.deferred
    }
}

/// The results of one attempt to delete a sandbox.
struct Attempt {
    sandbox: Sandbox,
    niosxaas: Option<NiosxaasOutcome>,
    result: Result<(), CspError>,
}

impl Job for CleanupJob {
    type Report = CleanupReport;

    fn name(&self) -> JobName {
        JobName::Cleanup
    }

    async fn run_once(&self, run: &Run<CleanupReport>) -> Result<CleanupReport, JobError> {
        let began = Instant::now();
        let mut report = CleanupReport::default();
        if self.retry_failed {
            report.requeued = self.requeue(run).await?;
        }
        let context = run.context();
        let due = context
            .store
            .due_for_deletion(context.clock.now(), LONGEST_DEFERRAL)
            .await?;
        report.due = due.len();
        run.progress(&report);
        let ended = self.delete_all(run, due.into(), &mut report).await;
        report.deferred = report.due - report.deleted - report.failed;
        report.duration_ms = elapsed_ms(began);
        run.progress(&report);
        ended?;
        Ok(report)
    }
}

impl CleanupJob {
    async fn requeue(&self, run: &Run<CleanupReport>) -> Result<usize, JobError> {
        let context = run.context();
        let failed = context.store.in_status(Status::DeletionFailed).await?;
        let changes: Vec<_> = failed
            .into_iter()
            .map(|sandbox| Change::RetryDeletion(sandbox.account.sandbox_id))
            .collect();
        let mut requeued = 0;
        run.write_all(&changes, context.clock.now(), |_, made| {
            requeued += made.iter().filter(|made| **made).count();
        })
        .await?;
        Ok(requeued)
    }

    async fn delete_all(
        &self,
        run: &Run<CleanupReport>,
        mut queue: VecDeque<Sandbox>,
        report: &mut CleanupReport,
    ) -> Result<(), JobError> {
        let context = run.context();
        let session = context.niosxaas.as_ref().map(NiosxaasClient::session);
        while !queue.is_empty() {
            if run.is_stopped() {
                report.status = ReportStatus::Interrupted;
                return Ok(());
            }
            let size = match context.csp_breaker.admit() {
                BreakerDecision::Allowed => lock(&context.pace).batch(),
                BreakerDecision::Probe => 1,
                BreakerDecision::Refused(until) => {
                    report.stopped = Some(format!(
                        "CSP is unavailable; deletions resume after {until}"
                    ));
                    break;
                }
            };
            let item_delay = lock(&context.pace).item_delay();
            let batch = queue.drain(..size.min(queue.len()));
            let attempts = join_all(batch.enumerate().map(|(at, sandbox)| {
                let delay = item_delay * u32::try_from(at).unwrap_or(u32::MAX);
                self.attempt(run, session.as_ref(), sandbox, delay)
            }))
            .await;
            let attempts = attempts.into_iter().flatten().collect();
            let requested_pause = self.record_attempts(run, attempts, report).await?;
            run.progress(report);
            if requested_pause.is_some_and(|pause| pause > LONGEST_PAUSE) {
                report.stopped =
                    Some("CSP requests a longer pause than a run waits for".to_owned());
                break;
            }
            // An open breaker ends the run in the next iteration, without a pause.
            if !queue.is_empty() && !context.csp_breaker.is_open() {
                let delay = lock(&context.pace).delay();
                run.pause(delay.max(requested_pause.unwrap_or_default()))
                    .await;
            }
        }
        report.status = ReportStatus::Completed;
        Ok(())
    }

    /// Deletes one sandbox after `delay`. Returns `None` if the breaker opened, or the run was stopped, in the
    /// meantime.
    async fn attempt(
        &self,
        run: &Run<CleanupReport>,
        session: Option<&Session>,
        sandbox: Sandbox,
        delay: Duration,
    ) -> Option<Attempt> {
        let context = run.context();
        run.pause(delay).await;
        if !delay.is_zero() && (run.is_stopped() || context.csp_breaker.is_open()) {
            return None;
        }
        let niosxaas = match session {
            Some(session) if sandbox.maintenance.niosxaas_cleaned_at.is_none() => {
                Some(clean_services(context, session, &sandbox).await)
            }
            _ => None,
        };
        let result = context
            .csp
            .delete_account(&sandbox.account.external_id)
            .await;
        match &result {
            // The token or the id is at fault, not CSP.
            Err(CspError::Unauthorized { .. } | CspError::InvalidId { .. }) => {}
            Err(error) if error.is_transient() => {
                context.csp_breaker.failed(error.retry_after());
            }
            _ => context.csp_breaker.succeeded(),
        }
        Some(Attempt {
            sandbox,
            niosxaas,
            result,
        })
    }

    /// Writes the results of a batch. Returns the longest pause that CSP requested.
    async fn record_attempts(
        &self,
        run: &Run<CleanupReport>,
        attempts: Vec<Attempt>,
        report: &mut CleanupReport,
    ) -> Result<Option<Duration>, JobError> {
        let context = run.context();
        let now = context.clock.now();
        let mut changes = Vec::with_capacity(attempts.len());
        let (mut transient_failures, mut requested_pause, mut unauthorized) = (0_usize, None, None);
        for Attempt {
            sandbox,
            niosxaas,
            result,
        } in attempts
        {
            if let Some(outcome) = &niosxaas {
                let outcome_label = match outcome {
                    NiosxaasOutcome::Cleaned { .. } => {
                        report.niosxaas_cleaned += 1;
                        "cleaned"
                    }
                    NiosxaasOutcome::Failed { .. } => {
                        report.niosxaas_failed += 1;
                        "failed"
                    }
                    NiosxaasOutcome::Skipped { .. } => "skipped",
                };
                let counter = &context.metrics.niosxaas_cleanup;
                counter.with_label_values(&[outcome_label]).inc();
            }
            let outcome = match result {
                Ok(()) => DeletionOutcome::Deleted,
                // The token is at fault, not the sandbox.
                Err(error @ CspError::Unauthorized { .. }) => {
                    unauthorized = Some(error);
                    continue;
                }
                Err(error) if error.is_transient() => {
                    transient_failures += 1;
                    requested_pause = requested_pause.max(error.retry_after());
                    defer_or_give_up(&sandbox, &error, context.jobs.deletion_max_attempts, now)
                }
                Err(error) => DeletionOutcome::GivenUp {
                    error: reason(&error),
                },
            };
            changes.push(Change::Deletion(Box::new(sandbox), outcome, niosxaas));
        }
        match transient_failures {
            0 if unauthorized.is_none() => lock(&context.pace).speed_up(),
            0 => {}
            _ => lock(&context.pace).slow_down(),
        }
        let made = context
            .store
            .apply(
                Some(run.fence()),
                &changes,
                context.terms.lab_duration_hours,
                now,
            )
            .await?;
        for (change, made) in changes.iter().zip(made) {
            match change {
                // Also if another run has removed it meanwhile.
                Change::Deletion(_, DeletionOutcome::Deleted, _) => report.deleted += 1,
                Change::Deletion(_, DeletionOutcome::GivenUp { .. }, _) if made => {
                    report.failed += 1;
                }
                _ => {}
            }
        }
        unauthorized.map_or(Ok(requested_pause), |error| Err(error.into()))
    }
}

/// Deletes the NIOSXaaS services of an account. A failure does not prevent the deletion of the account.
async fn clean_services(
    context: &JobContext,
    session: &Session,
    sandbox: &Sandbox,
) -> NiosxaasOutcome {
    let breaker = &context.niosxaas_breaker;
    if let BreakerDecision::Refused(until) = breaker.admit() {
        return NiosxaasOutcome::Skipped {
            reason: format!("NIOSXaaS is unavailable; calls resume after {until}"),
        };
    }
    match session.clean(&sandbox.account.external_id).await {
        Ok(Cleaned::Deleted(services)) => {
            breaker.succeeded();
            NiosxaasOutcome::Cleaned { services }
        }
        Ok(Cleaned::Shadow(services)) => {
            breaker.succeeded();
            NiosxaasOutcome::Skipped {
                reason: format!("shadow mode: {services} service(s) would be deleted"),
            }
        }
        Err(error) => {
            match error {
                // The fault concerns this account only.
                CspError::Rejected { .. } | CspError::InvalidId { .. } => breaker.succeeded(),
                _ => breaker.failed(error.retry_after()),
            }
            NiosxaasOutcome::Failed {
                reason: reason(&error),
            }
        }
    }
}

fn defer_or_give_up(
    sandbox: &Sandbox,
    error: &CspError,
    max_attempts: u32,
    now: UnixSeconds,
) -> DeletionOutcome {
    let attempts = sandbox.maintenance.deletion_retry_count.saturating_add(1);
    if attempts >= max_attempts {
        return DeletionOutcome::GivenUp {
            error: reason(error),
        };
    }
    let wait = FIRST_RETRY
        .saturating_mul(2_u32.saturating_pow(attempts - 1))
        .min(LONGEST_RETRY);
    // Up to a quarter longer, so that deletions that failed together are not retried together.
    let wait = wait.mul_f64(rand::rng().random_range(1.0..1.25));
    DeletionOutcome::Deferred {
        until: now + wait.max(error.retry_after().unwrap_or_default()),
        error: reason(error),
    }
}

fn reason(error: &CspError) -> String {
    let mut text = chain(error);
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}
