//! The sandboxes of a caller.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error_responses::error_set,
    extract::{SandboxPath, TrackCaller},
};
use crate::{
    clock::UnixSeconds,
    domain::{Sandbox, Status},
    http::{AppState, error::ApiError},
};

error_set! {
    /// What reading one sandbox may fail with.
    GetErrors: MissingHeader, InvalidHeader, NotSandboxOwner, SandboxNotFound, StoreUnavailable
}
error_set! {
    /// What listing may fail with.
    ListErrors: MissingHeader, InvalidHeader, StoreUnavailable
}
error_set! {
    /// What giving back may fail with.
    ReleaseErrors: MissingHeader, InvalidHeader, NotSandboxOwner, AllocationExpired, SandboxNotFound, StoreUnavailable
}

/// A sandbox as its holder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "name": "lab-adventure-0087",
    "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f", "status": "allocated",
    "allocated_to_track": "play-7f3a91", "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400,
    "track_name": "cloud-security-101", "sfdc_account_id": null
}))]
pub(crate) struct SandboxBody {
    /// The sandbox.
    pub sandbox_id: String,
    /// The account's name.
    pub name: String,
    /// CSP's resource id of the account.
    pub external_id: String,
    /// Its state.
    pub status: Status,
    /// Its holder.
    pub allocated_to_track: Option<String>,
    /// When it was allocated, in Unix seconds.
    pub allocated_at: UnixSeconds,
    /// When the allocation ends, in Unix seconds.
    pub expires_at: Option<UnixSeconds>,
    /// Its holder's lab.
    pub track_name: Option<String>,
    /// The Salesforce account, where CSP knows one.
    pub sfdc_account_id: Option<String>,
}

impl From<Sandbox> for SandboxBody {
    fn from(sandbox: Sandbox) -> Self {
        let expires_at = sandbox.expires_at();
        let (caller, lab) = sandbox
            .holder
            .map_or((None, None), |holder| (Some(holder.caller), holder.lab));
        Self {
            expires_at,
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

/// What a caller holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandboxes": [{
        "sandbox_id": "2009521", "name": "lab-adventure-0087",
        "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f", "status": "allocated",
        "allocated_to_track": "play-7f3a91", "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400,
        "track_name": "cloud-security-101", "sfdc_account_id": null
    }],
    "count": 1
}))]
pub(crate) struct SandboxesBody {
    /// The sandboxes, oldest allocation first.
    pub sandboxes: Vec<SandboxBody>,
    /// How many there are.
    pub count: usize,
}

/// A sandbox on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "status": "pending_deletion", "deletion_requested_at": 1_774_003_600
}))]
pub(crate) struct ReleaseBody {
    /// The sandbox.
    pub sandbox_id: String,
    /// Its state.
    pub status: Status,
    /// When it was given back, in Unix seconds.
    pub deletion_requested_at: Option<UnixSeconds>,
}

/// Look at a sandbox
///
/// The sandbox must belong to the caller, now or until it was given back.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandbox_id}",
    tag = "Tracks",
    params(("sandbox_id" = String, Path, description = "The sandbox", example = "2009521"), TrackCaller),
    responses((status = 200, description = "The sandbox", body = SandboxBody), GetErrors),
    security(("track_token" = [])),
)]
pub(super) async fn get_sandbox(
    State(state): State<AppState>,
    TrackCaller(caller): TrackCaller,
    SandboxPath(id): SandboxPath,
) -> Result<Json<SandboxBody>, ApiError> {
    Ok(Json(state.broker.get(&id, &caller).await?.into()))
}

/// List the caller's sandboxes
///
/// What the caller holds now. An allocation or release of the last moment may not show yet.
#[utoipa::path(
    get,
    path = "/sandboxes",
    tag = "Tracks",
    params(TrackCaller),
    responses((status = 200, description = "What the caller holds", body = SandboxesBody), ListErrors),
    security(("track_token" = [])),
)]
pub(super) async fn list_sandboxes(
    State(state): State<AppState>,
    TrackCaller(caller): TrackCaller,
) -> Result<Json<SandboxesBody>, ApiError> {
    let sandboxes: Vec<SandboxBody> = state
        .broker
        .held_by(&caller)
        .await?
        .into_iter()
        .map(Into::into)
        .collect();
    Ok(Json(SandboxesBody {
        count: sandboxes.len(),
        sandboxes,
    }))
}

/// Give a sandbox back
///
/// The sandbox will be deleted from CSP. Repeating the request is safe and gives the same answer.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandbox_id}/mark-for-deletion",
    tag = "Tracks",
    params(("sandbox_id" = String, Path, description = "The sandbox", example = "2009521"), TrackCaller),
    responses((status = 200, description = "It is on its way out", body = ReleaseBody), ReleaseErrors),
    security(("track_token" = [])),
)]
pub(super) async fn mark_for_deletion(
    State(state): State<AppState>,
    TrackCaller(caller): TrackCaller,
    SandboxPath(id): SandboxPath,
) -> Result<Json<ReleaseBody>, ApiError> {
    let sandbox = state.broker.release(&id, &caller).await?;
    Ok(Json(ReleaseBody {
        sandbox_id: sandbox.account.sandbox_id.to_string(),
        status: sandbox.status,
        deletion_requested_at: sandbox.deletion_requested_at,
    }))
}
