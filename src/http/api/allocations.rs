//! `POST /allocate`.

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

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
    /// What an allocation may fail with.
    AllocateErrors: MissingHeader, InvalidHeader, NoSandboxesAvailable, PoolContended, StoreUnavailable
}

/// A sandbox in the hands of the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "name": "lab-adventure-0087",
    "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f",
    "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400, "sfdc_account_id": null
}))]
pub(crate) struct AllocationBody {
    /// The sandbox.
    pub sandbox_id: String,
    /// The account's name.
    pub name: String,
    /// CSP's resource id of the account.
    pub external_id: String,
    /// When it was allocated, in Unix seconds.
    pub allocated_at: UnixSeconds,
    /// When the allocation ends, in Unix seconds.
    pub expires_at: Option<UnixSeconds>,
    /// The Salesforce account, where CSP knows one.
    pub sfdc_account_id: Option<String>,
}

impl From<Sandbox> for AllocationBody {
    fn from(sandbox: Sandbox) -> Self {
        Self {
            expires_at: sandbox.expires_at(),
            sandbox_id: sandbox.account.sandbox_id.to_string(),
            name: sandbox.account.name,
            external_id: sandbox.account.external_id,
            allocated_at: sandbox.allocated_at,
            sfdc_account_id: sandbox.account.sfdc_account_id,
        }
    }
}

/// Get a sandbox
///
/// Leases a sandbox to the caller, or returns the one it holds under the same key already: repeating a request is
/// safe, whatever became of the first one.
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
pub(super) async fn allocate(
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
