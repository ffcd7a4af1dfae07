//! Reads of many items, for people and jobs: page by page, and apart from the slots of single calls.
//!
//! Each page takes a permit, so reads of the whole table take turns among themselves, while allocations do not queue
//! behind them. Reads for people queue among themselves before that, so those of jobs do not queue behind them either. A
//! page is small, because it is decoded in one piece on a thread that serves requests.

use std::sync::Arc;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::future::pagination_stream::PaginationStream;
use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::StoreError;

/// What an engine bears of reads of many items beside other calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLimits {
    /// The maximum number of pages that are read and decoded at the same time.
    pub(super) concurrent: usize,
    /// The largest page.
    pub(super) items: i32,
}

/// The maximum number of reads for people in progress. A read of 20,000 sandboxes takes about 0.3 s alone, so that with
/// this many the last one still ends within the time limit of requests.
const CONCURRENT_READERS: usize = 32;

/// The permits of a store, shared by its clones.
#[derive(Clone, Debug)]
pub(super) struct PageReads {
    limits: PageLimits,
    pages: Arc<Semaphore>,
    /// As many as `pages`: a read for people takes one first, so the queue of `pages` has only reads for jobs.
    pages_for_people: Arc<Semaphore>,
    is_for_people: bool,
    readers: Arc<Semaphore>,
}

/// The place of a read for people. Released on drop.
#[derive(Debug)]
pub(super) struct Place(
    #[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit,
);

/// The turn of one page. Released on drop.
#[derive(Debug)]
#[expect(dead_code, reason = "held until it is dropped")]
pub(super) struct Turn<'a> {
    page: Option<SemaphorePermit<'a>>,
    page_for_people: Option<SemaphorePermit<'a>>,
}

impl PageReads {
    pub(super) fn new(limits: PageLimits) -> Self {
        Self {
            limits,
            pages: Arc::new(Semaphore::new(limits.concurrent)),
            pages_for_people: Arc::new(Semaphore::new(limits.concurrent)),
            is_for_people: false,
            readers: Arc::new(Semaphore::new(CONCURRENT_READERS)),
        }
    }

    /// Returns the permits for reads for people.
    pub(super) fn for_people(&self) -> Self {
        Self {
            is_for_people: true,
            ..self.clone()
        }
    }

    /// Returns the limit of a page that should have `wanted` items.
    pub(super) fn page_of(&self, wanted: i32) -> i32 {
        wanted.min(self.limits.items)
    }

    /// Admits a read for people.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many are in progress.
    pub(super) fn admit(&self) -> Result<Place, StoreError> {
        let permit = Arc::clone(&self.readers).try_acquire_owned();
        permit.map(Place).map_err(|_| StoreError::Busy)
    }

    /// Waits for the turn of one page.
    pub(super) async fn turn(&self) -> Turn<'_> {
        // They fail only for a closed semaphore, and these are never closed.
        let page_for_people = if self.is_for_people {
            self.pages_for_people.acquire().await.ok()
        } else {
            None
        };
        Turn {
            page: self.pages.acquire().await.ok(),
            page_for_people,
        }
    }

    /// Reads the pages of a paginator, waiting for a turn before each.
    pub(super) fn pages<P, E, R>(
        &self,
        operation: &'static str,
        paginator: PaginationStream<Result<P, SdkError<E, R>>>,
    ) -> BoxStream<'static, Result<P, StoreError>>
    where
        P: Send + 'static,
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let state = (self.clone(), paginator);
        stream::unfold(state, move |(reads, mut paginator)| async move {
            let page = {
                let _turn = reads.turn().await;
                paginator.next().await?
            };
            let page = page.map_err(|error| StoreError::from_sdk(operation, error));
            Some((page, (reads, paginator)))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PageLimits = PageLimits {
        concurrent: 2,
        items: 10,
    };

    #[test]
    fn reads_for_people_are_refused_beyond_their_bound() {
        let reads = PageReads::new(LIMITS);
        let mut admitted: Vec<_> = (0..CONCURRENT_READERS)
            .map(|_| reads.admit().unwrap())
            .collect();
        assert!(matches!(reads.admit(), Err(StoreError::Busy)));
        admitted.pop();
        assert!(reads.admit().is_ok());
    }

    #[tokio::test]
    async fn pages_take_turns_beyond_their_bound() {
        let reads = PageReads::new(LIMITS);
        let turns: Vec<_> =
            futures_util::future::join_all((0..LIMITS.concurrent).map(|_| reads.turn())).await;
        let next = reads.turn();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(turns);
        next.await;
    }

    #[tokio::test]
    async fn page_for_a_job_comes_before_all_pages_for_people_that_wait() {
        let reads = PageReads::new(LIMITS);
        let people = reads.for_people();
        let mut read: Vec<_> =
            futures_util::future::join_all((0..LIMITS.concurrent).map(|_| people.turn())).await;
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(people.turn())).collect();
        for turn in &mut waiting {
            assert!(futures_util::poll!(turn).is_pending());
        }
        let job = reads.turn();
        tokio::pin!(job);
        assert!(futures_util::poll!(&mut job).is_pending());
        read.pop();
        let job = job.await;
        for turn in &mut waiting {
            assert!(futures_util::poll!(turn).is_pending());
        }
        drop(job);
        assert!(futures_util::poll!(&mut waiting[0]).is_ready());
    }
}
