//! Sheds what is too much at once, before it costs anything.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    api::error::{ApiError, ErrorCode},
    metrics::Metrics,
};

/// The requests that may be under way at once.
#[derive(Debug)]
pub struct Capacity {
    slots: Semaphore,
    metrics: Metrics,
}

impl Capacity {
    /// Room for so many.
    #[must_use]
    pub fn new(max_in_flight: usize, metrics: Metrics) -> Self {
        Self {
            slots: Semaphore::new(max_in_flight),
            metrics,
        }
    }

    /// Takes room for one request.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`].
    pub fn enter(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.slots.try_acquire().map_err(|_| {
            self.metrics.shed_requests.inc();
            ApiError::from(ErrorCode::Overloaded)
        })
    }
}
