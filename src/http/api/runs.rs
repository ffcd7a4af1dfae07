//! The records of runs.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::request::Parts,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{error_responses::error_set, extract::Viewer};
use crate::{
    clock::UnixSeconds,
    domain::{JobName, RunId, RunRecord, RunState},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
};

error_set! {
    /// The errors of listing runs.
    RunsErrors: StoreUnavailable
}
error_set! {
    /// The errors of reading one run.
    RunErrors: RunNotFound, StoreUnavailable
}

/// The number of runs of each job in a listing.
const RECENT: i32 = 10;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_runs))
        .routes(routes!(get_run))
}

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RunRecord, example = json!({
    "id": "cleanup-01774000000-1f0c7a52", "job": "cleanup", "state": "running",
    "counts": { "status": "running", "due": 200, "deleted": 120, "failed": 0, "deferred": 0 },
    "error": null, "started_by": "anna", "started_at": 1_774_000_000, "updated_at": 1_774_000_045, "finished_at": null
}))]
pub(crate) struct RunBody {
    /// The id of the run.
    pub id: String,
    /// The job.
    pub job: JobName,
    /// The state of the run.
    pub state: RunState,
    /// The job's report so far.
    #[schema(value_type = Object)]
    pub counts: serde_json::Value,
    /// Why it failed.
    pub error: Option<String>,
    /// The name of the principal that started it; `null` for the schedule and the command line.
    pub started_by: Option<String>,
    /// When the run started, in Unix seconds.
    pub started_at: UnixSeconds,
    /// When this record was last written, in Unix seconds.
    pub updated_at: UnixSeconds,
    /// When the run ended, in Unix seconds.
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
            started_by: record.started_by,
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
    "error": null, "started_by": null, "started_at": 1_774_000_000, "updated_at": 1_774_000_001, "finished_at": 1_774_000_001
}] }))]
pub(crate) struct RunsBody {
    /// The runs, newest first; up to ten of each job.
    pub runs: Vec<RunBody>,
}

/// List the recent runs
///
/// Up to ten of each job, newest first. Records of runs are kept for 30 days.
#[utoipa::path(
    get,
    path = "/admin/jobs",
    tag = "Jobs",
    responses((status = 200, description = "The runs", body = RunsBody), RunsErrors),
    security(("viewer_token" = [])),
)]
async fn list_runs(State(state): State<AppState>, _: Viewer) -> Result<Json<RunsBody>, ApiError> {
    let runs = state.runner.recent_runs(RECENT).await?;
    Ok(Json(RunsBody {
        runs: runs.into_iter().map(Into::into).collect(),
    }))
}

/// Get a run
///
/// The counts are updated while the run is in progress.
#[utoipa::path(
    get,
    path = "/admin/jobs/{run_id}",
    tag = "Jobs",
    params(("run_id" = String, Path, description = "The id of the run", example = "cleanup-01774000000-1f0c7a52")),
    responses((status = 200, description = "The run", body = RunBody), RunErrors),
    security(("viewer_token" = [])),
)]
async fn get_run(
    State(state): State<AppState>,
    _: Viewer,
    RunPath(id): RunPath,
) -> Result<Json<RunBody>, ApiError> {
    let run = state.runner.find_run(&id).await?;
    run.map(|run| Json(run.into()))
        .ok_or_else(|| ErrorCode::RunNotFound.into())
}

/// The run id in the path. Text that cannot be an id is answered with [`ErrorCode::RunNotFound`].
#[derive(Clone, Debug)]
struct RunPath(RunId);

impl<S: Send + Sync> FromRequestParts<S> for RunPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| ErrorCode::RunNotFound.into())
    }
}
