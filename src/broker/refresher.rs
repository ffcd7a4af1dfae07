//! Keeps the candidate index filled from the table.
//!
//! At most one scan runs at a time. Requests that find no candidate wait for it and share its result; in the background
//! a scan tops up an index that runs low or has shown too many stale candidates.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    broker::candidates::{CandidateIndex, Reservation},
    domain::NamePrefix,
    store::{PageSize, PoolStore, StoreError},
};

/// How long an empty scan may answer other requests, measured from its start.
const EMPTY_SCAN_VALID_FOR: Duration = Duration::from_millis(250);
/// How long an empty scan is retained: longer than a request may take, so that requests which began before it find it.
const EMPTY_SCAN_KEPT_FOR: Duration = Duration::from_secs(30);
/// The shortest interval between background scans while the index holds all available sandboxes of the table.
const TOP_UP_INTERVAL: Duration = Duration::from_secs(2);
/// The number of stale hits since the last scan began that makes the index outdated.
const STALE_HITS_TOLERATED: usize = 8;
/// The shortest interval between scans of an outdated index. Scans also take at most a quarter of the time.
const OUTDATED_REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// The result of a refresh for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The index has candidates that match.
    Found,
    /// Other requests of this process have reserved every match and may return some.
    Busy,
    /// No matching sandbox is available.
    Empty,
}

/// The candidate index and the scans that fill it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CandidateRefresher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PoolStore,
    candidates: CandidateIndex,
    /// Locked during every scan.
    state: Arc<Mutex<RefreshState>>,
    waiting: AtomicUsize,
    tasks: TaskTracker,
}

/// The results of earlier scans.
#[derive(Debug, Default)]
struct RefreshState {
    /// When the last scan for a prefix that found no match began. The index itself answers for every prefix unless the
    /// table has more available sandboxes than it can hold.
    empty: HashMap<NamePrefix, Instant>,
    /// When the last failed scan ended.
    failed: Option<Instant>,
    last: Option<LastScan>,
}

#[derive(Clone, Copy, Debug)]
struct LastScan {
    took: Duration,
    ended: Instant,
    /// Whether it stopped before the last page.
    stopped_early: bool,
}

impl RefreshState {
    fn record_scan(&mut self, began: Instant, stopped_early: bool) {
        self.last = Some(LastScan {
            took: began.elapsed(),
            ended: Instant::now(),
            stopped_early,
        });
    }

    /// Whether another scan is likely to improve an index that runs low or is outdated.
    fn should_refresh(&self, runs_low: bool, is_outdated: bool) -> bool {
        self.last.is_none_or(|last| {
            let since = last.ended.elapsed();
            (runs_low && last.stopped_early)
                || (is_outdated && since >= OUTDATED_REFRESH_INTERVAL.max(3 * last.took))
                || since >= TOP_UP_INTERVAL
        })
    }

    /// The answer of earlier scans to a request for `prefix` that began to wait at `waiting_since`.
    fn earlier_answer(
        &mut self,
        candidates: &CandidateIndex,
        prefix: Option<&NamePrefix>,
        waiting_since: Instant,
    ) -> Option<Result<Refreshed, StoreError>> {
        if self.failed.is_some_and(|at| at >= waiting_since) {
            return Some(Err(StoreError::shared("Query")));
        }
        self.empty
            .retain(|_, began| began.elapsed() < EMPTY_SCAN_KEPT_FOR);
        let of_prefix = prefix.and_then(|prefix| self.empty.get(prefix).copied());
        let began = candidates.no_match_since(prefix).max(of_prefix)?;
        (waiting_since < began + EMPTY_SCAN_VALID_FOR).then_some(Ok(Refreshed::Empty))
    }
}

/// The result of a scan for a prefix.
struct ScanResult {
    refreshed: Refreshed,
    /// Whether it stopped before the last page.
    stopped_early: bool,
}

/// Why a scan runs. Only a scan for a request answers other requests: sandboxes that become available after a scan in the
/// background began must not be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Request,
    Background,
}

/// Counts a request that waits for a refresh.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl CandidateRefresher {
    /// Creates a refresher that fills `candidates` from `store`; its scans run on `tasks`.
    #[must_use]
    pub fn new(store: PoolStore, candidates: CandidateIndex, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            store,
            candidates,
            state: Arc::default(),
            waiting: AtomicUsize::new(0),
            tasks,
        }))
    }

    /// The candidate index.
    #[must_use]
    pub fn candidates(&self) -> &CandidateIndex {
        &self.0.candidates
    }

    /// Reserves a candidate, and starts a scan in the background if the index runs low or is outdated.
    #[must_use]
    pub fn reserve(&self, prefix: Option<&NamePrefix>) -> Option<Reservation<'_>> {
        self.top_up_in_background();
        self.candidates().reserve(prefix)
    }

    /// Waits until there is a candidate with the prefix, or a scan has read the table to the last page without finding
    /// one. Waiting requests share one scan and continue with the page that brings their candidate.
    ///
    /// # Errors
    /// [`StoreError`] if the scan failed.
    pub async fn refresh(&self, prefix: Option<&NamePrefix>) -> Result<Refreshed, StoreError> {
        let _waiting = Waiting::enter(&self.0.waiting);
        tokio::select! {
            biased;
            () = self.candidates().wait_for_match(prefix) => Ok(Refreshed::Found),
            refreshed = self.scan_or_share(prefix) => refreshed,
        }
    }

    async fn scan_or_share(&self, prefix: Option<&NamePrefix>) -> Result<Refreshed, StoreError> {
        let waiting_since = Instant::now();
        let mut state = Arc::clone(&self.0.state).lock_owned().await;
        if self.candidates().has_match(prefix) {
            return Ok(Refreshed::Found);
        }
        if let Some(answer) = state.earlier_answer(self.candidates(), prefix, waiting_since) {
            return answer;
        }
        let (shared, prefix) = (self.clone(), prefix.cloned());
        // A task of its own, so that the time-out of this request does not cancel a scan that others wait for.
        let scan = async move { shared.scan_and_record(&mut state, prefix).await };
        let result = self.0.tasks.spawn(scan).await;
        result.unwrap_or_else(|_| Err(StoreError::shared("Query")))
    }

    async fn scan_and_record(
        &self,
        state: &mut RefreshState,
        prefix: Option<NamePrefix>,
    ) -> Result<Refreshed, StoreError> {
        let began = Instant::now();
        match self.0.scan_for(prefix.as_ref(), Purpose::Request).await {
            Ok(ScanResult {
                refreshed,
                stopped_early,
            }) => {
                // A scan that stopped early for a prefix does not show how many more sandboxes the table has.
                if prefix.is_none() || !stopped_early {
                    state.record_scan(began, stopped_early);
                }
                if refreshed == Refreshed::Empty
                    && let Some(prefix) = prefix
                {
                    state.empty.insert(prefix, began);
                }
                Ok(refreshed)
            }
            Err(error) => {
                state.record_scan(began, false);
                state.failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Reads the first page of the table and starts a scan of the rest in the background.
    ///
    /// # Errors
    /// [`StoreError`] if the first page could not be read.
    pub async fn warm_up(&self) -> Result<(), StoreError> {
        {
            let mut state = self.0.state.lock().await;
            let began = Instant::now();
            // No request waits yet, so this stops after the first page.
            let result = self.0.scan_for(None, Purpose::Background).await?;
            state.record_scan(began, result.stopped_early);
        }
        self.top_up_in_background();
        Ok(())
    }

    /// Scans the table until the index is full, or to the last page.
    ///
    /// # Errors
    /// [`StoreError`] if the scan failed; candidates of the pages that it had read stay in the index.
    pub async fn fill(&self) -> Result<(), StoreError> {
        let mut state = self.0.state.lock().await;
        self.fill_and_record(&mut state).await
    }

    async fn fill_and_record(&self, state: &mut RefreshState) -> Result<(), StoreError> {
        let began = Instant::now();
        let scan = self.0.scan_to_capacity().await;
        state.record_scan(began, *scan.as_ref().unwrap_or(&false));
        scan.map(drop)
    }

    fn top_up_in_background(&self) {
        let candidates = self.candidates();
        let runs_low = candidates.len() < candidates.capacity() / 4;
        let is_outdated = candidates.stale_hits() >= STALE_HITS_TOLERATED;
        if !runs_low && !is_outdated {
            return;
        }
        // A scan that is running fills the index as well. If that is not enough, the next request starts another.
        let Ok(mut state) = Arc::clone(&self.0.state).try_lock_owned() else {
            return;
        };
        if !state.should_refresh(runs_low, is_outdated) {
            return;
        }
        let refresher = self.clone();
        self.0.tasks.spawn(async move {
            if let Err(error) = refresher.fill_and_record(&mut state).await {
                // The next request that finds no candidate scans the table itself and returns the error to its client.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "candidate index refresh failed"
                );
            }
        });
    }
}

impl Inner {
    /// Scans the table until there are enough candidates with the prefix for all waiting requests, or to the last page.
    async fn scan_for(
        &self,
        prefix: Option<&NamePrefix>,
        purpose: Purpose,
    ) -> Result<ScanResult, StoreError> {
        let scan = self.candidates.begin_scan();
        let mut pages = pin!(self.store.available_pages(PageSize::Growing));
        let (mut free, mut reserved) = (0, 0);
        while let Some(page) = pages.try_next().await? {
            let matches = self.candidates.add_page(page.candidates, scan, prefix);
            free += matches.free;
            reserved += matches.reserved;
            // Waiting requests leave page by page, with the candidates that they have reserved.
            if !page.is_last
                && self.candidates.count_matches(prefix) >= self.waiting.load(Ordering::Relaxed)
            {
                return Ok(ScanResult {
                    refreshed: Refreshed::Found,
                    stopped_early: true,
                });
            }
        }
        self.candidates
            .finish_scan(scan, purpose == Purpose::Request);
        // A request or a job may have added a match after its page was read.
        let refreshed = if free > 0 || self.candidates.has_match(prefix) {
            Refreshed::Found
        } else if reserved > 0 {
            Refreshed::Busy
        } else {
            Refreshed::Empty
        };
        Ok(ScanResult {
            refreshed,
            stopped_early: false,
        })
    }

    /// Scans the table until the index is full, or to the last page. Returns whether it stopped before the last page.
    async fn scan_to_capacity(&self) -> Result<bool, StoreError> {
        let scan = self.candidates.begin_scan();
        let mut pages = pin!(self.store.available_pages(PageSize::Steady));
        let mut found = 0;
        let mut stopped_early = false;
        while !stopped_early && let Some(page) = pages.try_next().await? {
            found += self.candidates.add_page(page.candidates, scan, None).free;
            stopped_early = !page.is_last && found >= self.candidates.capacity();
        }
        self.candidates.finish_scan(scan, false);
        Ok(stopped_early)
    }
}
