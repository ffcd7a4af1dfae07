//! For admins.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    error::{ApiError, ErrorCode, error_set},
    extract::{Admin, ApiQuery},
};
use crate::{app::AppState, jobs::sync::SyncReport, store::Counts};

error_set! {
    /// What counting may fail with.
    StatsErrors: StoreUnavailable, RequestTimeout
}
error_set! {
    /// What a sync may fail with.
    SyncErrors: InvalidParameter, CspError, CspUnavailable, StoreUnavailable
}

/// How many sandboxes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "total": 200, "available": 187, "allocated": 11, "pending_deletion": 2, "stale": 0, "deletion_failed": 0
}))]
pub struct StatsBody {
    /// All of them.
    pub total: u64,
    /// In the pool.
    pub available: u64,
    /// Held by callers.
    pub allocated: u64,
    /// Waiting for deletion from CSP.
    pub pending_deletion: u64,
    /// No longer listed by CSP.
    pub stale: u64,
    /// Refused deletion by CSP.
    pub deletion_failed: u64,
}

impl From<Counts> for StatsBody {
    fn from(counts: Counts) -> Self {
        Self {
            total: counts.total(),
            available: counts.available,
            allocated: counts.allocated,
            pending_deletion: counts.pending_deletion,
            stale: counts.stale,
            deletion_failed: counts.deletion_failed,
        }
    }
}

/// How to sync.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SyncParams {
    /// Mark stale whatever is missing from CSP's list, however much that is.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Count the sandboxes
///
/// Exact, however many there are; a change of the last moment may not show yet.
#[utoipa::path(
    get,
    path = "/admin/stats",
    tag = "Admin",
    responses((status = 200, description = "The counts", body = StatsBody), StatsErrors),
    security(("admin_token" = [])),
)]
pub(super) async fn stats(
    State(state): State<AppState>,
    _: Admin,
) -> Result<Json<StatsBody>, ApiError> {
    Ok(Json(state.broker.stats().await?.into()))
}

/// Bring the pool in step with CSP
///
/// Runs to its end even if the client hangs up.
#[utoipa::path(
    post,
    path = "/admin/sync",
    tag = "Admin",
    params(SyncParams),
    responses((status = 200, description = "What it did", body = SyncReport), SyncErrors),
    security(("admin_token" = [])),
)]
pub(super) async fn sync(
    State(state): State<AppState>,
    _: Admin,
    ApiQuery(SyncParams { force }): ApiQuery<SyncParams>,
) -> Result<Json<SyncReport>, ApiError> {
    let job = Arc::clone(&state.sync);
    let run = state.tasks.spawn(async move { job.run_once(force).await });
    // The task can only be lost to a panic, which the runtime has reported.
    let report = run
        .await
        .map_err(|_| ApiError::from(ErrorCode::InternalError))??;
    Ok(Json(report))
}
