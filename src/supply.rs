//! Keeps the index of candidates filled from the table.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    candidates::{Candidates, CheckOut},
    sandbox::NamePrefix,
    store::{PoolStore, StoreError},
};

/// A reading to the last page that found nothing answers those who asked until so long after it began.
const EMPTY_FOR: Duration = Duration::from_millis(250);
/// How long such a reading is remembered: longer than a request may take, so whoever can share it finds it.
const EMPTY_KEPT_FOR: Duration = Duration::from_secs(30);
/// How often the index is topped up in the background at the most.
const TOP_UP_INTERVAL: Duration = Duration::from_secs(2);
/// So many candidates lost to other brokers since the last reading call for a new one.
const LOST_TOLERATED: usize = 8;

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
pub struct Supply(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PoolStore,
    candidates: Candidates,
    turn: Mutex<Turn>,
    waiting: AtomicUsize,
    topping_up: AtomicBool,
    tasks: TaskTracker,
}

/// What earlier readings tell those who waited for them.
#[derive(Debug, Default)]
struct Turn {
    /// When the last reading began that found nothing.
    empty: HashMap<Option<NamePrefix>, Instant>,
    failed: Option<Instant>,
    read: Option<Instant>,
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

impl Supply {
    /// An empty index in front of `store`; its background readings run on `tasks`.
    #[must_use]
    pub fn new(store: PoolStore, candidates: Candidates, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            store,
            candidates,
            turn: Mutex::default(),
            waiting: AtomicUsize::new(0),
            topping_up: AtomicBool::new(false),
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
    pub fn check_out(&self, prefix: Option<&NamePrefix>) -> Option<CheckOut<'_>> {
        let candidates = self.candidates();
        if candidates.len() < candidates.capacity() / 4 || candidates.lost() >= LOST_TOLERATED {
            self.top_up_in_background();
        }
        candidates.check_out(prefix)
    }

    /// Reads the table until there is a candidate with the prefix for every request that waits, or to the last page.
    /// One reading at a time: those who waited for it share what it found.
    ///
    /// # Errors
    /// [`StoreError`] if the reading, or the one waited for, failed.
    pub async fn refresh(&self, prefix: Option<&NamePrefix>) -> Result<Refreshed, StoreError> {
        let _waiting = Waiting::enter(&self.0.waiting);
        let (supply, prefix, asked) = (self.clone(), prefix.cloned(), Instant::now());
        // A task of its own: a request whose time is up must not take the reading along that others wait for.
        let refresh = async move { supply.refresh_in_turn(prefix.as_ref(), asked).await };
        let refreshed = self.0.tasks.spawn(refresh).await;
        refreshed.unwrap_or_else(|_| Err(StoreError::shared("Query")))
    }

    async fn refresh_in_turn(
        &self,
        prefix: Option<&NamePrefix>,
        asked: Instant,
    ) -> Result<Refreshed, StoreError> {
        let inner = &*self.0;
        let mut turn = inner.turn.lock().await;
        if inner.candidates.has(prefix) {
            return Ok(Refreshed::Found);
        }
        if turn.failed.is_some_and(|at| at >= asked) {
            return Err(StoreError::shared("Query"));
        }
        turn.empty
            .retain(|_, began| began.elapsed() < EMPTY_KEPT_FOR);
        if let Some(began) = turn.empty.get(&prefix.cloned())
            && asked < *began + EMPTY_FOR
        {
            return Ok(Refreshed::Empty);
        }
        let began = Instant::now();
        let read = inner.read_for(prefix).await;
        turn.read = Some(Instant::now());
        match &read {
            Ok(Refreshed::Empty) => {
                turn.empty.insert(prefix.cloned(), began);
            }
            Ok(Refreshed::Found | Refreshed::Busy) => {}
            Err(_) => turn.failed = Some(Instant::now()),
        }
        read
    }

    /// Reads the first page of the table.
    ///
    /// # Errors
    /// [`StoreError`] if the reading failed.
    pub async fn warm_up(&self) -> Result<(), StoreError> {
        let mut turn = self.0.turn.lock().await;
        turn.read = Some(Instant::now());
        // Nobody waits, so one page is enough; and what it did not find is nobody's answer.
        self.0.read_for(None).await.map(drop)
    }

    /// Reads the table until the index is full, or to the last page.
    ///
    /// # Errors
    /// [`StoreError`] if the reading failed; what it had read stays.
    pub async fn fill(&self) -> Result<(), StoreError> {
        let mut turn = self.0.turn.lock().await;
        turn.read = Some(Instant::now());
        self.0.read_all().await
    }

    fn top_up_in_background(&self) {
        if self.0.topping_up.swap(true, Ordering::AcqRel) {
            return;
        }
        let supply = self.clone();
        self.0.tasks.spawn(async move {
            let is_due = {
                let turn = supply.0.turn.lock().await;
                turn.read.is_none_or(|at| at.elapsed() >= TOP_UP_INTERVAL)
            };
            if is_due && let Err(error) = supply.fill().await {
                // The next request that finds no candidate reads for itself, and tells its caller.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not top up the candidate index"
                );
            }
            supply.0.topping_up.store(false, Ordering::Release);
        });
    }
}

impl Inner {
    async fn read_for(&self, prefix: Option<&NamePrefix>) -> Result<Refreshed, StoreError> {
        let pass = self.candidates.begin_pass();
        let mut pages = pin!(self.store.available_pages());
        let (mut takeable, mut checked_out) = (0, 0);
        while let Some(page) = pages.next().await {
            let offered = self.candidates.offer(page?, pass, prefix);
            takeable += offered.takeable;
            checked_out += offered.checked_out;
            if takeable >= self.waiting.load(Ordering::Relaxed) {
                return Ok(Refreshed::Found);
            }
        }
        self.candidates.finish_pass(pass);
        // `has` again: a candidate may have been put back, or fed by a job, since its page was read.
        Ok(if takeable > 0 || self.candidates.has(prefix) {
            Refreshed::Found
        } else if checked_out > 0 {
            Refreshed::Busy
        } else {
            Refreshed::Empty
        })
    }

    async fn read_all(&self) -> Result<(), StoreError> {
        let pass = self.candidates.begin_pass();
        let mut pages = pin!(self.store.available_pages());
        let mut read = 0;
        while let Some(page) = pages.next().await {
            read += self.candidates.offer(page?, pass, None).takeable;
            if read >= self.candidates.capacity() {
                break;
            }
        }
        self.candidates.finish_pass(pass);
        Ok(())
    }
}
