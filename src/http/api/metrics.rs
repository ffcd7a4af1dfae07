//! `GET /metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    jobs::pool_monitor::PoolMonitor,
    telemetry::metrics::TEXT_FORMAT,
};

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Get the metrics
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Health",
    responses((
        status = 200,
        description = "All metrics in the text format of Prometheus. The pool is counted at most once a minute. \
                       With `METRICS_PORT` set, only that port serves them.",
        body = String,
        content_type = "text/plain",
        example = "# HELP broker_pool_available Available sandboxes in the pool's table.\n# TYPE broker_pool_available gauge\nbroker_pool_available 200\n",
    )),
)]
async fn metrics(State(state): State<AppState>) -> Response {
    answer(&state.monitor).await
}

async fn answer(monitor: &Arc<PoolMonitor>) -> Response {
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], monitor.text().await).into_response()
}

/// The answer of the API's port while the metrics have a port of their own.
pub(super) async fn elsewhere() -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        "The metrics are on METRICS_PORT, not on this port.",
    )
}

/// The router of `METRICS_PORT`.
pub(crate) fn router(monitor: Arc<PoolMonitor>) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(async |State(monitor): State<Arc<PoolMonitor>>| answer(&monitor).await),
        )
        .with_state(monitor)
}
