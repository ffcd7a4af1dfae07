//! The endpoints that start jobs.

use std::time::Duration;

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{Admin, ApiQuery, Operator},
    run_response::{AcceptedBody, Prefer, run},
};
use crate::{
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    jobs::{
        check::{CheckJob, CheckReport},
        cleanup::{CleanupJob, CleanupReport},
        expiry::{ExpiryJob, ExpiryReport},
        refill::{RefillJob, RefillReport},
        removal::{RemovalJob, RemovalReport},
        sync::{SyncJob, SyncReport},
    },
};

error_set! {
    /// The errors of jobs that call CSP.
    CspJobErrors: InvalidParameter, JobRunning, CspError, CspUnavailable, StoreUnavailable, JobInterrupted
}
error_set! {
    /// The errors of jobs that only use the table.
    TableJobErrors: InvalidParameter, JobRunning, StoreUnavailable, JobInterrupted
}

error_set! {
    /// The errors of jobs that may be off.
    OptionalJobErrors: InvalidParameter, JobRunning, JobOff, CspError, CspUnavailable, StoreUnavailable, JobInterrupted
}

/// The routes of this module: one for each job.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(sync))
        .routes(routes!(cleanup))
        .routes(routes!(auto_expire))
        .routes(routes!(auto_delete_stale))
        .routes(routes!(check))
        .routes(routes!(refill))
        .routes(routes!(bulk_delete))
}

/// The parameters of a sync.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SyncParams {
    /// Mark every sandbox stale that is missing from CSP's list, without the limit of `MAX_STALE_FRACTION`.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Synchronise the pool with CSP
///
/// The run continues if the client disconnects.
#[utoipa::path(
    post,
    path = "/admin/sync",
    tag = "Jobs",
    params(SyncParams, Prefer),
    responses(
        (status = 200, description = "The report of the run", body = SyncReport),
        AcceptedBody,
        CspJobErrors,
    ),
    security(("operator_token" = [])),
)]
async fn sync(
    State(state): State<AppState>,
    Operator(author): Operator,
    prefer: Prefer,
    ApiQuery(params): ApiQuery<SyncParams>,
) -> Result<Response, ApiError> {
    let SyncParams { force } = params;
    run(&state, author, params, prefer, SyncJob { force }).await
}

/// The parameters of a cleanup.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CleanupParams {
    /// First return every `deletion_failed` sandbox to `pending_deletion`.
    #[serde(default)]
    #[param(required = false)]
    retry_failed: bool,
}

/// Delete released and expired sandboxes
///
/// Deletes them from CSP, then from the table. Deletions that fail temporarily are deferred to a later run. The run
/// continues if the client disconnects.
#[utoipa::path(
    post,
    path = "/admin/cleanup",
    tag = "Jobs",
    params(CleanupParams, Prefer),
    responses(
        (status = 200, description = "The report of the run", body = CleanupReport),
        AcceptedBody,
        CspJobErrors,
    ),
    security(("operator_token" = [])),
)]
async fn cleanup(
    State(state): State<AppState>,
    Operator(author): Operator,
    prefer: Prefer,
    ApiQuery(params): ApiQuery<CleanupParams>,
) -> Result<Response, ApiError> {
    let CleanupParams { retry_failed } = params;
    run(&state, author, params, prefer, CleanupJob { retry_failed }).await
}

/// The parameters of an expiry.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ExpiryParams {
    /// Retire every overdue allocation, without the limit of `MAX_EXPIRE_FRACTION`.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Retire overdue allocations
///
/// Allocations whose duration and grace period are over change to `pending_deletion`. If they are more than
/// `MAX_EXPIRE_FRACTION` of ten or more, a clock may be wrong: the run defers them, and a run at least ten minutes later
/// that finds the same retires them.
///
/// Then ends the quarantines whose time is over: a sandbox that never had a holder returns to the pool, any other
/// changes to `pending_deletion`.
#[utoipa::path(
    post,
    path = "/admin/auto-expire",
    tag = "Jobs",
    params(ExpiryParams, Prefer),
    responses(
        (status = 200, description = "The report of the run", body = ExpiryReport),
        AcceptedBody,
        TableJobErrors,
    ),
    security(("operator_token" = [])),
)]
async fn auto_expire(
    State(state): State<AppState>,
    Operator(author): Operator,
    prefer: Prefer,
    ApiQuery(params): ApiQuery<ExpiryParams>,
) -> Result<Response, ApiError> {
    let ExpiryParams { force } = params;
    run(&state, author, params, prefer, ExpiryJob { force }).await
}

/// The parameters of a removal of stale sandboxes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct StaleParams {
    /// How long a sandbox has to be stale, in hours; `STALE_GRACE_PERIOD_HOURS` if absent.
    #[serde(default)]
    #[param(required = false, minimum = 0, maximum = 8760, example = 24)]
    grace_period_hours: Option<u16>,
}

/// Remove sandboxes that have been stale for a long time
///
/// Removes them from the table only: CSP no longer lists them.
#[utoipa::path(
    post,
    path = "/admin/auto-delete-stale",
    tag = "Jobs",
    params(StaleParams, Prefer),
    responses(
        (status = 200, description = "The report of the run", body = RemovalReport),
        AcceptedBody,
        TableJobErrors,
    ),
    security(("operator_token" = [])),
)]
async fn auto_delete_stale(
    State(state): State<AppState>,
    Operator(author): Operator,
    prefer: Prefer,
    ApiQuery(params): ApiQuery<StaleParams>,
) -> Result<Response, ApiError> {
    let StaleParams { grace_period_hours } = params;
    if grace_period_hours.is_some_and(|hours| hours > 8760) {
        let message = "grace_period_hours must be a number from 0 to 8760.";
        return Err(ApiError::new(ErrorCode::InvalidParameter, message));
    }
    let grace = grace_period_hours.map(|hours| Duration::from_hours(hours.into()));
    run(&state, author, params, prefer, RemovalJob::StaleFor(grace)).await
}

/// Check new sandboxes
///
/// Checks whether the accounts of sandboxes in `provisioning` are usable. Those that are become `available`; one that is
/// not for a long time, or is broken, is quarantined. With `CHECK_MODE=all`, available ones are checked again from time to
/// time. The run continues if the client disconnects.
#[utoipa::path(
    post,
    path = "/admin/check",
    tag = "Jobs",
    params(Prefer),
    responses(
        (status = 200, description = "The report of the run", body = CheckReport),
        AcceptedBody,
        OptionalJobErrors,
    ),
    security(("operator_token" = [])),
)]
async fn check(
    State(state): State<AppState>,
    Operator(author): Operator,
    prefer: Prefer,
) -> Result<Response, ApiError> {
    run(&state, author, serde_json::json!({}), prefer, CheckJob).await
}

/// The parameters of a refill.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RefillParams {
    /// Report what the run would do, and do nothing.
    #[serde(default)]
    #[param(required = false)]
    plan: bool,
}

/// Create accounts for pools below their target
///
/// Creates accounts in CSP for the pools of the policy that have fewer sandboxes than their target, at most
/// `REFILL_BATCH` in a run. The next sync adds them to the pool. A pool that CSP's answers have stopped is tried again at
/// once. The run continues if the client disconnects.
#[utoipa::path(
    post,
    path = "/admin/refill",
    tag = "Jobs",
    params(RefillParams, Prefer),
    responses(
        (status = 200, description = "The report of the run", body = RefillReport),
        AcceptedBody,
        OptionalJobErrors,
    ),
    security(("operator_token" = [])),
)]
async fn refill(
    State(state): State<AppState>,
    Operator(author): Operator,
    prefer: Prefer,
    ApiQuery(params): ApiQuery<RefillParams>,
) -> Result<Response, ApiError> {
    let RefillParams { plan } = params;
    let job = RefillJob {
        plan,
        probe_stopped: true,
    };
    run(&state, author, params, prefer, job).await
}

/// The statuses that a bulk deletion accepts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BulkStatus {
    /// Sandboxes that CSP no longer lists.
    Stale,
    /// Sandboxes that CSP did not delete.
    DeletionFailed,
}

/// The parameters of a bulk deletion.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct BulkParams {
    /// The status of the sandboxes to remove.
    #[param(inline)]
    status: BulkStatus,
}

/// Remove all sandboxes that are stale, or whose deletion failed
///
/// Removes them from the table only. A sandbox that had a holder leaves a tombstone, so that sync does not insert it
/// again; if CSP still lists it an hour later, it returns to `pending_deletion`.
#[utoipa::path(
    post,
    path = "/admin/bulk-delete",
    tag = "Jobs",
    params(BulkParams, Prefer),
    responses(
        (status = 200, description = "The report of the run", body = RemovalReport),
        AcceptedBody,
        TableJobErrors,
    ),
    security(("admin_token" = [])),
)]
async fn bulk_delete(
    State(state): State<AppState>,
    Admin(author): Admin,
    prefer: Prefer,
    ApiQuery(params): ApiQuery<BulkParams>,
) -> Result<Response, ApiError> {
    let job = match params.status {
        BulkStatus::Stale => RemovalJob::AllStale,
        BulkStatus::DeletionFailed => RemovalJob::AllFailed,
    };
    run(&state, author, params, prefer, job).await
}
