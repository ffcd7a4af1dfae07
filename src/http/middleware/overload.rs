//! Sheds what is too much at once, before it costs anything.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    http::error::{ApiError, ErrorCode},
    telemetry::metrics::Metrics,
};

/// The requests that may be under way at once.
#[derive(Debug)]
pub(crate) struct InFlightLimit {
    slots: Semaphore,
    metrics: Metrics,
}

impl InFlightLimit {
    /// Room for so many.
    #[must_use]
    pub(crate) fn new(max_in_flight: usize, metrics: Metrics) -> Self {
        Self {
            slots: Semaphore::new(max_in_flight),
            metrics,
        }
    }

    /// Takes room for one request.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`].
    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.slots.try_acquire().map_err(|_| {
            self.metrics.shed_requests.inc();
            ApiError::from(ErrorCode::Overloaded)
        })
    }
}
