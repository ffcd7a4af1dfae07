//! Sync: brings the pool in step with the accounts that CSP lists.
//!
//! Only what differs is written, each write on the condition that the sandbox is still as it was read. Sandboxes that
//! have, or had, a holder are not touched.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::StreamExt;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    JobContext, JobError,
    runner::{Job, Report, ReportStatus, Run},
};
use crate::{
    clock::UnixSeconds,
    csp::{AccountList, CspError},
    domain::{Account, Candidate, JobName, Sandbox, SandboxId, Status},
    store::{Change, StoreError, Tombstone},
    telemetry::metrics::Metrics,
};

const LIST_ATTEMPTS: u32 = 3;
/// A pause that CSP asks for is kept up to this long; beyond it the run gives up.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Fewer available sandboxes than this are too few for a fraction of them to mean anything.
const GUARD_FROM: usize = 5;

/// The job.
#[derive(Debug)]
pub(crate) struct SyncJob {
    /// Mark stale whatever is missing from CSP's list, however much that is.
    pub force: bool,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "completed", "synced": 200, "inserted": 4, "updated": 1, "restored": 0, "marked_stale": 2, "reinstated": 0,
    "skipped": 0, "duplicates": 0, "unreadable": 0, "duration_ms": 412
}))]
pub(crate) struct SyncReport {
    /// How it ended.
    pub status: ReportStatus,
    /// Active sandbox accounts that CSP lists.
    pub synced: usize,
    /// New sandboxes put into the pool.
    pub inserted: usize,
    /// Available sandboxes whose name, external id or Salesforce account changed.
    pub updated: usize,
    /// Stale sandboxes that CSP lists again.
    pub restored: usize,
    /// Available sandboxes that CSP no longer lists.
    pub marked_stale: usize,
    /// Deleted sandboxes that CSP still lists after an hour, put back in line for deletion.
    pub reinstated: usize,
    /// Entries of CSP's list that are broken.
    pub skipped: usize,
    /// Entries of CSP's list that repeat an id.
    pub duplicates: usize,
    /// Items of the table that are no readable sandboxes.
    pub unreadable: usize,
    /// Why nothing was marked stale although sandboxes are missing from CSP's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_guard: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for SyncReport {
    fn is_interrupted(&self) -> bool {
        self.status == ReportStatus::Interrupted
    }

    fn count(&self, metrics: &Metrics, outcome: &str, took: Duration) {
        metrics.sync.with_label_values(&[outcome]).inc();
        metrics.sync_synced.inc_by(self.synced as u64);
        metrics.sync_stale.inc_by(self.marked_stale as u64);
        metrics.sync_duration.observe(took.as_secs_f64());
    }
}

/// What differs between CSP and the pool.
#[derive(Debug, Default)]
struct Difference {
    new: Vec<Account>,
    changed: Vec<Account>,
    back: Vec<Account>,
    gone: Vec<SandboxId>,
    resurfaced: Vec<(Tombstone, Account)>,
    available: usize,
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
            duplicates: list.duplicates,
            ..SyncReport::default()
        };
        run.progress(&report);
        let mut difference = compare(context, list, now, &mut report).await?;
        if let Some(reason) = guard(report.synced, &difference, context.sync.max_stale_fraction)
            .filter(|_| !self.force)
        {
            tracing::warn!(
                missing = difference.gone.len(),
                available = difference.available,
                reason,
                "nothing is marked stale"
            );
            difference.gone.clear();
            report.stale_guard = Some(reason);
        }
        let wrote_all = write_all(run, difference, now, &mut report).await?;
        report.status = ReportStatus::of_run(wrote_all);
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
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
            "CSP did not list its accounts"
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
    let mut listed: HashMap<SandboxId, Account> = list
        .accounts
        .into_iter()
        .map(|account| (account.sandbox_id.clone(), account))
        .collect();
    let mut tombstones: HashMap<String, Tombstone> = HashMap::new();
    let mut difference = Difference::default();
    let mut pages = context.store.sandbox_pages();
    while let Some(page) = pages.next().await {
        let page = page?;
        report.unreadable += page.unreadable.len();
        for id in page.unreadable {
            // Not new, whatever it is.
            listed.remove(id.as_str());
        }
        for sandbox in page.sandboxes {
            let account = listed.remove(sandbox.id());
            let is_listed = account.is_some() || list.broken.contains(sandbox.id());
            difference.sort(sandbox, account, is_listed);
        }
        tombstones.extend(
            page.tombstones
                .into_iter()
                .map(|one| (one.sandbox_id.clone(), one)),
        );
    }
    let patience = context.sync.tombstone_retry;
    for account in listed.into_values() {
        match tombstones.remove(account.sandbox_id.as_str()) {
            None => difference.new.push(account),
            // CSP may be slow to forget it.
            Some(tombstone) if UnixSeconds(tombstone.deleted_at) + patience > now => {}
            Some(tombstone) => difference.resurfaced.push((tombstone, account)),
        }
    }
    Ok(difference)
}

/// An empty or halved list is more likely a fault of CSP than the end of that many accounts.
fn guard(listed: usize, difference: &Difference, max_stale_fraction: f64) -> Option<String> {
    let (gone, available) = (difference.gone.len(), difference.available);
    if listed == 0 && gone > 0 {
        return Some(
            "CSP lists no account at all; if they are really gone, run the sync with force=true"
                .to_owned(),
        );
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a pool has fewer than 2^52 sandboxes"
    )]
    let too_many = available >= GUARD_FROM && gone as f64 > available as f64 * max_stale_fraction;
    too_many.then(|| {
        format!(
            "CSP's list lacks {gone} of {available} available sandboxes, more than MAX_STALE_FRACTION = \
             {max_stale_fraction}; if they are really gone, run the sync with force=true"
        )
    })
}

/// Whether everything was written before the order to stop.
async fn write_all(
    run: &Run<SyncReport>,
    difference: Difference,
    now: UnixSeconds,
    report: &mut SyncReport,
) -> Result<bool, StoreError> {
    let Difference {
        new,
        changed,
        back,
        gone,
        resurfaced,
        ..
    } = difference;
    let changes: Vec<Change> = (new.into_iter().map(Change::Insert))
        .chain(back.into_iter().map(Change::Restore))
        .chain(changed.into_iter().map(Change::Update))
        .chain(gone.into_iter().map(Change::MarkStale))
        .chain(
            resurfaced
                .into_iter()
                .map(|(tombstone, account)| Change::Reinstate(Box::new(tombstone), account)),
        )
        .collect();
    run.write_all(&changes, now, |chunk, made| {
        let made = chunk.iter().zip(made).filter(|(_, made)| **made);
        note(run.context(), made.map(|(change, _)| change), report);
        run.progress(report);
    })
    .await
}

/// Counts what was written, and tells the index of it.
fn note<'a>(context: &JobContext, made: impl Iterator<Item = &'a Change>, report: &mut SyncReport) {
    let (mut available, mut outdated) = (Vec::new(), HashSet::new());
    for change in made {
        match change {
            Change::Insert(account) => {
                report.inserted += 1;
                available.push(Candidate::from(account));
            }
            Change::Restore(account) => {
                report.restored += 1;
                available.push(Candidate::from(account));
            }
            Change::Update(account) => {
                report.updated += 1;
                outdated.insert(account.sandbox_id.clone());
                available.push(Candidate::from(account));
            }
            Change::MarkStale(id) => {
                report.marked_stale += 1;
                outdated.insert(id.clone());
            }
            Change::Reinstate(..) => report.reinstated += 1,
            _ => {}
        }
    }
    let candidates = context.refresher.candidates();
    candidates.remove(&outdated);
    candidates.add(available);
}

impl Difference {
    fn sort(&mut self, sandbox: Sandbox, account: Option<Account>, is_listed: bool) {
        match (sandbox.status, account) {
            (Status::Available, account) => {
                self.available += 1;
                match account {
                    Some(account) if differs(&sandbox.account, &account) => {
                        self.changed.push(account);
                    }
                    None if !is_listed => self.gone.push(sandbox.account.sandbox_id),
                    _ => {}
                }
            }
            (Status::Stale, Some(account))
                if sandbox.expires_at().is_none() && sandbox.holder.is_none() =>
            {
                self.back.push(account);
            }
            _ => {}
        }
    }
}

fn differs(known: &Account, listed: &Account) -> bool {
    (&known.name, &known.external_id, &known.sfdc_account_id)
        != (&listed.name, &listed.external_id, &listed.sfdc_account_id)
}
