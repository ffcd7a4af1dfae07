//! Cleanup: deletes released and expired sandboxes from CSP, then from the table.
//!
//! The order makes an interruption safe at any point: if a sandbox is deleted in CSP but not in the table, the next run
//! deletes it again, CSP answers 404, and that counts as deleted.

mod durations;
mod report;

use std::{collections::VecDeque, time::Duration};

use futures_util::future::join_all;
use rand::{RngExt, seq::SliceRandom};
use tokio::time::Instant;

use self::durations::PlayDurations;
pub(crate) use self::report::CleanupReport;
use super::{
    JobContext, JobError,
    run::{Job, ReportStatus, Run, elapsed_ms},
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
    telemetry::chain,
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

/// The results of a run so far.
#[derive(Default)]
struct Progress {
    report: CleanupReport,
    durations: PlayDurations,
}

/// The results of one attempt to delete a sandbox.
struct Attempt {
    sandbox: Sandbox,
    niosxaas: Option<NiosxaasOutcome>,
    result: Result<(), CspError>,
}

/// The results of a batch.
#[derive(Default)]
struct Batch {
    /// The number of attempts.
    attempts: usize,
    /// Whether CSP failed.
    has_outage: bool,
    /// The longest pause that CSP requested.
    requested_pause: Option<Duration>,
    /// Attempts that CSP denied (403). They are not recorded until it is known whether the accounts or the token is the
    /// reason.
    forbidden: Vec<Attempt>,
    /// The error of a rejected token.
    unauthorized: Option<CspError>,
}

impl Batch {
    /// Adds the results of some attempts. Returns those that can be recorded.
    fn add(&mut self, attempts: Vec<Attempt>) -> Vec<Attempt> {
        self.attempts += attempts.len();
        let mut settled = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            match attempt.result {
                // The token is the reason, not the sandbox.
                Err(error @ CspError::Unauthorized { .. }) => {
                    self.unauthorized = Some(error);
                    continue;
                }
                Err(CspError::Forbidden) => {
                    self.forbidden.push(attempt);
                    continue;
                }
                Err(ref error) if error.is_outage() => {
                    self.has_outage = true;
                    self.requested_pause = self.requested_pause.max(error.retry_after());
                }
                _ => {}
            }
            settled.push(attempt);
        }
        settled
    }
}

impl Job for CleanupJob {
    type Report = CleanupReport;

    fn name(&self) -> JobName {
        JobName::Cleanup
    }

    async fn run_once(&self, run: &Run<CleanupReport>) -> Result<CleanupReport, JobError> {
        let began = Instant::now();
        let mut progress = Progress::default();
        if self.retry_failed {
            progress.report.requeued = self.requeue(run).await?;
        }
        let context = run.context();
        let mut due = context
            .store
            .due_for_deletion(context.clock.now(), LONGEST_DEFERRAL)
            .await?;
        // Sandboxes whose deletion keeps failing would open the breaker before any other is attempted, so they come
        // last; those that fail for the first time come in any place.
        due.sandboxes.shuffle(&mut rand::rng());
        due.sandboxes
            .sort_by_key(|sandbox| sandbox.maintenance.deletion_retry_count);
        progress.report.due = due.sandboxes.len();
        progress.report.unreadable = due.unreadable;
        run.progress(&progress.report);
        let ended = self
            .delete_all(run, due.sandboxes.into(), &mut progress)
            .await;
        let Progress {
            mut report,
            durations,
        } = progress;
        durations.record(context).await;
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
            .sandboxes
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
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        let context = run.context();
        let session = context.niosxaas.as_ref().map(NiosxaasClient::session);
        while !queue.is_empty() {
            if run.is_stopped() {
                progress.report.status = ReportStatus::Interrupted;
                return Ok(());
            }
            let pace = match context.admit_batch(context.jobs.pace) {
                Ok(pace) => pace,
                Err(until) => {
                    progress.report.stopped = Some(format!(
                        "CSP is unavailable; deletions resume after {until}"
                    ));
                    break;
                }
            };
            let batch = self
                .delete_batch(run, session.as_ref(), &mut queue, pace.batch, progress)
                .await?;
            if let Some(error) = batch.unauthorized {
                return Err(error.into());
            }
            if batch
                .requested_pause
                .is_some_and(|pause| pause > LONGEST_PAUSE)
            {
                progress.report.stopped =
                    Some("CSP requests a longer pause than a run waits for".to_owned());
                break;
            }
            // An open breaker ends the run in the next iteration, without a pause.
            if !queue.is_empty() && !context.csp_breaker.is_open() {
                let delay = lock(&context.pace).of(context.jobs.pace).batch_delay;
                run.pause(delay.max(batch.requested_pause.unwrap_or_default()))
                    .await;
            }
        }
        progress.report.status = ReportStatus::Completed;
        Ok(())
    }

    /// Deletes up to `size` sandboxes of the queue, `CLEANUP_CONCURRENCY` at a time, and records each outcome.
    async fn delete_batch(
        &self,
        run: &Run<CleanupReport>,
        session: Option<&Session>,
        queue: &mut VecDeque<Sandbox>,
        size: usize,
        progress: &mut Progress,
    ) -> Result<Batch, JobError> {
        let context = run.context();
        let mut batch = Batch::default();
        let mut left = size.min(queue.len());
        while left > 0 {
            let group = queue.drain(..context.jobs.cleanup_concurrency.min(left));
            left -= group.len();
            let attempts =
                join_all(group.map(|sandbox| self.attempt(context, session, sandbox))).await;
            let settled = batch.add(attempts);
            self.record_attempts(run, settled, progress).await?;
            if left == 0 || batch.unauthorized.is_some() || batch.requested_pause.is_some() {
                break;
            }
            run.pause(context.jobs.pace.item_delay).await;
            if run.is_stopped() || context.csp_breaker.is_open() {
                break;
            }
        }
        // If CSP denies everything, the token may be the reason.
        if batch.unauthorized.is_none()
            && batch.attempts == batch.forbidden.len()
            && let Err(error @ CspError::Unauthorized { .. }) = context.csp.check_token().await
        {
            batch.unauthorized = Some(error);
        }
        if batch.unauthorized.is_none() {
            let forbidden = std::mem::take(&mut batch.forbidden);
            self.record_attempts(run, forbidden, progress).await?;
            let mut pace = lock(&context.pace);
            if batch.has_outage {
                pace.slow_down();
            } else {
                pace.speed_up();
            }
        }
        Ok(batch)
    }

    /// Deletes one sandbox.
    async fn attempt(
        &self,
        context: &JobContext,
        session: Option<&Session>,
        sandbox: Sandbox,
    ) -> Attempt {
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
            Err(error) if error.is_outage() => context.csp_breaker.failed(error.retry_after()),
            _ => context.csp_breaker.succeeded(),
        }
        Attempt {
            sandbox,
            niosxaas,
            result,
        }
    }

    /// Writes the results of attempts.
    async fn record_attempts(
        &self,
        run: &Run<CleanupReport>,
        attempts: Vec<Attempt>,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        let Progress { report, durations } = progress;
        let context = run.context();
        let now = context.clock.now();
        let mut changes = Vec::with_capacity(attempts.len());
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
                Err(error) if error.is_transient() || matches!(error, CspError::Forbidden) => {
                    defer_or_give_up(&sandbox, &error, context.jobs.deletion_max_attempts, now)
                }
                Err(error) => DeletionOutcome::GivenUp {
                    error: reason(&error),
                },
            };
            changes.push(Change::Deletion(Box::new(sandbox), outcome, niosxaas));
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
                Change::Deletion(sandbox, DeletionOutcome::Deleted, _) => {
                    report.deleted += 1;
                    durations.add(sandbox);
                }
                Change::Deletion(_, DeletionOutcome::GivenUp { .. }, _) if made => {
                    report.failed += 1;
                }
                _ => {}
            }
        }
        run.progress(report);
        Ok(())
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
        Ok(Cleaned::NoAccount) => {
            breaker.succeeded();
            NiosxaasOutcome::Skipped {
                reason: "the account no longer exists".to_owned(),
            }
        }
        Err(error) => {
            if error.is_outage() || matches!(error, CspError::Unauthorized { .. }) {
                breaker.failed(error.retry_after());
            } else {
                // The fault concerns this account only.
                breaker.succeeded();
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
