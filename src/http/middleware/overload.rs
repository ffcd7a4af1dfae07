//! Load shedding: rejects requests beyond the limit of requests in progress before they cause any work.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    http::error::{ApiError, ErrorCode},
    telemetry::metrics::Metrics,
};

/// The limit of requests in progress at once.
#[derive(Debug)]
pub(crate) struct InFlightLimit {
    slots: Semaphore,
    metrics: Metrics,
}

impl InFlightLimit {
    /// Creates a limit of `max_in_flight` requests.
    #[must_use]
    pub(crate) fn new(max_in_flight: usize, metrics: Metrics) -> Self {
        Self {
            slots: Semaphore::new(max_in_flight),
            metrics,
        }
    }

    /// Takes a slot for one request; dropping the permit frees it.
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
