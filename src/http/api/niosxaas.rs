//! The outcomes of NIOSXaaS cleanups in deleted accounts.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{error_responses::error_set, extract::Viewer};
use crate::{
    clock::UnixSeconds,
    domain::{NiosxaasRecord, NiosxaasVerdict},
    http::{AppState, error::ApiError},
    jobs::niosxaas_report::NiosxaasReport,
};

error_set! {
    /// The errors of reading the records.
    NiosxaasErrors: StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(niosxaas))
}

/// The outcomes of NIOSXaaS cleanups.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "is_enabled": true, "is_shadow": false, "cleaned": 41, "skipped": 3, "failed": 1, "pending": 2,
    "records": [{ "sandbox_id": "2009521", "outcome": "cleaned", "detail": "2", "at": 1_774_003_661 }]
}))]
pub(crate) struct NiosxaasBody {
    /// Whether services are deleted before their account (`NIOSXAAS_ENABLED`).
    pub is_enabled: bool,
    /// Whether services are found, but not deleted (`NIOSXAAS_SHADOW_MODE`).
    pub is_shadow: bool,
    /// Accounts of the last 30 days whose services were deleted.
    pub cleaned: usize,
    /// Accounts of the last 30 days whose services were skipped.
    pub skipped: usize,
    /// Accounts of the last 30 days whose services could not be deleted.
    pub failed: usize,
    /// Sandboxes in `pending_deletion` whose services are still to be deleted.
    pub pending: usize,
    /// The latest records, newest first; up to 200.
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

/// The outcome for the NIOSXaaS services of one account. Records are kept for 30 days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(
    as = NiosxaasRecord,
    example = json!({ "sandbox_id": "2009521", "outcome": "cleaned", "detail": "2", "at": 1_774_003_661 })
)]
pub(crate) struct NiosxaasRecordBody {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// The outcome.
    pub outcome: NiosxaasVerdict,
    /// The number of deleted services, or the reason why none were.
    #[schema(required = false)]
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

/// List the outcomes of NIOSXaaS cleanups
///
/// Reads the whole table. Records are kept for 30 days.
#[utoipa::path(
    get,
    path = "/admin/niosxaas",
    tag = "Admin",
    responses((status = 200, description = "The outcomes", body = NiosxaasBody), NiosxaasErrors),
    security(("viewer_token" = [])),
)]
async fn niosxaas(
    State(state): State<AppState>,
    _: Viewer,
) -> Result<Json<NiosxaasBody>, ApiError> {
    let report = state.runner.niosxaas_report().await?;
    Ok(Json(report.into()))
}
