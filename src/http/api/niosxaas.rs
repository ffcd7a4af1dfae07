//! What became of the NIOSXaaS services in deleted accounts.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{error_responses::error_set, extract::Admin};
use crate::{
    clock::UnixSeconds,
    domain::{NiosxaasRecord, NiosxaasVerdict},
    http::{AppState, error::ApiError},
    jobs::niosxaas_report::NiosxaasReport,
};

error_set! {
    /// What looking at the records may fail with.
    NiosxaasErrors: StoreUnavailable
}

/// What became of the NIOSXaaS services.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "is_enabled": true, "is_shadow": false, "cleaned": 41, "skipped": 3, "failed": 1, "pending": 2,
    "records": [{ "sandbox_id": "2009521", "outcome": "cleaned", "detail": "2", "at": 1_774_003_661 }]
}))]
pub(crate) struct NiosxaasBody {
    /// Whether services are looked for before an account is deleted (`NIOSXAAS_ENABLED`).
    pub is_enabled: bool,
    /// Whether they are found but left alone (`NIOSXAAS_SHADOW_MODE`).
    pub is_shadow: bool,
    /// Accounts of the last 30 days whose services were deleted.
    pub cleaned: usize,
    /// Accounts of the last 30 days whose services were left alone.
    pub skipped: usize,
    /// Accounts of the last 30 days whose services could not be deleted.
    pub failed: usize,
    /// Sandboxes on their way out whose services were not looked at yet.
    pub pending: usize,
    /// The last records, newest first; up to 200.
    pub records: Vec<NiosxaasRecordBody>,
}

impl From<NiosxaasReport> for NiosxaasBody {
    fn from(report: NiosxaasReport) -> Self {
        Self {
            is_enabled: report.is_enabled,
            is_shadow: report.is_shadow,
            cleaned: report.cleaned,
            skipped: report.skipped,
            failed: report.failed,
            pending: report.pending,
            records: report.records.into_iter().map(Into::into).collect(),
        }
    }
}

/// What became of an account's NIOSXaaS services, as it is remembered for 30 days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(
    as = NiosxaasRecord,
    example = json!({ "sandbox_id": "2009521", "outcome": "cleaned", "detail": "2", "at": 1_774_003_661 })
)]
pub(crate) struct NiosxaasRecordBody {
    /// The sandbox.
    pub sandbox_id: String,
    /// What became of them.
    pub outcome: NiosxaasVerdict,
    /// How many were deleted, or why they were not.
    pub detail: String,
    /// When, in Unix seconds.
    pub at: UnixSeconds,
}

impl From<NiosxaasRecord> for NiosxaasRecordBody {
    fn from(record: NiosxaasRecord) -> Self {
        Self {
            sandbox_id: record.sandbox_id,
            outcome: record.outcome,
            detail: record.detail,
            at: record.at,
        }
    }
}

/// Look at what became of NIOSXaaS services
///
/// Reads the whole table. Records are kept for 30 days.
#[utoipa::path(
    get,
    path = "/admin/niosxaas",
    tag = "Admin",
    responses((status = 200, description = "What became of them", body = NiosxaasBody), NiosxaasErrors),
    security(("admin_token" = [])),
)]
pub(super) async fn niosxaas(
    State(state): State<AppState>,
    _: Admin,
) -> Result<Json<NiosxaasBody>, ApiError> {
    let report = state.runner.niosxaas_report().await?;
    Ok(Json(report.into()))
}
