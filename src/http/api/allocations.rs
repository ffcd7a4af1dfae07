//! `POST /allocate`.

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{error_responses::error_set, extract::AllocateHeaders};
use crate::{
    broker::Allocation,
    clock::UnixSeconds,
    domain::Sandbox,
    http::{
        AppState,
        error::ApiError,
        request_context::{self, Outcome},
    },
};

error_set! {
    /// The errors of an allocation.
    AllocateErrors: MissingHeader, InvalidHeader, LabNotAllowed, NoSandboxesAvailable, AllocationsPaused, PoolContended,
    StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(allocate))
}

/// A sandbox allocated to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "name": "lab-adventure-0087",
    "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f",
    "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400, "sfdc_account_id": null
}))]
pub(crate) struct AllocationBody {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// The name of the account.
    pub name: String,
    /// CSP's resource id of the account.
    pub external_id: String,
    /// When it was allocated, in Unix seconds.
    pub allocated_at: UnixSeconds,
    /// When the allocation ends, in Unix seconds.
    pub expires_at: Option<UnixSeconds>,
    /// The Salesforce account, if CSP has one.
    pub sfdc_account_id: Option<String>,
}

impl From<Sandbox> for AllocationBody {
    fn from(sandbox: Sandbox) -> Self {
        Self {
            expires_at: sandbox.expires_at,
            sandbox_id: sandbox.account.sandbox_id.to_string(),
            name: sandbox.account.name,
            external_id: sandbox.account.external_id,
            allocated_at: sandbox.allocated_at,
            sfdc_account_id: sandbox.account.sfdc_account_id,
        }
    }
}

/// Allocate a sandbox
///
/// Allocates a sandbox to the caller, or returns the one that the caller already holds under the same key. A retry is
/// therefore safe, whether or not the first request succeeded. While an operator has paused allocations, only such a
/// retry gets a sandbox.
#[utoipa::path(
    post,
    path = "/allocate",
    tag = "Tracks",
    params(AllocateHeaders),
    responses(
        (status = 201, description = "Allocated by this request", body = AllocationBody),
        (status = 200, description = "Allocated by an earlier request with the same caller and key", body = AllocationBody),
        AllocateErrors,
    ),
    security(("track_token" = [])),
)]
async fn allocate(
    State(state): State<AppState>,
    AllocateHeaders(request): AllocateHeaders,
) -> Result<Response, ApiError> {
    let (status, outcome, sandbox) = match state.broker.allocate(&request).await? {
        Allocation::New(sandbox) => (StatusCode::CREATED, "allocated", sandbox),
        Allocation::Replayed(sandbox) => (StatusCode::OK, "replayed", sandbox),
    };
    request_context::note_sandbox(sandbox.id());
    let body = AllocationBody::from(sandbox);
    Ok((status, Extension(Outcome(outcome)), Json(body)).into_response())
}
