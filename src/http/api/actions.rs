//! The actions of operators on single sandboxes.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    admin::AdminSandboxBody,
    error_responses::error_set,
    extension::extension_span,
    extract::{ApiJson, Operator, SandboxPath},
};
use crate::{
    clock::UnixSeconds,
    domain::{Reason, SandboxAction, check_end},
    http::{AppState, error::ApiError},
};

error_set! {
    /// The errors of a release.
    ReleaseErrors: InvalidBody, SandboxNotFound, SandboxAvailable, SandboxPendingDeletion, SandboxDeletionFailed,
        SandboxStale, SandboxQuarantined, SandboxUnreadable, StoreUnavailable
}
error_set! {
    /// The errors of an extension.
    ExtendErrors: InvalidBody, SandboxNotFound, SandboxAvailable, SandboxPendingDeletion, SandboxDeletionFailed,
        SandboxStale, SandboxQuarantined, SandboxUnreadable, ExtensionLimitReached, StoreUnavailable
}
error_set! {
    /// The errors of a quarantine.
    QuarantineErrors: InvalidBody, SandboxNotFound, SandboxPendingDeletion, SandboxDeletionFailed, SandboxQuarantined,
        SandboxUnreadable, StoreUnavailable
}
error_set! {
    /// The errors of a return from quarantine.
    RestoreErrors: InvalidBody, SandboxNotFound, SandboxAvailable, SandboxAllocated, SandboxPendingDeletion,
        SandboxDeletionFailed, SandboxStale, SandboxUnreadable, HadHolder, StoreUnavailable
}
error_set! {
    /// The errors of a deletion.
    DeleteErrors: InvalidBody, SandboxNotFound, SandboxAllocated, SandboxPendingDeletion, SandboxUnreadable,
        StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(release_sandbox))
        .routes(routes!(extend_allocation))
        .routes(routes!(quarantine_sandbox))
        .routes(routes!(restore_sandbox))
        .routes(routes!(delete_sandbox))
}

/// The reason of an action.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "the student has left" }))]
pub(super) struct ReasonBody {
    /// Why, in the words of the operator: 1 to 500 printable characters in one line.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    reason: Reason,
}

/// The span and the reason of an extension.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "minutes": 60, "reason": "the class runs late" }))]
pub(super) struct ExtendBody {
    /// The allocation ends at least this many minutes from now: 1 to 43200, which is 30 days.
    #[schema(minimum = 1, maximum = 43200)]
    minutes: u64,
    /// Why, in the words of the operator: 1 to 500 printable characters in one line.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    reason: Reason,
}

/// The reason and the end of a quarantine.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "DNS does not resolve", "until": 1_774_100_000 }))]
pub(super) struct QuarantineBody {
    /// Why, in the words of the operator: 1 to 500 printable characters in one line.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    reason: Reason,
    /// When the quarantine ends by itself, at most 365 days from now; only an operator ends it if this is absent.
    #[serde(default)]
    #[schema(required = false)]
    until: Option<UnixSeconds>,
}

/// Release a sandbox on behalf of any holder
///
/// The holder loses the sandbox at once, and the next cleanup deletes it from CSP. A retry of its allocate request gets
/// another one. The answer to a repeated release is `SANDBOX_PENDING_DELETION`.
#[utoipa::path(
    post,
    path = "/admin/sandboxes/{sandbox_id}/release",
    tag = "Admin",
    params(("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521")),
    request_body = ReasonBody,
    responses((status = 200, description = "The sandbox after the release", body = AdminSandboxBody), ReleaseErrors),
    security(("operator_token" = [])),
)]
async fn release_sandbox(
    State(state): State<AppState>,
    Operator(author): Operator,
    SandboxPath(id): SandboxPath,
    ApiJson(ReasonBody { reason }): ApiJson<ReasonBody>,
) -> Result<Json<AdminSandboxBody>, ApiError> {
    let action = SandboxAction::Release;
    let sandbox = state.broker.act(&id, action, author, reason).await?;
    Ok(Json(sandbox.into()))
}

/// Extend an allocation
///
/// The allocation ends no earlier than `minutes` from now; its end never moves to an earlier time, so a repeated request
/// does not add to the first one. An overdue allocation can be extended until auto-expire has retired it.
#[utoipa::path(
    post,
    path = "/admin/sandboxes/{sandbox_id}/extend",
    tag = "Admin",
    params(("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521")),
    request_body = ExtendBody,
    responses((status = 200, description = "The sandbox with its new end", body = AdminSandboxBody), ExtendErrors),
    security(("operator_token" = [])),
)]
async fn extend_allocation(
    State(state): State<AppState>,
    Operator(author): Operator,
    SandboxPath(id): SandboxPath,
    ApiJson(ExtendBody { minutes, reason }): ApiJson<ExtendBody>,
) -> Result<Json<AdminSandboxBody>, ApiError> {
    let span = extension_span(minutes)?;
    let sandbox = state
        .broker
        .extend_for_operator(&id, span, author, reason)
        .await?;
    Ok(Json(sandbox.into()))
}

/// Set a sandbox aside
///
/// It is neither allocated nor deleted until its quarantine ends: by an operator, or at `until`. A holder loses it at
/// once; such a sandbox never becomes available again.
#[utoipa::path(
    post,
    path = "/admin/sandboxes/{sandbox_id}/quarantine",
    tag = "Admin",
    params(("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521")),
    request_body = QuarantineBody,
    responses((status = 200, description = "The sandbox in quarantine", body = AdminSandboxBody), QuarantineErrors),
    security(("operator_token" = [])),
)]
async fn quarantine_sandbox(
    State(state): State<AppState>,
    Operator(author): Operator,
    SandboxPath(id): SandboxPath,
    ApiJson(QuarantineBody { reason, until }): ApiJson<QuarantineBody>,
) -> Result<Json<AdminSandboxBody>, ApiError> {
    if let Some(until) = until {
        check_end(until, state.clock.now()).map_err(ApiError::invalid_body)?;
    }
    let action = SandboxAction::Quarantine { until };
    let sandbox = state.broker.act(&id, action, author, reason).await?;
    Ok(Json(sandbox.into()))
}

/// Bring a sandbox back from quarantine
///
/// Only one that never had a holder. It is available at once, or `stale` if CSP does not list it.
#[utoipa::path(
    post,
    path = "/admin/sandboxes/{sandbox_id}/restore",
    tag = "Admin",
    params(("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521")),
    request_body = ReasonBody,
    responses((status = 200, description = "The sandbox after its return", body = AdminSandboxBody), RestoreErrors),
    security(("operator_token" = [])),
)]
async fn restore_sandbox(
    State(state): State<AppState>,
    Operator(author): Operator,
    SandboxPath(id): SandboxPath,
    ApiJson(ReasonBody { reason }): ApiJson<ReasonBody>,
) -> Result<Json<AdminSandboxBody>, ApiError> {
    let action = SandboxAction::Restore;
    let sandbox = state.broker.act(&id, action, author, reason).await?;
    Ok(Json(sandbox.into()))
}

/// Delete a sandbox
///
/// The next cleanup deletes it from CSP. Its attempts are counted from 0 again. A sandbox with a holder has to be
/// released instead.
#[utoipa::path(
    post,
    path = "/admin/sandboxes/{sandbox_id}/delete",
    tag = "Admin",
    params(("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521")),
    request_body = ReasonBody,
    responses((status = 200, description = "The sandbox, which waits for its deletion", body = AdminSandboxBody),
        DeleteErrors),
    security(("operator_token" = [])),
)]
async fn delete_sandbox(
    State(state): State<AppState>,
    Operator(author): Operator,
    SandboxPath(id): SandboxPath,
    ApiJson(ReasonBody { reason }): ApiJson<ReasonBody>,
) -> Result<Json<AdminSandboxBody>, ApiError> {
    let action = SandboxAction::Delete;
    let sandbox = state.broker.act(&id, action, author, reason).await?;
    Ok(Json(sandbox.into()))
}
