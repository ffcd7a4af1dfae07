//! Reads of many items, for operators and jobs: page by page, and apart from the slots of single calls.
//!
//! Each page takes a permit, so reads of a whole table wait for each other, while allocations do not wait for them.
//! Reads for operators first wait for a permit of their own, so reads for jobs do not wait for those in the queue. A
//! page is small, because it is decoded in one piece on a thread that serves requests.

use std::sync::Arc;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::future::pagination_stream::PaginationStream;
use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::StoreError;

/// The limits on reads of many items, which depend on the calls that an engine can serve beside them.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLimits {
    /// The maximum number of pages that are read and decoded at the same time.
    pub(super) concurrent: usize,
    /// The largest page.
    pub(super) items: i32,
}

/// The maximum number of reads for operators in progress. A read of 20,000 sandboxes takes about 0.3 s alone, so that
/// with this many the last one still ends within the time limit of requests.
const CONCURRENT_READS: usize = 32;

/// The permits of a store, shared by its clones.
#[derive(Clone, Debug)]
pub(super) struct PageReads {
    limits: PageLimits,
    pages: Arc<Semaphore>,
    /// As many permits as `pages`: a read for operators takes one first, so the queue of `pages` has only reads for
    /// jobs.
    pages_for_operators: Arc<Semaphore>,
    is_for_operators: bool,
    reads: Arc<Semaphore>,
}

/// The permit of a read for operators. Released on drop.
#[derive(Debug)]
pub(super) struct ReadPermit(
    #[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit,
);

/// The permit to read one page. Released on drop.
#[derive(Debug)]
#[expect(dead_code, reason = "held until it is dropped")]
pub(super) struct PagePermit<'a> {
    page: Option<SemaphorePermit<'a>>,
    page_for_operators: Option<SemaphorePermit<'a>>,
}

impl PageReads {
    pub(super) fn new(limits: PageLimits) -> Self {
        Self {
            limits,
            pages: Arc::new(Semaphore::new(limits.concurrent)),
            pages_for_operators: Arc::new(Semaphore::new(limits.concurrent)),
            is_for_operators: false,
            reads: Arc::new(Semaphore::new(CONCURRENT_READS)),
        }
    }

    /// Returns the permits for reads for operators.
    pub(super) fn for_operators(&self) -> Self {
        Self {
            is_for_operators: true,
            ..self.clone()
        }
    }

    /// Returns the limit of a page that should have `wanted` items.
    pub(super) fn page_of(&self, wanted: i32) -> i32 {
        wanted.min(self.limits.items)
    }

    /// Admits a read for operators.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many are in progress.
    pub(super) fn admit(&self) -> Result<ReadPermit, StoreError> {
        let permit = Arc::clone(&self.reads).try_acquire_owned();
        permit.map(ReadPermit).map_err(|_| StoreError::Busy)
    }

    /// Waits for the permit to read one page.
    pub(super) async fn page_permit(&self) -> PagePermit<'_> {
        // They fail only for a closed semaphore, and these are never closed.
        let page_for_operators = if self.is_for_operators {
            self.pages_for_operators.acquire().await.ok()
        } else {
            None
        };
        PagePermit {
            page: self.pages.acquire().await.ok(),
            page_for_operators,
        }
    }

    /// Reads the pages of a paginator, waiting for a permit before each.
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
                let _permit = reads.page_permit().await;
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
    fn reads_for_operators_are_rejected_beyond_their_limit() {
        let reads = PageReads::new(LIMITS);
        let mut admitted: Vec<_> = (0..CONCURRENT_READS)
            .map(|_| reads.admit().unwrap())
            .collect();
        assert!(matches!(reads.admit(), Err(StoreError::Busy)));
        admitted.pop();
        assert!(reads.admit().is_ok());
    }

    #[tokio::test]
    async fn page_waits_for_a_permit_beyond_the_limit() {
        let reads = PageReads::new(LIMITS);
        let permits: Vec<_> =
            futures_util::future::join_all((0..LIMITS.concurrent).map(|_| reads.page_permit()))
                .await;
        let next = reads.page_permit();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(permits);
        next.await;
    }

    #[tokio::test]
    async fn page_for_a_job_is_read_before_waiting_pages_for_operators() {
        let reads = PageReads::new(LIMITS);
        let operators = reads.for_operators();
        let mut read: Vec<_> =
            futures_util::future::join_all((0..LIMITS.concurrent).map(|_| operators.page_permit()))
                .await;
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(operators.page_permit())).collect();
        for permit in &mut waiting {
            assert!(futures_util::poll!(permit).is_pending());
        }
        let job = reads.page_permit();
        tokio::pin!(job);
        assert!(futures_util::poll!(&mut job).is_pending());
        read.pop();
        let job = job.await;
        for permit in &mut waiting {
            assert!(futures_util::poll!(permit).is_pending());
        }
        drop(job);
        assert!(futures_util::poll!(&mut waiting[0]).is_ready());
    }
}
