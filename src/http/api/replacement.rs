//! The replacement of a sandbox by its holder.

use axum::{Extension, extract::State, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    allocations::{self, AllocationBody},
    error_responses::error_set,
    extract::{ApiJson, SandboxPath, TrackCaller},
};
use crate::{
    broker::ReplaceRequest,
    domain::{Principal, Reason},
    http::{AppState, error::ApiError, request_context},
};

error_set! {
    /// The errors of a replacement.
    ReplaceErrors: MissingHeader, InvalidHeader, InvalidBody, NotSandboxOwner, LabNotAllowed, AllocationExpired,
        SandboxNotFound, NoSandboxesAvailable, ReplacementLimitReached, AllocationsPaused, PoolContended, StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(replace_sandbox))
}

/// The reason of a replacement.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "DNS does not resolve" }))]
pub(super) struct ReplaceBody {
    /// The fault of the sandbox, in the words of the holder: 1 to 500 printable characters in one line.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    reason: Reason,
}

/// Replace a sandbox
///
/// The caller must hold the sandbox. It receives another one under the same key, with the lab and the name prefix of the
/// allocation, and loses this one, which is deleted, or set aside for an operator, as the policy of its lab says. The new
/// allocation lasts as long as one of the lab, and at least as long as the old one. If the request is refused, the caller
/// keeps its sandbox.
///
/// A retry is safe: once the caller no longer holds the sandbox, the answer is the one that it holds under the same key.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandbox_id}/replace",
    tag = "Tracks",
    params(
        ("sandbox_id" = String, Path, description = "The id of the sandbox to replace", example = "2009521"), TrackCaller
    ),
    request_body = ReplaceBody,
    responses(
        (status = 201, description = "Allocated by this request in place of the sandbox", body = AllocationBody),
        (status = 200, description = "Held since an earlier request", body = AllocationBody),
        ReplaceErrors,
    ),
    security(("track_token" = [])),
)]
async fn replace_sandbox(
    State(state): State<AppState>,
    TrackCaller(caller, _): TrackCaller,
    Extension(principal): Extension<Principal>,
    SandboxPath(id): SandboxPath,
    ApiJson(ReplaceBody { reason }): ApiJson<ReplaceBody>,
) -> Result<Response, ApiError> {
    let request = ReplaceRequest {
        id,
        caller,
        principal,
        reason,
    };
    let allocation = state.broker.replace(&request).await?;
    request_context::note_replaced(&request.id);
    if let Some(lab) = allocation.sandbox().lab() {
        request_context::note_lab(lab);
    }
    Ok(allocations::answer(allocation, "replaced"))
}
