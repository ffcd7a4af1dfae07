//! What became of the NIOSXaaS services in deleted accounts.

use axum::{Json, extract::State};
use futures_util::TryStreamExt;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::{ApiError, error_set},
    extract::Admin,
};
use crate::{
    app::AppState,
    csp::niosxaas::NiosxaasClient,
    sandbox::{Sandbox, Status},
    store::{NiosxaasRecord, NiosxaasVerdict},
};

error_set! {
    /// What looking at the records may fail with.
    NiosxaasErrors: StoreUnavailable
}

/// Records that are listed.
const RECENT: usize = 200;

/// What became of the NIOSXaaS services.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(example = json!({
    "is_enabled": true, "is_shadow": false, "cleaned": 41, "skipped": 3, "failed": 1, "pending": 2,
    "records": [{ "sandbox_id": "2009521", "outcome": "cleaned", "detail": "2", "at": 1_774_003_661 }]
}))]
pub struct NiosxaasBody {
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
    pub records: Vec<NiosxaasRecord>,
}

impl NiosxaasBody {
    fn add(&mut self, page: Vec<NiosxaasRecord>) {
        for record in page {
            match record.outcome {
                NiosxaasVerdict::Cleaned => self.cleaned += 1,
                NiosxaasVerdict::Skipped => self.skipped += 1,
                NiosxaasVerdict::Failed => self.failed += 1,
            }
            self.records.push(record);
        }
        self.records
            .sort_by_key(|record| std::cmp::Reverse(record.at));
        self.records.truncate(RECENT);
    }
}

fn is_pending(sandbox: &Sandbox) -> bool {
    let upkeep = &sandbox.upkeep;
    upkeep.niosxaas_cleaned_at.is_none()
        && upkeep.niosxaas_cleanup_skipped.is_none()
        && upkeep.niosxaas_cleanup_failed_reason.is_none()
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
    let context = state.runner.context();
    let leaving = context.store.in_status(Status::PendingDeletion).await?;
    let service = context.niosxaas.as_ref();
    let is_enabled = service.is_some();
    let mut body = NiosxaasBody {
        is_enabled,
        is_shadow: service.is_some_and(NiosxaasClient::is_shadow),
        pending: leaving
            .iter()
            .filter(|sandbox| is_enabled && is_pending(sandbox))
            .count(),
        ..NiosxaasBody::default()
    };
    let mut pages = context.store.niosxaas_pages();
    while let Some(page) = pages.try_next().await? {
        body.add(page);
    }
    Ok(Json(body))
}
