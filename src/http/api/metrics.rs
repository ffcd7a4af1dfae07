//! `GET /metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{http::AppState, jobs::pool_monitor::PoolMonitor, telemetry::metrics::TEXT_FORMAT};

/// The metrics, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Health",
    responses((
        status = 200,
        description = "Every instrument in the text format of Prometheus. The pool is counted at most once a minute. \
                       With `METRICS_PORT` set, on that port only.",
        body = String,
        content_type = "text/plain",
        example = "# HELP broker_pool_available Sandboxes that can be allocated, in the table.\n# TYPE broker_pool_available gauge\nbroker_pool_available 200\n",
    )),
)]
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    answer(&state.monitor).await
}

async fn answer(monitor: &Arc<PoolMonitor>) -> Response {
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], monitor.text().await).into_response()
}

/// What answers on `METRICS_PORT`.
pub(crate) fn router(monitor: Arc<PoolMonitor>) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(async |State(monitor): State<Arc<PoolMonitor>>| answer(&monitor).await),
        )
        .with_state(monitor)
}
