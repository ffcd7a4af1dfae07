//! Auto-expire: retires overdue allocations, and ends quarantines whose time is over.
//!
//! A broker whose clock is ahead finds every allocation overdue. A run that would retire most of them therefore retires
//! none; the job's lease records since when runs have found this, and a run after [`CONFIRM_AFTER`] retires them. Runs
//! follow each other under the lease, so a run in between with a correct clock, which finds fewer allocations overdue,
//! removes the record. The difference between the two clocks does not matter (`docs/jobs.md`). A run that retires none
//! ends no quarantine either.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobContext, JobError,
    run::{Job, Report, ReportStatus, Run, elapsed_ms},
};
use crate::{
    clock::UnixSeconds,
    domain::{
        AuditAction, AuditRecord, AuditTarget, Author, Candidate, JobName, Quarantine, Sandbox,
        Status,
    },
    store::{ASSUMED_DURATION, Change, StoreError},
    telemetry::metrics::Metrics,
};

/// The guard against a wrong clock needs at least this many allocations for a meaningful fraction.
const GUARD_MIN_ALLOCATIONS: u64 = 10;
/// How long after the first run that deferred its allocations a run retires them.
const CONFIRM_AFTER: Duration = Duration::from_mins(10);
/// The first run that deferred its allocations counts no longer than this, unless runs are rarer.
const CONFIRM_WITHIN: Duration = Duration::from_hours(1);

/// The job.
#[derive(Debug)]
pub(crate) struct ExpiryJob {
    /// Retire every overdue allocation, without the limit of `MAX_EXPIRE_FRACTION`.
    pub force: bool,
}

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "status": "completed", "due": 3, "expired": 3, "quarantines_ended": 0, "deferred": 0,
    "unreadable": 0, "duration_ms": 21 }))]
pub(crate) struct ExpiryReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Allocations retired.
    pub expired: usize,
    /// Overdue allocations.
    pub due: usize,
    /// Quarantines whose time was over: the sandbox returned to the pool if it never had a holder, else it is
    /// `pending_deletion`.
    pub quarantines_ended: usize,
    /// Unreadable items that are allocated or quarantined, which the job leaves as they are.
    pub unreadable: usize,
    /// Overdue allocations left to a later run, because they are more than `MAX_EXPIRE_FRACTION` of all.
    pub deferred: usize,
    /// Since when runs have deferred them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deferred_since: Option<UnixSeconds>,
    /// Why no allocation was retired although some are overdue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_guard: Option<String>,
    /// The pause that stopped the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for ExpiryReport {
    fn status(&self) -> ReportStatus {
        self.status
    }

    fn pause(&mut self, reason: String) {
        self.status = ReportStatus::Paused;
        self.stopped = Some(reason);
    }

    fn count(&self, metrics: &Metrics, outcome: &str, _: Duration) {
        metrics.expiry.with_label_values(&[outcome]).inc();
        metrics.expiry_orphaned.inc_by(self.expired as u64);
    }

    fn processed(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("expired", self.expired),
            ("quarantine_ended", self.quarantines_ended),
        ]
    }

    fn expired(&self) -> usize {
        self.expired
    }

    fn deferred(&self) -> usize {
        self.deferred
    }

    fn deferred_since(&self) -> Option<UnixSeconds> {
        self.deferred_since
    }
}

impl Job for ExpiryJob {
    type Report = ExpiryReport;

    fn name(&self) -> JobName {
        JobName::AutoExpire
    }

    async fn run_once(&self, run: &Run<ExpiryReport>) -> Result<ExpiryReport, JobError> {
        let began = Instant::now();
        let context = run.context();
        let terms = context.terms;
        let now = context.clock.now();
        let found = context.store.overdue(now, terms.grace).await?;
        if found.inherited > 0 && terms.is_inherited_duration_assumed() {
            let (inherited, hours) = (found.inherited, terms.inherited_hours);
            tracing::warn!(inherited, hours, "{ASSUMED_DURATION}");
        }
        let overdue: Vec<_> = found
            .sandboxes
            .into_iter()
            .map(|sandbox| Change::Expire(Box::new(sandbox)))
            .collect();
        let mut report = ExpiryReport {
            due: overdue.len(),
            unreadable: found.unreadable,
            ..ExpiryReport::default()
        };
        if !self.force
            && let Some(allocated) = too_many(context, report.due).await?
            && let Some(since) = deferred_since(run, now)
        {
            defer(
                &mut report,
                since,
                allocated,
                context.jobs.max_expire_fraction,
            );
            report.duration_ms = elapsed_ms(began);
            return Ok(report);
        }
        run.progress(&report);
        let expired_all = run
            .write_all(&overdue, now, |_, made| {
                report.expired += made.iter().filter(|made| **made).count();
                run.progress(&report);
            })
            .await?;
        let ended_all = end_quarantines(run, now, &mut report).await?;
        report.status = ReportStatus::of_run(expired_all && ended_all);
        report.duration_ms = elapsed_ms(began);
        Ok(report)
    }
}

/// Ends the quarantines whose time is over. Returns whether all were ended before the run had to stop.
async fn end_quarantines(
    run: &Run<ExpiryReport>,
    now: UnixSeconds,
    report: &mut ExpiryReport,
) -> Result<bool, StoreError> {
    let context = run.context();
    let quarantined = context.store.in_status(Status::Quarantined).await?;
    report.unreadable += quarantined.unreadable;
    let over: Vec<_> = quarantined
        .sandboxes
        .into_iter()
        .filter_map(|sandbox| {
            let until = sandbox.quarantine.until.filter(|until| *until <= now)?;
            let record = Box::new(record_of_end(run, &sandbox));
            let sandbox = Box::new(sandbox);
            Some(Change::EndQuarantine {
                sandbox,
                until,
                record,
            })
        })
        .collect();
    run.write_all(&over, now, |chunk, made| {
        let ended = chunk.iter().zip(made).filter(|(_, made)| **made);
        let mut available = Vec::new();
        for (change, _) in ended {
            report.quarantines_ended += 1;
            if let Change::EndQuarantine { sandbox, .. } = change
                && sandbox.quarantine_end().to() == Status::Available
            {
                available.push(Candidate::from(&sandbox.account));
            }
        }
        context.refresher.candidates().add(available);
        run.progress(report);
    })
    .await
}

/// Returns the record of the end of a quarantine.
fn record_of_end(run: &Run<ExpiryReport>, sandbox: &Sandbox) -> AuditRecord {
    let Quarantine {
        by,
        at,
        reason,
        until,
        from,
    } = &sandbox.quarantine;
    let at_ms = run.context().clock.now_ms();
    let author = Author::of_run(run.id());
    let target = AuditTarget::Sandbox(sandbox.id().clone());
    AuditRecord {
        before: Some(json!({
            "status": sandbox.status, "quarantined_by": by, "quarantined_at": at, "quarantine_reason": reason,
            "quarantined_until": until, "quarantined_from": from,
        })),
        after: Some(json!({ "status": sandbox.quarantine_end().to() })),
        ..AuditRecord::done(at_ms, author, AuditAction::QuarantineEnd, target)
    }
}

/// Returns the number of allocations if `due` of them are too many for one run.
async fn too_many(context: &JobContext, due: usize) -> Result<Option<u64>, StoreError> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a pool has fewer than 2^52 sandboxes"
    )]
    let exceeds = |allocated: u64| due as f64 > allocated as f64 * context.jobs.max_expire_fraction;
    // Without a count if it cannot matter, as in most runs.
    if !exceeds(GUARD_MIN_ALLOCATIONS) {
        return Ok(None);
    }
    let allocated = context.store.count(Status::Allocated).await?;
    Ok(Some(allocated)
        .filter(|allocated| *allocated >= GUARD_MIN_ALLOCATIONS && exceeds(*allocated)))
}

/// Returns since when runs have deferred their allocations, this one included; `None` if it is so long ago that this
/// run retires them. A time in the future, or long ago, was recorded by a clock that was wrong, or for other
/// allocations.
fn deferred_since(run: &Run<ExpiryReport>, now: UnixSeconds) -> Option<UnixSeconds> {
    let within = CONFIRM_WITHIN.max(run.context().jobs.expiry_interval * 3);
    let since = run
        .deferred_since()
        .filter(|since| *since <= now && *since + within >= now)
        .unwrap_or(now);
    (since + CONFIRM_AFTER > now).then_some(since)
}

fn defer(report: &mut ExpiryReport, since: UnixSeconds, allocated: u64, max_fraction: f64) {
    let due = report.due;
    tracing::warn!(due, allocated, since = since.0, "expirations deferred");
    report.status = ReportStatus::Completed;
    report.deferred = due;
    report.deferred_since = Some(since);
    report.expiry_guard = Some(format!(
        "{due} of {allocated} allocations are overdue, more than MAX_EXPIRE_FRACTION = {max_fraction}; unless the \
         broker's clock is wrong, the next run after {} retires them; to retire them now, run auto-expire with \
         force=true",
        since + CONFIRM_AFTER
    ));
}
