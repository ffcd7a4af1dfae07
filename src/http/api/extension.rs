//! The extension of an allocation by its holder.

use std::time::Duration;

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{ApiJson, SandboxPath, TrackCaller},
    minutes::{MINUTES, span},
};
use crate::{
    broker::ExtendedAllocation,
    clock::UnixSeconds,
    http::{AppState, error::ApiError, request_context::Outcome},
};

error_set! {
    /// The errors of an extension.
    ExtendErrors: MissingHeader, InvalidHeader, InvalidBody, NotSandboxOwner, LabNotAllowed, AllocationExpired,
        SandboxNotFound, ExtensionLimitReached, StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(extend_sandbox))
}

/// The span of an extension.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "minutes": 60 }))]
pub(super) struct ExtendSandboxBody {
    /// The allocation ends at least this many minutes from now, as far as its lab permits: 1 to 43200, which is 30 days.
    #[schema(minimum = 1, maximum = 43200)]
    minutes: u64,
}

/// The end of an allocation after an extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "expires_at": 1_774_016_400, "max_expires_at": 1_774_018_000
}))]
pub(crate) struct ExtensionBody {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// When the allocation ends, in Unix seconds.
    pub expires_at: UnixSeconds,
    /// The latest end to which extensions can move it, in Unix seconds.
    pub max_expires_at: UnixSeconds,
}

impl From<ExtendedAllocation> for ExtensionBody {
    fn from(extended: ExtendedAllocation) -> Self {
        Self {
            sandbox_id: extended.sandbox_id.to_string(),
            expires_at: extended.expires_at,
            max_expires_at: extended.max_expires_at,
        }
    }
}

/// Converts the minutes of an extension.
pub(super) fn extension_span(minutes: u64) -> Result<Duration, ApiError> {
    span(minutes).ok_or_else(|| {
        let (least, most) = (MINUTES.start(), MINUTES.end());
        ApiError::invalid_body(format_args!(
            "minutes must be a number from {least} to {most}"
        ))
    })
}

/// Extend an allocation
///
/// The caller must hold the sandbox. Its allocation ends no earlier than `minutes` from now, but no later than
/// `max_expires_at`, the longest duration that its lab permits. The end never moves to an earlier time: an allocation that
/// already ends late enough stays as it is, with the same answer. So a retry is safe. During the grace period the
/// allocation can still be extended.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandbox_id}/extend",
    tag = "Tracks",
    params(("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521"), TrackCaller),
    request_body = ExtendSandboxBody,
    responses((status = 200, description = "The allocation ends as late as requested or permitted", body = ExtensionBody), ExtendErrors),
    security(("track_token" = [])),
)]
async fn extend_sandbox(
    State(state): State<AppState>,
    TrackCaller(caller, bounds): TrackCaller,
    SandboxPath(id): SandboxPath,
    ApiJson(ExtendSandboxBody { minutes }): ApiJson<ExtendSandboxBody>,
) -> Result<(Extension<Outcome>, Json<ExtensionBody>), ApiError> {
    let span = extension_span(minutes)?;
    let extended = state.broker.extend(&id, span, &caller, &bounds).await?;
    let outcome = if extended.is_moved {
        "extended"
    } else {
        "unchanged"
    };
    Ok((Extension(Outcome(outcome)), Json(extended.into())))
}
