//! Starting jobs, and looking at their runs.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, IntoResponses, ToSchema,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::{Parameter, ParameterIn},
    },
};

use super::{
    error_responses::error_set,
    extract::{Admin, ApiQuery, header_parameter},
    openapi::response_header,
};
use crate::{
    clock::UnixSeconds,
    domain::{JobName, RunId, RunRecord, RunState},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
        headers::{PREFER, PREFERENCE_APPLIED},
    },
    jobs::{
        cleanup::{CleanupJob, CleanupReport},
        expiry::{ExpiryJob, ExpiryReport},
        runner::Job,
        stale::{Removal, RemovalJob, RemovalReport},
        sync::{SyncJob, SyncReport},
    },
};

error_set! {
    /// What a job that calls CSP may fail with.
    CspJobErrors: InvalidParameter, JobRunning, CspError, CspUnavailable, StoreUnavailable, JobInterrupted
}
error_set! {
    /// What a job that only works on the table may fail with.
    TableJobErrors: InvalidParameter, JobRunning, StoreUnavailable, JobInterrupted
}
error_set! {
    /// What listing runs may fail with.
    RunsErrors: StoreUnavailable
}
error_set! {
    /// What looking at one run may fail with.
    RunErrors: RunNotFound, StoreUnavailable
}

/// Runs of each job that are listed.
const RECENT: i32 = 10;

/// A run that goes on.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "run_id": "cleanup-01774000000-1f0c7a52", "state": "running" }))]
pub(crate) struct AcceptedBody {
    /// The run; also in the header `Location`.
    pub run_id: String,
    /// `running`.
    pub state: RunState,
}

impl IntoResponses for AcceptedBody {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("AcceptedBody")))
            .build();
        let response = ResponseBuilder::new()
            .description("It goes on")
            .content("application/json", content)
            .header("Location", response_header("The path of the run.", false))
            .header(
                "Preference-Applied",
                response_header("`respond-async`.", false),
            );
        BTreeMap::from([("202".to_owned(), response.build().into())])
    }
}

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RunRecord, example = json!({
    "id": "cleanup-01774000000-1f0c7a52", "job": "cleanup", "state": "running",
    "counts": { "status": "running", "due": 200, "deleted": 120, "failed": 0, "deferred": 0 },
    "error": null, "started_at": 1_774_000_000, "updated_at": 1_774_000_045, "finished_at": null
}))]
pub(crate) struct RunBody {
    /// Its id.
    pub id: String,
    /// The job.
    pub job: JobName,
    /// How it stands.
    pub state: RunState,
    /// What it has done so far: the job's report.
    #[schema(value_type = Object)]
    pub counts: serde_json::Value,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began, in Unix seconds.
    pub started_at: UnixSeconds,
    /// When this record was last written, in Unix seconds.
    pub updated_at: UnixSeconds,
    /// When it ended, in Unix seconds.
    pub finished_at: Option<UnixSeconds>,
}

impl From<RunRecord> for RunBody {
    fn from(record: RunRecord) -> Self {
        Self {
            id: record.id,
            job: record.job,
            state: record.state,
            counts: record.counts,
            error: record.error,
            started_at: record.started_at,
            updated_at: record.updated_at,
            finished_at: record.finished_at,
        }
    }
}

/// The recent runs.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "runs": [{
    "id": "sync-01774000000-1f0c7a52", "job": "sync", "state": "succeeded",
    "counts": { "status": "completed", "synced": 200, "inserted": 0, "marked_stale": 0, "duration_ms": 412 },
    "error": null, "started_at": 1_774_000_000, "updated_at": 1_774_000_001, "finished_at": 1_774_000_001
}] }))]
pub(crate) struct RunsBody {
    /// The runs, newest first; up to ten of each job.
    pub runs: Vec<RunBody>,
}

/// Whether the client asks not to wait for the end (`Prefer: respond-async`, RFC 7240).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefer {
    asynchronous: bool,
}

impl<S: Sync> FromRequestParts<S> for Prefer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self {
            asynchronous: prefers_async(&parts.headers),
        })
    }
}

fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

impl IntoParams for Prefer {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(
            "Prefer",
            "`respond-async` has the run answered with 202 at its start; it goes on, and `Location` leads to it.",
            "respond-async",
        )]
    }
}

/// Starts a run and answers with its report, or at once.
async fn run<J: Job>(state: &AppState, prefer: Prefer, job: J) -> Result<Response, ApiError> {
    let started = state.runner.start(job).await?;
    if !prefer.asynchronous {
        return Ok(Json(started.finish().await?).into_response());
    }
    let location = format!("{}/admin/jobs/{}", state.base_path, started.id);
    let body = AcceptedBody {
        run_id: started.id.to_string(),
        state: RunState::Running,
    };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    // An id is letters, digits and hyphens.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(
        PREFERENCE_APPLIED,
        HeaderValue::from_static("respond-async"),
    );
    Ok(response)
}

/// How to sync.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SyncParams {
    /// Mark stale whatever is missing from CSP's list, however much that is.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Bring the pool in step with CSP
///
/// Runs to its end even if the client hangs up.
#[utoipa::path(
    post,
    path = "/admin/sync",
    tag = "Jobs",
    params(SyncParams, Prefer),
    responses(
        (status = 200, description = "What it did", body = SyncReport),
        AcceptedBody,
        CspJobErrors,
    ),
    security(("admin_token" = [])),
)]
pub(super) async fn sync(
    State(state): State<AppState>,
    _: Admin,
    prefer: Prefer,
    ApiQuery(SyncParams { force }): ApiQuery<SyncParams>,
) -> Result<Response, ApiError> {
    run(&state, prefer, SyncJob { force }).await
}

/// How to clean up.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CleanupParams {
    /// First put every `deletion_failed` sandbox back in line.
    #[serde(default)]
    #[param(required = false)]
    retry_failed: bool,
}

/// Delete from CSP what was given back
///
/// Runs to its end even if the client hangs up. Deletions that CSP does not do now are deferred, and done by a later
/// run.
#[utoipa::path(
    post,
    path = "/admin/cleanup",
    tag = "Jobs",
    params(CleanupParams, Prefer),
    responses(
        (status = 200, description = "What it did", body = CleanupReport),
        AcceptedBody,
        CspJobErrors,
    ),
    security(("admin_token" = [])),
)]
pub(super) async fn cleanup(
    State(state): State<AppState>,
    _: Admin,
    prefer: Prefer,
    ApiQuery(CleanupParams { retry_failed }): ApiQuery<CleanupParams>,
) -> Result<Response, ApiError> {
    run(&state, prefer, CleanupJob { retry_failed }).await
}

/// Retire what has expired
///
/// Allocations whose time and grace period are over go to `pending_deletion`.
#[utoipa::path(
    post,
    path = "/admin/auto-expire",
    tag = "Jobs",
    params(Prefer),
    responses(
        (status = 200, description = "What it did", body = ExpiryReport),
        AcceptedBody,
        TableJobErrors,
    ),
    security(("admin_token" = [])),
)]
pub(super) async fn auto_expire(
    State(state): State<AppState>,
    _: Admin,
    prefer: Prefer,
) -> Result<Response, ApiError> {
    run(&state, prefer, ExpiryJob).await
}

/// How long is stale.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StaleParams {
    /// For how long a sandbox has to be stale, in hours.
    #[serde(default)]
    #[param(required = false, minimum = 0, maximum = 8760, example = 24)]
    grace_period_hours: Option<u16>,
}

/// Remove what has been stale for long
///
/// CSP is not asked to delete anything: it has forgotten these sandboxes.
#[utoipa::path(
    post,
    path = "/admin/auto-delete-stale",
    tag = "Jobs",
    params(StaleParams, Prefer),
    responses(
        (status = 200, description = "What it did", body = RemovalReport),
        AcceptedBody,
        TableJobErrors,
    ),
    security(("admin_token" = [])),
)]
pub(super) async fn auto_delete_stale(
    State(state): State<AppState>,
    _: Admin,
    prefer: Prefer,
    ApiQuery(StaleParams { grace_period_hours }): ApiQuery<StaleParams>,
) -> Result<Response, ApiError> {
    if grace_period_hours.is_some_and(|hours| hours > 8760) {
        let message = "grace_period_hours takes a number of hours from 0 to 8760.";
        return Err(ApiError::new(ErrorCode::InvalidParameter, message));
    }
    let removal = Removal::StaleFor(state.runner.stale_grace(grace_period_hours));
    run(&state, prefer, RemovalJob { removal }).await
}

/// What may be removed at once.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum BulkStatus {
    /// What CSP no longer lists.
    Stale,
    /// What CSP refused to delete.
    DeletionFailed,
}

/// What to remove.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BulkParams {
    /// The sandboxes' state.
    #[param(inline)]
    status: BulkStatus,
}

/// Remove every stale or every failed sandbox
///
/// From the table only. What had a holder leaves a tombstone, so that it does not come back as a new sandbox; if CSP
/// still lists it an hour later, it is put in line for deletion again.
#[utoipa::path(
    post,
    path = "/admin/bulk-delete",
    tag = "Jobs",
    params(BulkParams, Prefer),
    responses(
        (status = 200, description = "What it did", body = RemovalReport),
        AcceptedBody,
        TableJobErrors,
    ),
    security(("admin_token" = [])),
)]
pub(super) async fn bulk_delete(
    State(state): State<AppState>,
    _: Admin,
    prefer: Prefer,
    ApiQuery(BulkParams { status }): ApiQuery<BulkParams>,
) -> Result<Response, ApiError> {
    let removal = match status {
        BulkStatus::Stale => Removal::AllStale,
        BulkStatus::DeletionFailed => Removal::AllFailed,
    };
    run(&state, prefer, RemovalJob { removal }).await
}

/// List the recent runs
///
/// Up to ten of each job, newest first. Runs are remembered for 30 days.
#[utoipa::path(
    get,
    path = "/admin/jobs",
    tag = "Jobs",
    responses((status = 200, description = "The runs", body = RunsBody), RunsErrors),
    security(("admin_token" = [])),
)]
pub(super) async fn list_runs(
    State(state): State<AppState>,
    _: Admin,
) -> Result<Json<RunsBody>, ApiError> {
    let runs = state.runner.recent_runs(RECENT).await?;
    Ok(Json(RunsBody {
        runs: runs.into_iter().map(Into::into).collect(),
    }))
}

/// Look at a run
///
/// Its counts grow while it runs.
#[utoipa::path(
    get,
    path = "/admin/jobs/{run_id}",
    tag = "Jobs",
    params(("run_id" = String, Path, description = "The run", example = "cleanup-01774000000-1f0c7a52")),
    responses((status = 200, description = "The run", body = RunBody), RunErrors),
    security(("admin_token" = [])),
)]
pub(super) async fn get_run(
    State(state): State<AppState>,
    _: Admin,
    RunPath(id): RunPath,
) -> Result<Json<RunBody>, ApiError> {
    let run = state.runner.find_run(&id).await?;
    run.map(|run| Json(run.into()))
        .ok_or_else(|| ErrorCode::RunNotFound.into())
}

/// The run that the path names. Text that cannot be an id names none.
#[derive(Clone, Debug)]
pub(super) struct RunPath(RunId);

impl<S: Send + Sync> FromRequestParts<S> for RunPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| ErrorCode::RunNotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_preference_is_found_among_others() {
        let prefers = |value: &'static str| {
            prefers_async(&HeaderMap::from_iter([(
                PREFER,
                HeaderValue::from_static(value),
            )]))
        };
        assert!(prefers("respond-async"));
        assert!(prefers("wait=10, Respond-Async; foo=bar"));
        assert!(!prefers("return=minimal"));
        assert!(!prefers("respond-asynchronously"));
    }

    proptest! {
        #[test]
        fn any_preference_is_read(value in crate::arbitrary::header_value()) {
            let name = PREFER;
            let mut headers = HeaderMap::from_iter([(name.clone(), value)]);
            prefers_async(&headers);
            headers.append(name, HeaderValue::from_static("respond-async"));
            prop_assert!(prefers_async(&headers));
        }
    }
}
