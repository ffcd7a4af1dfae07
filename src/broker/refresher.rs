//! Keeps the index of candidates filled from the table.

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
    broker::candidates::{Candidates, Reservation},
    domain::NamePrefix,
    store::{PageSize, PoolStore, StoreError},
};

/// A reading to the last page that found nothing answers those who asked until so long after it began.
const EMPTY_SCAN_VALID_FOR: Duration = Duration::from_millis(250);
/// How long such a reading is remembered: longer than a request may take, so whoever can share it finds it.
const EMPTY_SCAN_KEPT_FOR: Duration = Duration::from_secs(30);
/// How often the index is topped up in the background at the most, when it has all that the table has.
const TOP_UP_INTERVAL: Duration = Duration::from_secs(2);
/// So many candidates that were not what the index said, since the last reading began, call for a new one.
const STALE_HITS_TOLERATED: usize = 8;
/// How often the index is read anew at the most while others take what it has. For a quarter of the time at the most, too.
const OUTDATED_REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// What a refresh found for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// There are candidates to take.
    Found,
    /// Every match is being claimed by another request of this process; some may come back.
    Busy,
    /// The table has none.
    Empty,
}

/// The index and the one reader that may fill it at a time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CandidateRefresher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PoolStore,
    candidates: Candidates,
    state: Arc<Mutex<RefreshState>>,
    waiting: AtomicUsize,
    tasks: TaskTracker,
}

/// What earlier readings tell those who waited for them.
#[derive(Debug, Default)]
struct RefreshState {
    /// When the last reading began that found nothing.
    empty: HashMap<Option<NamePrefix>, Instant>,
    failed: Option<Instant>,
    last: Option<LastScan>,
}

/// The last reading of the table.
#[derive(Clone, Copy, Debug)]
struct LastScan {
    took: Duration,
    ended: Instant,
    /// Whether it stopped before the last page.
    left_some: bool,
}

impl RefreshState {
    fn note_end(&mut self, began: Instant, left_some: bool) {
        self.last = Some(LastScan {
            took: began.elapsed(),
            ended: Instant::now(),
            left_some,
        });
    }

    /// Whether reading again is likely to bring something. `runs_low`, `is_outdated`: the index.
    fn should_refresh(&self, runs_low: bool, is_outdated: bool) -> bool {
        self.last.is_none_or(|last| {
            let since = last.ended.elapsed();
            (runs_low && last.left_some)
                || (is_outdated && since >= OUTDATED_REFRESH_INTERVAL.max(3 * last.took))
                || since >= TOP_UP_INTERVAL
        })
    }

    /// What earlier readings answer to who asked at `asked`.
    fn answer(
        &mut self,
        prefix: Option<&NamePrefix>,
        asked: Instant,
    ) -> Option<Result<Refreshed, StoreError>> {
        if self.failed.is_some_and(|at| at >= asked) {
            return Some(Err(StoreError::shared("Query")));
        }
        self.empty
            .retain(|_, began| began.elapsed() < EMPTY_SCAN_KEPT_FOR);
        let began = self.empty.get(&prefix.cloned())?;
        (asked < *began + EMPTY_SCAN_VALID_FOR).then_some(Ok(Refreshed::Empty))
    }
}

/// What a reading found for a prefix, and whether it stopped before the last page.
struct ScanResult {
    refreshed: Refreshed,
    left_some: bool,
}

/// One request that waits for a refresh.
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
    /// An empty index in front of `store`; its background readings run on `tasks`.
    #[must_use]
    pub fn new(store: PoolStore, candidates: Candidates, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            store,
            candidates,
            state: Arc::default(),
            waiting: AtomicUsize::new(0),
            tasks,
        }))
    }

    /// The index.
    #[must_use]
    pub fn candidates(&self) -> &Candidates {
        &self.0.candidates
    }

    /// Takes a candidate, and has the index topped up if it runs low or shows too many that others took.
    #[must_use]
    pub fn check_out(&self, prefix: Option<&NamePrefix>) -> Option<Reservation<'_>> {
        self.top_up_in_background();
        self.candidates().check_out(prefix)
    }

    fn runs_low(&self) -> bool {
        self.candidates().len() < self.candidates().capacity() / 4
    }

    /// Waits until there is a candidate with the prefix, or the table was read to the last page for nothing. One reading at
    /// a time, and those who wait for it share what it finds, each page as it comes.
    ///
    /// # Errors
    /// [`StoreError`] if the reading, or the one waited for, failed.
    pub async fn refresh(&self, prefix: Option<&NamePrefix>) -> Result<Refreshed, StoreError> {
        let _waiting = Waiting::enter(&self.0.waiting);
        tokio::select! {
            biased;
            () = self.candidates().arrival(prefix) => Ok(Refreshed::Found),
            refreshed = self.refresh_in_turn(prefix) => refreshed,
        }
    }

    async fn refresh_in_turn(&self, prefix: Option<&NamePrefix>) -> Result<Refreshed, StoreError> {
        let asked = Instant::now();
        let mut state = Arc::clone(&self.0.state).lock_owned().await;
        if self.candidates().has(prefix) {
            return Ok(Refreshed::Found);
        }
        if let Some(answer) = state.answer(prefix, asked) {
            return answer;
        }
        let (supply, prefix) = (self.clone(), prefix.cloned());
        // A task of its own: a request whose time is up must not take the reading along that others wait for.
        let read = async move { supply.read_in_turn(&mut state, prefix).await };
        let refreshed = self.0.tasks.spawn(read).await;
        refreshed.unwrap_or_else(|_| Err(StoreError::shared("Query")))
    }

    async fn read_in_turn(
        &self,
        state: &mut RefreshState,
        prefix: Option<NamePrefix>,
    ) -> Result<Refreshed, StoreError> {
        let began = Instant::now();
        match self.0.read_for(prefix.as_ref()).await {
            Ok(ScanResult {
                refreshed,
                left_some,
            }) => {
                // One that stopped as soon as it had a prefix says nothing about how much the table has.
                if prefix.is_none() || !left_some {
                    state.note_end(began, left_some);
                }
                if refreshed == Refreshed::Empty {
                    state.empty.insert(prefix, began);
                }
                Ok(refreshed)
            }
            Err(error) => {
                state.note_end(began, false);
                state.failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Reads the first page of the table, and has the rest read in the background.
    ///
    /// # Errors
    /// [`StoreError`] if the first page could not be read.
    pub async fn warm_up(&self) -> Result<(), StoreError> {
        {
            let mut state = self.0.state.lock().await;
            // Nobody waits, so one page is enough; and what it did not find is nobody's answer.
            let began = Instant::now();
            let reading = self.0.read_for(None).await?;
            state.note_end(began, reading.left_some);
        }
        self.top_up_in_background();
        Ok(())
    }

    /// Reads the table until the index is full, or to the last page.
    ///
    /// # Errors
    /// [`StoreError`] if the reading failed; what it had read stays.
    pub async fn fill(&self) -> Result<(), StoreError> {
        let mut state = self.0.state.lock().await;
        self.fill_in_turn(&mut state).await
    }

    async fn fill_in_turn(&self, state: &mut RefreshState) -> Result<(), StoreError> {
        let began = Instant::now();
        let read = self.0.read_all().await;
        state.note_end(began, *read.as_ref().unwrap_or(&false));
        read.map(drop)
    }

    fn top_up_in_background(&self) {
        let runs_low = self.runs_low();
        let is_outdated = self.candidates().lost() >= STALE_HITS_TOLERATED;
        if !runs_low && !is_outdated {
            return;
        }
        // Whoever reads now fills the index as well; if that is not enough, the next request finds it low again.
        let Ok(mut state) = Arc::clone(&self.0.state).try_lock_owned() else {
            return;
        };
        if !state.should_refresh(runs_low, is_outdated) {
            return;
        }
        let supply = self.clone();
        self.0.tasks.spawn(async move {
            if let Err(error) = supply.fill_in_turn(&mut state).await {
                // The next request that finds no candidate reads for itself, and tells its caller.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not top up the candidate index"
                );
            }
        });
    }
}

impl Inner {
    /// Until there is a candidate with the prefix for everybody who waits, or to the last page.
    async fn read_for(&self, prefix: Option<&NamePrefix>) -> Result<ScanResult, StoreError> {
        let pass = self.candidates.begin_pass();
        let mut pages = pin!(self.store.available_pages(PageSize::Growing));
        let (mut takeable, mut checked_out) = (0, 0);
        while let Some(page) = pages.try_next().await? {
            let offered = self.candidates.offer(page.candidates, pass, prefix);
            takeable += offered.takeable;
            checked_out += offered.checked_out;
            // What is in the index now: those who waited take theirs, and leave, page by page.
            if !page.is_last
                && self.candidates.count(prefix) >= self.waiting.load(Ordering::Relaxed)
            {
                return Ok(ScanResult {
                    refreshed: Refreshed::Found,
                    left_some: true,
                });
            }
        }
        self.candidates.finish_pass(pass);
        // `has` again: a candidate may have been put back, or fed by a job, since its page was read.
        let refreshed = if takeable > 0 || self.candidates.has(prefix) {
            Refreshed::Found
        } else if checked_out > 0 {
            Refreshed::Busy
        } else {
            Refreshed::Empty
        };
        Ok(ScanResult {
            refreshed,
            left_some: false,
        })
    }

    /// Until the index is full, or to the last page. Returns whether it left some.
    async fn read_all(&self) -> Result<bool, StoreError> {
        let pass = self.candidates.begin_pass();
        let mut pages = pin!(self.store.available_pages(PageSize::Steady));
        let mut read = 0;
        let mut left_some = false;
        while !left_some && let Some(page) = pages.try_next().await? {
            read += self.candidates.offer(page.candidates, pass, None).takeable;
            left_some = !page.is_last && read >= self.candidates.capacity();
        }
        self.candidates.finish_pass(pass);
        Ok(left_some)
    }
}
