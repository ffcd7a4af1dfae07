//! Sync: synchronises the pool with the accounts that CSP lists.
//!
//! It writes differences only, each on the condition that the sandbox has not changed since it was read. It does not
//! change sandboxes that have, or had, a holder.

mod comparison;

use std::{collections::HashSet, time::Duration};

use futures_util::StreamExt;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use self::comparison::{Comparison, Difference, Relisted};
use super::{
    CheckMode, JobContext, JobError,
    refill::listing::ListedCreations,
    run::{Job, Report, ReportStatus, Run, elapsed_ms},
};
use crate::{
    clock::UnixSeconds,
    csp::{AccountList, CspError},
    domain::{Candidate, JobName, Status},
    store::{Change, Holders, StoreError},
    telemetry::metrics::Metrics,
};

/// Attempts to list the accounts.
const LIST_ATTEMPTS: u32 = 3;
/// The longest pause requested by CSP that a run waits for; for a longer one it fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// The guard against mass removal needs at least this many available sandboxes for a meaningful fraction.
const GUARD_MIN_POOL: usize = 5;

/// The job.
#[derive(Debug)]
pub(crate) struct SyncJob {
    /// Mark every sandbox stale that is missing from CSP's list, without the limit of `MAX_STALE_FRACTION`.
    pub force: bool,
}

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "completed", "synced": 200, "inserted": 4, "updated": 1, "provided": 0, "restored": 0, "marked_stale": 2,
    "quarantined_missing": 0, "reinstated": 0, "skipped": 0, "duplicates": 0, "unnumbered": 0, "unreadable": 0, "claims_written": 0,
    "duration_ms": 412
}))]
pub(crate) struct SyncReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Active sandbox accounts that CSP lists.
    pub synced: usize,
    /// New sandboxes inserted into the pool: `available`, or `provisioning` if accounts are checked.
    pub inserted: usize,
    /// Sandboxes in `available` or `provisioning` whose name, external id or Salesforce account changed.
    pub updated: usize,
    /// Sandboxes in `provisioning`, now `available` because accounts are no longer checked.
    pub provided: usize,
    /// Stale sandboxes that CSP lists again, now `available`, or `provisioning` if their account has to be checked.
    pub restored: usize,
    /// Sandboxes in `available` or `provisioning` that CSP no longer lists, or whose account has another sandbox: now
    /// `stale`.
    pub marked_stale: usize,
    /// Quarantined sandboxes that CSP does not list. They stay as they are; an operator can delete them.
    pub quarantined_missing: usize,
    /// Deleted sandboxes that CSP still lists after an hour, now `pending_deletion` again.
    pub reinstated: usize,
    /// Entries of CSP's list that are unreadable, or whose deletion would be impossible.
    pub skipped: usize,
    /// Entries of CSP's list, and sandboxes, that repeat an account or an id.
    pub duplicates: usize,
    /// Entries of CSP's list without a `csp_id` above 0: accounts that CSP is still creating.
    pub unnumbered: usize,
    /// Unreadable items of the pool.
    pub unreadable: usize,
    /// Claims written for allocations of the FastAPI service, so that a retry of their holder returns the same sandbox.
    pub claims_written: usize,
    /// Why nothing was marked stale although sandboxes are missing from CSP's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_guard: Option<String>,
    /// The pause that stopped the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for SyncReport {
    fn status(&self) -> ReportStatus {
        self.status
    }

    fn pause(&mut self, reason: String) {
        self.status = ReportStatus::Paused;
        self.stopped = Some(reason);
    }

    fn count(&self, metrics: &Metrics, outcome: &str, took: Duration) {
        metrics.sync.with_label_values(&[outcome]).inc();
        metrics.sync_synced.inc_by(self.synced as u64);
        metrics.sync_stale.inc_by(self.marked_stale as u64);
        metrics.sync_duration.observe(took.as_secs_f64());
    }

    fn processed(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("inserted", self.inserted),
            ("updated", self.updated),
            ("provided", self.provided),
            ("restored", self.restored),
            ("marked_stale", self.marked_stale),
            ("reinstated", self.reinstated),
        ]
    }
}

impl Job for SyncJob {
    type Report = SyncReport;

    fn name(&self) -> JobName {
        JobName::Sync
    }

    async fn run_once(&self, run: &Run<SyncReport>) -> Result<SyncReport, JobError> {
        let began = Instant::now();
        let context = run.context();
        let now = context.clock.now();
        let list = list_accounts(run).await?;
        let mut report = SyncReport {
            synced: list.accounts.len(),
            skipped: list.skipped,
            unnumbered: list.unnumbered,
            ..SyncReport::default()
        };
        run.progress(&report);
        let incomplete = list.incomplete.clone();
        let listed_creations = ListedCreations::adopt(run, &list).await?;
        let mut difference = compare(context, list, now, &mut report).await?;
        report.synced = difference.listed;
        report.duplicates = difference.duplicates;
        let reason = match incomplete {
            Some(reason) => Some(format!(
                "{reason}; to mark missing ones stale anyway, run sync with force=true"
            )),
            None => guard(&difference, context.sync.max_stale_fraction),
        };
        if let Some(reason) = reason.filter(|_| !self.force) {
            tracing::warn!(
                missing = difference.missing.len(),
                available = difference.available,
                provisioning = difference.provisioning,
                reason,
                "sync guard: no sandbox is marked stale"
            );
            difference.missing.clear();
            difference.quarantined_missing = 0;
            difference.relisted.retain(Relisted::is_listed);
            report.stale_guard = Some(reason);
        }
        report.quarantined_missing = difference.quarantined_missing;
        let wrote_all = write_all(run, difference, now, &mut report).await?;
        if wrote_all {
            listed_creations.record(run).await?;
        }
        report.status = ReportStatus::of_run(wrote_all);
        report.duration_ms = elapsed_ms(began);
        Ok(report)
    }
}

async fn list_accounts(run: &Run<SyncReport>) -> Result<AccountList, CspError> {
    let mut attempt = 0;
    loop {
        let error = match run.context().csp.list_accounts().await {
            Ok(list) => return Ok(list),
            Err(error) => error,
        };
        attempt += 1;
        let pause = error
            .retry_after()
            .unwrap_or_else(|| run.context().backoff.pause(attempt));
        if attempt == LIST_ATTEMPTS
            || !error.is_transient()
            || pause > LONGEST_PAUSE
            || run.is_stopped()
        {
            return Err(error);
        }
        tracing::warn!(
            attempt,
            error = &error as &dyn std::error::Error,
            "attempt to list accounts failed"
        );
        run.pause(pause).await;
    }
}

async fn compare(
    context: &JobContext,
    list: AccountList,
    now: UnixSeconds,
    report: &mut SyncReport,
) -> Result<Difference, StoreError> {
    let checks = context.jobs.check.mode != CheckMode::Off;
    let mut comparison = Comparison::new(list, checks);
    let mut inherited = Holders::default();
    let mut pages = context.store.sandbox_pages();
    while let Some(page) = pages.next().await {
        let page = page?;
        report.unreadable += page.unreadable.len();
        for sandbox in &page.sandboxes {
            if sandbox.is_inherited && sandbox.status == Status::Allocated {
                inherited.add(sandbox.clone());
            }
        }
        comparison.add(page);
    }
    context
        .store
        .record_unreadable(report.unreadable, now)
        .await?;
    report.claims_written = context
        .store
        .write_missing_claims(inherited, context.terms)
        .await?;
    Ok(comparison.finish(now, context.sync.tombstone_retry))
}

/// Returns the reason not to mark missing sandboxes stale, if there is one: an empty or halved list is more likely a
/// fault of CSP than the deletion of that many accounts.
fn guard(difference: &Difference, max_stale_fraction: f64) -> Option<String> {
    if difference.listed == 0 && !difference.missing.is_empty() {
        return Some(
            "CSP lists no accounts; if they are really deleted, run sync with force=true"
                .to_owned(),
        );
    }
    let of_available = difference.missing.iter();
    let of_available = of_available.filter(|(_, status)| *status == Status::Available);
    let waiting = difference.available + difference.provisioning;
    [
        (of_available.count(), difference.available, "available"),
        (difference.missing.len(), waiting, "available and new"),
    ]
    .into_iter()
    .find(|(missing, all, _)| exceeds(*missing, *all, max_stale_fraction))
    .map(|(missing, all, kind)| {
        format!(
            "{missing} of {all} {kind} sandboxes are missing from CSP's list, more than MAX_STALE_FRACTION = \
             {max_stale_fraction}; if they are really deleted, run sync with force=true"
        )
    })
}

/// Returns whether a run may not take so many of `all` sandboxes out of use.
pub(super) fn exceeds(taken: usize, all: usize, max_stale_fraction: f64) -> bool {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a pool has fewer than 2^52 sandboxes"
    )]
    let exceeds = taken as f64 > all as f64 * max_stale_fraction;
    all >= GUARD_MIN_POOL && exceeds
}

/// Writes the differences. Returns whether all were written before the run had to stop.
async fn write_all(
    run: &Run<SyncReport>,
    difference: Difference,
    now: UnixSeconds,
    report: &mut SyncReport,
) -> Result<bool, StoreError> {
    let Difference {
        new,
        changed,
        provided,
        restored,
        missing,
        repeated,
        relisted,
        resurfaced,
        ..
    } = difference;
    let entry = if run.context().jobs.check.mode == CheckMode::Off {
        Status::Available
    } else {
        Status::Provisioning
    };
    let stale = |(id, from)| Change::MarkStale(id, from);
    let changes: Vec<Change> = (repeated.into_iter().map(stale))
        .chain(
            new.into_iter()
                .map(|account| Change::Insert(account, entry)),
        )
        .chain(
            restored
                .into_iter()
                .map(|(account, to)| Change::Restore(account, to)),
        )
        .chain(provided.into_iter().map(Change::Provide))
        .chain(
            changed
                .into_iter()
                .map(|(account, status)| Change::Update(account, status)),
        )
        .chain(missing.into_iter().map(stale))
        .chain(
            relisted
                .into_iter()
                .map(|Relisted { id, was, is }| Change::QuarantinedListing { id, was, is }),
        )
        .chain(
            resurfaced
                .into_iter()
                .map(|(tombstone, account)| Change::Reinstate(Box::new(tombstone), account)),
        )
        .collect();
    run.write_all(&changes, now, |chunk, made| {
        let made = chunk.iter().zip(made).filter(|(_, made)| **made);
        record(run.context(), made.map(|(change, _)| change), report);
        run.progress(report);
    })
    .await
}

/// Counts changes in the report, and applies them to the candidate index.
fn record<'a>(
    context: &JobContext,
    made: impl Iterator<Item = &'a Change>,
    report: &mut SyncReport,
) {
    let (mut available, mut outdated) = (Vec::new(), HashSet::new());
    for change in made {
        let now_available = match change {
            Change::Insert(account, status) => {
                report.inserted += 1;
                (*status == Status::Available).then_some(account)
            }
            Change::Restore(account, status) => {
                report.restored += 1;
                (*status == Status::Available).then_some(account)
            }
            Change::Provide(account) => {
                report.provided += 1;
                Some(account)
            }
            Change::Update(account, status) => {
                report.updated += 1;
                outdated.insert(account.sandbox_id.clone());
                (*status == Status::Available).then_some(account)
            }
            Change::MarkStale(id, _) => {
                report.marked_stale += 1;
                outdated.insert(id.clone());
                None
            }
            Change::Reinstate(..) => {
                report.reinstated += 1;
                None
            }
            _ => None,
        };
        available.extend(now_available.map(Candidate::from));
    }
    let candidates = context.refresher.candidates();
    candidates.remove(&outdated);
    candidates.add(available);
}
