//! The sandboxes of a caller.

use axum::{Extension, Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{SandboxPath, TrackCaller},
};
use crate::{
    broker::Broker,
    clock::UnixSeconds,
    domain::{Principal, Sandbox, SandboxId, Status},
    http::{AppState, error::ApiError},
};

error_set! {
    /// The errors of reading one sandbox.
    GetErrors: MissingHeader, InvalidHeader, NotSandboxOwner, LabNotAllowed, SandboxNotFound, StoreUnavailable
}
error_set! {
    /// The errors of listing.
    ListErrors: MissingHeader, InvalidHeader, StoreUnavailable
}
error_set! {
    /// The errors of a release.
    ReleaseErrors: MissingHeader, InvalidHeader, NotSandboxOwner, LabNotAllowed, AllocationExpired, SandboxNotFound,
    StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_sandboxes))
        .routes(routes!(get_sandbox))
        .routes(routes!(mark_for_deletion))
}

/// A sandbox of the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "name": "lab-adventure-0087",
    "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f", "status": "allocated",
    "allocated_to_track": "play-7f3a91", "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400,
    "max_expires_at": 1_774_028_800, "extensions": 0, "track_name": "cloud-security-101", "sfdc_account_id": null,
    "replaces": null, "replaced_by": null
}))]
pub(crate) struct SandboxBody {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// The name of the account.
    pub name: String,
    /// CSP's resource id of the account.
    pub external_id: String,
    /// The status.
    pub status: Status,
    /// The caller that holds it, or held it last.
    pub allocated_to_track: Option<String>,
    /// When it was allocated, in Unix seconds.
    pub allocated_at: UnixSeconds,
    /// When the allocation ends, in Unix seconds.
    pub expires_at: Option<UnixSeconds>,
    /// The latest end that extensions by the caller can reach, in Unix seconds; null unless it is allocated.
    pub max_expires_at: Option<UnixSeconds>,
    /// How often the end of the allocation was moved to a later time.
    pub extensions: u32,
    /// The lab of the caller.
    pub track_name: Option<String>,
    /// The Salesforce account, if CSP has one.
    pub sfdc_account_id: Option<String>,
    /// The sandbox that the caller had before, which this one replaced.
    pub replaces: Option<String>,
    /// The sandbox that the caller received in place of this one.
    pub replaced_by: Option<String>,
}

impl SandboxBody {
    fn new(sandbox: Sandbox, broker: &Broker) -> Self {
        let max_expires_at = broker.latest_end(&sandbox);
        let id = |id: Option<SandboxId>| id.map(|id| id.to_string());
        let (caller, lab) = sandbox
            .holder
            .map_or((None, None), |holder| (Some(holder.caller), holder.lab));
        Self {
            expires_at: sandbox.expires_at,
            max_expires_at,
            extensions: sandbox.lease.extensions,
            replaces: id(sandbox.lease.replaces),
            replaced_by: id(sandbox.lease.replaced_by),
            sandbox_id: sandbox.account.sandbox_id.to_string(),
            name: sandbox.account.name,
            external_id: sandbox.account.external_id,
            status: sandbox.status,
            allocated_to_track: caller.map(|caller| caller.to_string()),
            allocated_at: sandbox.allocated_at,
            track_name: lab.map(|lab| lab.to_string()),
            sfdc_account_id: sandbox.account.sfdc_account_id,
        }
    }
}

/// The sandboxes that a caller holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandboxes": [{
        "sandbox_id": "2009521", "name": "lab-adventure-0087",
        "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f", "status": "allocated",
        "allocated_to_track": "play-7f3a91", "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400,
        "max_expires_at": 1_774_028_800, "extensions": 0, "track_name": "cloud-security-101", "sfdc_account_id": null,
        "replaces": null, "replaced_by": null
    }],
    "count": 1
}))]
pub(crate) struct SandboxesBody {
    /// The sandboxes, oldest allocation first.
    pub sandboxes: Vec<SandboxBody>,
    /// The number of sandboxes.
    pub count: usize,
}

/// A released sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "status": "pending_deletion", "deletion_requested_at": 1_774_003_600, "replaced_by": null
}))]
pub(crate) struct ReleaseBody {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// The status; `null` if it has been replaced and deleted since.
    pub status: Option<Status>,
    /// When it was released, in Unix seconds.
    pub deletion_requested_at: Option<UnixSeconds>,
    /// The sandbox that the caller received in its place, and has to release as well if it still holds it; `null` if it
    /// was not replaced.
    pub replaced_by: Option<String>,
}

/// Get a sandbox
///
/// The caller must hold the sandbox, or have held it last. With a token that is bound to labs or name prefixes, the
/// sandbox must be within these bounds.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandbox_id}",
    tag = "Tracks",
    params(("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521"), TrackCaller),
    responses((status = 200, description = "The sandbox", body = SandboxBody), GetErrors),
    security(("track_token" = [])),
)]
async fn get_sandbox(
    State(state): State<AppState>,
    TrackCaller(caller, bounds): TrackCaller,
    SandboxPath(id): SandboxPath,
) -> Result<Json<SandboxBody>, ApiError> {
    let sandbox = state.broker.get(&id, &caller, &bounds).await?;
    Ok(Json(SandboxBody::new(sandbox, &state.broker)))
}

/// List the caller's sandboxes
///
/// The sandboxes that the caller holds, within the bounds of its token. The most recent allocations and releases may be
/// missing.
#[utoipa::path(
    get,
    path = "/sandboxes",
    tag = "Tracks",
    params(TrackCaller),
    responses((status = 200, description = "The sandboxes that the caller holds", body = SandboxesBody), ListErrors),
    security(("track_token" = [])),
)]
async fn list_sandboxes(
    State(state): State<AppState>,
    TrackCaller(caller, bounds): TrackCaller,
) -> Result<Json<SandboxesBody>, ApiError> {
    let sandboxes: Vec<SandboxBody> = state
        .broker
        .held_by(&caller, &bounds)
        .await?
        .into_iter()
        .map(|sandbox| SandboxBody::new(sandbox, &state.broker))
        .collect();
    Ok(Json(SandboxesBody {
        count: sandboxes.len(),
        sandboxes,
    }))
}

/// Release a sandbox
///
/// The sandbox will be deleted from CSP. A retry is safe and has the same answer. The release of a sandbox that has been
/// replaced changes nothing, and names the one to release instead.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandbox_id}/mark-for-deletion",
    tag = "Tracks",
    params(("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521"), TrackCaller),
    responses((status = 200, description = "The sandbox is released", body = ReleaseBody), ReleaseErrors),
    security(("track_token" = [])),
)]
async fn mark_for_deletion(
    State(state): State<AppState>,
    TrackCaller(caller, _): TrackCaller,
    Extension(principal): Extension<Principal>,
    SandboxPath(id): SandboxPath,
) -> Result<Json<ReleaseBody>, ApiError> {
    let released = state.broker.release(&id, &caller, &principal).await?;
    Ok(Json(ReleaseBody {
        sandbox_id: released.sandbox_id.to_string(),
        status: released.status,
        deletion_requested_at: released.deletion_requested_at,
        replaced_by: released.replaced_by.map(|id| id.to_string()),
    }))
}
