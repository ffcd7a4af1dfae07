//! Sheds what is too much at once, before it costs anything.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

use crate::{
    api::error::{ApiError, ErrorCode},
    metrics::Metrics,
};

/// The requests that may be under way at once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Capacity {
    slots: Arc<Semaphore>,
    metrics: Metrics,
}

impl Capacity {
    /// Room for so many.
    #[must_use]
    pub fn new(max_in_flight: usize, metrics: Metrics) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(max_in_flight)),
            metrics,
        }
    }
}

/// The layer. It stands behind the reading of the body, so that slow clients take no room.
pub async fn shed(State(capacity): State<Capacity>, request: Request, next: Next) -> Response {
    let Ok(_slot) = capacity.slots.try_acquire() else {
        capacity.metrics.shed_requests.inc();
        return ApiError::from(ErrorCode::Overloaded).into_response();
    };
    next.run(request).await
}
