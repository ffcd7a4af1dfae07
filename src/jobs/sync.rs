//! Sync: brings the pool in step with the accounts that CSP lists.
//!
//! Only what differs is written, each write on the condition that the sandbox is still as it was read. Sandboxes that
//! have, or had, a holder are not touched.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::{
    backoff::Backoff,
    candidates::Candidate,
    clock::{Clock, UnixSeconds},
    config::SyncConfig,
    csp::{AccountList, CspClient, CspError},
    sandbox::{Account, LeaseTerms, Sandbox, SandboxId, Status},
    store::{Inserted, PoolStore, StoreError},
    supply::Supply,
};

/// Sandboxes inserted by one transaction: two of its at most 100 actions each.
const INSERT_BATCH: usize = 25;
const WRITE_CONCURRENCY: usize = 16;
const LIST_ATTEMPTS: u32 = 3;
/// A pause that CSP asks for is kept up to this long; beyond it the run gives up.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Fewer available sandboxes than this are too few for a fraction of them to mean anything.
const GUARD_FROM: usize = 5;

/// What one run needs.
#[derive(Debug)]
pub struct SyncJob {
    /// The pool.
    pub store: PoolStore,
    /// Where the accounts are.
    pub csp: CspClient,
    /// The index that is told of new sandboxes.
    pub supply: Supply,
    /// For new sandboxes.
    pub terms: LeaseTerms,
    /// Its settings.
    pub config: SyncConfig,
    /// Between attempts to get the list.
    pub backoff: Backoff,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum SyncError {
    /// CSP did not give its list.
    #[error(transparent)]
    Csp(#[from] CspError),
    /// The pool could not be read or written. What was written stays; the next run goes on.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "completed", "synced": 200, "inserted": 4, "updated": 1, "restored": 0, "marked_stale": 2,
    "skipped": 0, "duplicates": 0, "unreadable": 0, "duration_ms": 412
}))]
pub struct SyncReport {
    /// `completed`.
    pub status: &'static str,
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

/// What differs between CSP and the pool.
#[derive(Debug, Default)]
struct Difference {
    new: Vec<Account>,
    changed: Vec<Account>,
    back: Vec<Account>,
    gone: Vec<SandboxId>,
    available: usize,
}

/// A change of a sandbox that ends up available.
#[derive(Clone, Copy, Debug)]
enum Change {
    Update,
    Restore,
}

impl SyncJob {
    /// One run. `force` marks stale whatever is missing from CSP's list, however much that is.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn run_once(&self, force: bool) -> Result<SyncReport, SyncError> {
        let began = Instant::now();
        let now = self.clock.now();
        let list = self.list_accounts().await?;
        let mut report = SyncReport {
            status: "completed",
            synced: list.accounts.len(),
            skipped: list.skipped,
            duplicates: list.duplicates,
            ..SyncReport::default()
        };
        let mut difference = self.compare(list, &mut report).await?;
        if let Some(reason) = self.guard(report.synced, &difference).filter(|_| !force) {
            tracing::warn!(
                missing = difference.gone.len(),
                available = difference.available,
                reason,
                "sync guard"
            );
            difference.gone.clear();
            report.stale_guard = Some(reason);
        }
        report.inserted = self.insert(difference.new, now).await?;
        report.updated = self.write(Change::Update, difference.changed, now).await?;
        report.restored = self.write(Change::Restore, difference.back, now).await?;
        report.marked_stale = self.mark_stale(difference.gone, now).await?;
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            action = "sync",
            synced = report.synced,
            inserted = report.inserted,
            updated = report.updated,
            restored = report.restored,
            marked_stale = report.marked_stale,
            skipped = report.skipped,
            unreadable = report.unreadable,
            latency_ms = report.duration_ms,
            "sync completed"
        );
        Ok(report)
    }

    async fn list_accounts(&self) -> Result<AccountList, CspError> {
        let mut attempt = 0;
        loop {
            let error = match self.csp.list_accounts().await {
                Ok(list) => return Ok(list),
                Err(error) => error,
            };
            attempt += 1;
            let pause = match &error {
                CspError::RateLimited {
                    retry_after: Some(pause),
                } => *pause,
                _ => self.backoff.pause(attempt),
            };
            if attempt == LIST_ATTEMPTS || !error.is_transient() || pause > LONGEST_PAUSE {
                return Err(error);
            }
            tracing::warn!(
                attempt,
                error = &error as &dyn std::error::Error,
                "CSP did not list its accounts"
            );
            tokio::time::sleep(pause).await;
        }
    }

    async fn compare(
        &self,
        list: AccountList,
        report: &mut SyncReport,
    ) -> Result<Difference, StoreError> {
        let mut listed: HashMap<SandboxId, Account> = list
            .accounts
            .into_iter()
            .map(|account| (account.sandbox_id.clone(), account))
            .collect();
        let mut difference = Difference::default();
        let mut pages = self.store.sandbox_pages();
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
        }
        difference.new.extend(listed.into_values());
        Ok(difference)
    }

    /// An empty or halved list is more likely a fault of CSP than the end of that many accounts.
    fn guard(&self, listed: usize, difference: &Difference) -> Option<String> {
        let (gone, available) = (difference.gone.len(), difference.available);
        if listed == 0 && gone > 0 {
            return Some("CSP lists no account at all; if they are really gone, run the sync with force=true".to_owned());
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a pool has fewer than 2^52 sandboxes"
        )]
        let too_many = available >= GUARD_FROM
            && gone as f64 > available as f64 * self.config.max_stale_fraction;
        too_many.then(|| {
            format!(
                "CSP's list lacks {gone} of {available} available sandboxes, more than MAX_STALE_FRACTION = {}; if they \
                 are really gone, run the sync with force=true",
                self.config.max_stale_fraction
            )
        })
    }

    async fn insert(&self, accounts: Vec<Account>, now: UnixSeconds) -> Result<usize, StoreError> {
        let batches: Vec<Vec<Account>> = accounts
            .chunks(INSERT_BATCH)
            .map(<[Account]>::to_vec)
            .collect();
        stream::iter(batches)
            .map(|batch| self.insert_batch(batch, now))
            .buffer_unordered(WRITE_CONCURRENCY)
            .try_fold(0, async |sum, inserted| Ok(sum + inserted))
            .await
    }

    /// All at once; one by one if that does not go, as when one of them was deleted a moment ago.
    async fn insert_batch(
        &self,
        batch: Vec<Account>,
        now: UnixSeconds,
    ) -> Result<usize, StoreError> {
        let hours = self.terms.lab_duration_hours;
        if self.store.insert(&batch, hours, now).await? == Inserted::All {
            self.supply
                .candidates()
                .add(batch.iter().map(Candidate::from).collect());
            return Ok(batch.len());
        }
        let mut inserted = 0;
        for account in &batch {
            if self
                .store
                .insert(std::slice::from_ref(account), hours, now)
                .await?
                == Inserted::All
            {
                self.supply.candidates().add(vec![Candidate::from(account)]);
                inserted += 1;
            }
        }
        Ok(inserted)
    }

    /// Writes sandboxes one by one; those whose condition held go into the index as they are now.
    async fn write(
        &self,
        change: Change,
        accounts: Vec<Account>,
        now: UnixSeconds,
    ) -> Result<usize, StoreError> {
        let written: Vec<Account> = stream::iter(accounts)
            .map(|account| async move {
                let held = match change {
                    Change::Update => self.store.update_account(&account, now).await?,
                    Change::Restore => self.store.restore(&account, now).await?,
                };
                Ok::<_, StoreError>(held.then_some(account))
            })
            .buffer_unordered(WRITE_CONCURRENCY)
            .try_filter_map(async |account| Ok(account))
            .try_collect()
            .await?;
        let candidates = self.supply.candidates();
        candidates.remove(
            &written
                .iter()
                .map(|account| account.sandbox_id.clone())
                .collect(),
        );
        candidates.add(written.iter().map(Candidate::from).collect());
        Ok(written.len())
    }

    async fn mark_stale(
        &self,
        gone: Vec<SandboxId>,
        now: UnixSeconds,
    ) -> Result<usize, StoreError> {
        let marked: HashSet<SandboxId> = stream::iter(gone)
            .map(|id| async move {
                Ok::<_, StoreError>(self.store.mark_stale(&id, now).await?.then_some(id))
            })
            .buffer_unordered(WRITE_CONCURRENCY)
            .try_filter_map(async |id| Ok(id))
            .try_collect()
            .await?;
        self.supply.candidates().remove(&marked);
        Ok(marked.len())
    }
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
            (Status::Stale, Some(account)) if sandbox.expires_at().is_none() => {
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
