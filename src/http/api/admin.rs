//! The sandboxes and counts of the pool, for operators.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{ApiQuery, Viewer},
    paging::{page_limit, page_start},
};
use crate::{
    clock::UnixSeconds,
    domain::{PoolSnapshot, Sandbox, Status},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    store::{Position, UnreadableItem},
};

error_set! {
    /// The errors of counting.
    StatsErrors: StoreUnavailable
}
error_set! {
    /// The errors of listing.
    ListErrors: InvalidParameter, InvalidCursor, StoreUnavailable
}

/// The longest search text, in bytes.
const MAX_SEARCH: usize = 256;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(stats))
        .routes(routes!(list_all))
}

/// The number of sandboxes by status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "total": 203, "provisioning": 3, "available": 187, "allocated": 11, "pending_deletion": 2, "stale": 0, "deletion_failed": 0,
    "quarantined": 0, "unreadable": 0
}))]
pub(crate) struct StatsBody {
    /// All sandboxes in these seven statuses.
    pub total: u64,
    /// Not known to be usable yet.
    pub provisioning: u64,
    /// Available for allocation.
    pub available: u64,
    /// Held by callers.
    pub allocated: u64,
    /// Waiting for deletion from CSP.
    pub pending_deletion: u64,
    /// No longer listed by CSP.
    pub stale: u64,
    /// Deletion from CSP given up.
    pub deletion_failed: u64,
    /// Set aside by operators or by a check.
    pub quarantined: u64,
    /// Items of the pool that are no valid sandboxes, as of the last sync. Those with a known status are among the
    /// other counts too. The list of sandboxes shows them.
    pub unreadable: u64,
}

impl From<PoolSnapshot> for StatsBody {
    fn from(snapshot: PoolSnapshot) -> Self {
        let counts = snapshot.counts;
        Self {
            unreadable: snapshot.unreadable(),
            total: counts.total(),
            provisioning: counts.provisioning,
            available: counts.available,
            allocated: counts.allocated,
            pending_deletion: counts.pending_deletion,
            stale: counts.stale,
            deletion_failed: counts.deletion_failed,
            quarantined: counts.quarantined,
        }
    }
}

/// A sandbox with all its attributes, for operators. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "name": "lab-adventure-0087",
    "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f", "status": "pending_deletion",
    "allocated_to_track": "play-7f3a91", "idempotency_key": "play-7f3a91", "track_name": "cloud-security-101",
    "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400, "lab_duration_hours": 4,
    "deletion_requested_at": 1_774_003_600, "released_by": "env-track", "released_at": 1_774_003_600, "name_prefix": "lab-", "extensions": 1,
    "extended_at": 1_774_001_800, "replaces": null, "replaced_by": null, "replacement_reason": null,
    "deletion_retry_count": 2,
    "next_deletion_at": 1_774_003_900, "deletion_error": "CSP is unavailable: HTTP 500", "created_at": 1_743_094_427,
    "inserted_at": 1_743_094_500, "updated_at": 1_774_003_720, "last_synced": 1_773_990_000, "sfdc_account_id": null,
    "niosxaas_cleaned_at": 1_774_003_661, "niosxaas_cleanup_skipped": null, "niosxaas_cleanup_failed_reason": null,
    "usable_at": 1_743_095_100, "checked_at": 1_743_095_100, "next_check_at": null, "check_failures": 0,
    "unusable_seconds": 600, "check_error": null, "quarantined_by": null, "quarantined_at": null, "quarantine_reason": null, "quarantined_until": null,
    "quarantined_from": null
}))]
pub(crate) struct AdminSandboxBody {
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
    /// The idempotency key of the allocation.
    pub idempotency_key: Option<String>,
    /// The lab of the caller.
    pub track_name: Option<String>,
    /// When it was allocated; 0 if it never was.
    pub allocated_at: UnixSeconds,
    /// When the allocation ends.
    pub expires_at: Option<UnixSeconds>,
    /// The duration of the allocation, in hours.
    pub lab_duration_hours: u32,
    /// When it was released or expired.
    pub deletion_requested_at: Option<UnixSeconds>,
    /// The name of the principal or job that released or deleted it; `null` if that is not known.
    pub released_by: Option<String>,
    /// When its holder released it; `null` if the allocation has ended in any other way.
    pub released_at: Option<UnixSeconds>,
    /// The name prefix that the allocation was restricted to, by its request or its lab.
    pub name_prefix: Option<String>,
    /// How often the end of the allocation was moved to a later time.
    pub extensions: u32,
    /// When the end was last moved.
    pub extended_at: Option<UnixSeconds>,
    /// The sandbox that the holder had before, which this one replaced.
    pub replaces: Option<String>,
    /// The sandbox that the holder received in place of this one.
    pub replaced_by: Option<String>,
    /// Why it was replaced, in the words of the holder.
    pub replacement_reason: Option<String>,
    /// The number of failed attempts to delete it.
    pub deletion_retry_count: u32,
    /// When the next attempt is made, at the earliest.
    pub next_deletion_at: Option<UnixSeconds>,
    /// Why the last attempt failed.
    pub deletion_error: Option<String>,
    /// When CSP created the account.
    pub created_at: Option<UnixSeconds>,
    /// When a sync inserted it into the pool; `null` if that is not known.
    pub inserted_at: Option<UnixSeconds>,
    /// When it was last written.
    pub updated_at: Option<UnixSeconds>,
    /// When a sync last wrote it.
    pub last_synced: Option<UnixSeconds>,
    /// The Salesforce account, if CSP has one.
    pub sfdc_account_id: Option<String>,
    /// When its NIOSXaaS services were deleted.
    pub niosxaas_cleaned_at: Option<UnixSeconds>,
    /// Why its NIOSXaaS services were not deleted.
    pub niosxaas_cleanup_skipped: Option<String>,
    /// Why the deletion of its NIOSXaaS services failed.
    pub niosxaas_cleanup_failed_reason: Option<String>,
    /// When its account was first found usable.
    pub usable_at: Option<UnixSeconds>,
    /// The last check of its account that CSP answered.
    pub checked_at: Option<UnixSeconds>,
    /// The earliest time of the next check.
    pub next_check_at: Option<UnixSeconds>,
    /// The number of answers in a row that the account is broken.
    pub check_failures: u32,
    /// For how long the account has been observed as not usable yet, in seconds.
    pub unusable_seconds: u32,
    /// The last answer that the account is broken, or not usable yet.
    pub check_error: Option<String>,
    /// The operator that set it aside.
    pub quarantined_by: Option<String>,
    /// When the operator set it aside.
    pub quarantined_at: Option<UnixSeconds>,
    /// Why the operator set it aside.
    pub quarantine_reason: Option<String>,
    /// When its quarantine ends by itself; `null` if only an operator ends it.
    pub quarantined_until: Option<UnixSeconds>,
    /// The status that it left, and returns to: `allocated` if it had a holder, and so never returns; else `available`,
    /// or `stale` if CSP does not list it.
    pub quarantined_from: Option<Status>,
}

impl From<Sandbox> for AdminSandboxBody {
    fn from(sandbox: Sandbox) -> Self {
        let Sandbox {
            account,
            inserted_at,
            status,
            holder,
            allocated_at,
            expires_at,
            is_inherited: _,
            lab_duration_hours,
            deletion_requested_at,
            released_by,
            lease,
            readiness,
            quarantine,
            maintenance,
        } = sandbox;
        let (caller, key, lab) = holder.map_or((None, None, None), |holder| {
            (Some(holder.caller), Some(holder.key), holder.lab)
        });
        Self {
            sandbox_id: account.sandbox_id.to_string(),
            name: account.name,
            external_id: account.external_id,
            status,
            allocated_to_track: caller.map(|caller| caller.to_string()),
            idempotency_key: key.map(|key| key.to_string()),
            track_name: lab.map(|lab| lab.to_string()),
            allocated_at,
            expires_at,
            lab_duration_hours,
            deletion_requested_at,
            released_by,
            released_at: lease.released_at,
            name_prefix: lease.name_prefix,
            extensions: lease.extensions,
            extended_at: lease.extended_at,
            replaces: lease.replaces.map(|id| id.to_string()),
            replaced_by: lease.replaced_by.map(|id| id.to_string()),
            replacement_reason: lease.replacement_reason,
            deletion_retry_count: maintenance.deletion_retry_count,
            next_deletion_at: maintenance.next_deletion_at,
            deletion_error: maintenance.deletion_error,
            created_at: account.created_at,
            inserted_at,
            updated_at: maintenance.updated_at,
            last_synced: maintenance.last_synced,
            sfdc_account_id: account.sfdc_account_id,
            niosxaas_cleaned_at: maintenance.niosxaas_cleaned_at,
            niosxaas_cleanup_skipped: maintenance.niosxaas_cleanup_skipped,
            niosxaas_cleanup_failed_reason: maintenance.niosxaas_cleanup_failed_reason,
            usable_at: readiness.usable_at,
            checked_at: readiness.checked_at,
            next_check_at: readiness.next_check_at,
            check_failures: readiness.failures,
            unusable_seconds: readiness.unusable_sec,
            check_error: readiness.error,
            quarantined_by: quarantine.by,
            quarantined_at: quarantine.at,
            quarantine_reason: quarantine.reason,
            quarantined_until: quarantine.until,
            quarantined_from: quarantine.from,
        }
    }
}

/// An item of the pool that is no valid sandbox. Jobs leave it as it is; repair or remove it in the pool's table.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UnreadableItem, example = json!({
    "key": "SBX#2009521", "fault": "status: unknown status \"deleted\"",
    "attributes": { "PK": "SBX#2009521", "SK": "META", "sandbox_id": "2009521", "status": "deleted", "allocated_at": 0 }
}))]
pub(crate) struct UnreadableBody {
    /// Its partition key in the pool's table.
    pub key: String,
    /// Why it is unreadable.
    pub fault: String,
    /// Its attributes as stored.
    pub attributes: serde_json::Map<String, serde_json::Value>,
}

impl From<UnreadableItem> for UnreadableBody {
    fn from(item: UnreadableItem) -> Self {
        Self {
            key: item.key,
            fault: item.fault,
            attributes: item.attributes,
        }
    }
}

/// A page of sandboxes.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "sandboxes": [], "count": 0, "unreadable": [], "cursor": null }))]
pub(crate) struct AdminSandboxesBody {
    /// The sandboxes.
    pub sandboxes: Vec<AdminSandboxBody>,
    /// The number of sandboxes on this page.
    pub count: usize,
    /// The items on this page that are no valid sandboxes.
    pub unreadable: Vec<UnreadableBody>,
    /// The cursor of the next page; `null` on the last page. A page that is short, or empty, may have a next page.
    pub cursor: Option<String>,
}

/// The filter and the page of a listing.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only sandboxes with this status.
    #[param(required = false)]
    status: Option<Status>,
    /// The number of items on a page: 1 to 1000, 50 if absent.
    #[param(required = false, minimum = 1, maximum = 1000, example = 50)]
    limit: Option<usize>,
    /// The cursor of the previous page.
    #[param(required = false)]
    cursor: Option<String>,
    /// Only sandboxes with this text in their id, name, lab or caller, in upper or lower case.
    #[param(required = false, max_length = 256, example = "adventure")]
    q: Option<String>,
}

/// List sandboxes
///
/// Page by page: repeat the request with the `cursor` of the answer until it is `null`. With `status`, the oldest
/// allocation comes first; without it, the order is unspecified.
#[utoipa::path(
    get,
    path = "/admin/sandboxes",
    tag = "Admin",
    params(ListParams),
    responses((status = 200, description = "A page of sandboxes", body = AdminSandboxesBody), ListErrors),
    security(("viewer_token" = [])),
)]
async fn list_all(
    State(state): State<AppState>,
    _: Viewer,
    ApiQuery(ListParams {
        status,
        limit,
        cursor,
        q,
    }): ApiQuery<ListParams>,
) -> Result<Json<AdminSandboxesBody>, ApiError> {
    let limit = page_limit(limit)?;
    let text = q.map(|q| q.trim().to_lowercase()).filter(|q| !q.is_empty());
    if text.as_ref().is_some_and(|text| text.len() > MAX_SEARCH) {
        return Err(ApiError::new(
            ErrorCode::InvalidParameter,
            format!("q must have at most {MAX_SEARCH} bytes."),
        ));
    }
    let start = page_start(cursor, |cursor| Position::from_cursor(cursor, status))?;
    let listing = state.broker.list(status, limit, start, text).await?;
    let sandboxes: Vec<AdminSandboxBody> = listing.sandboxes.into_iter().map(Into::into).collect();
    Ok(Json(AdminSandboxesBody {
        count: sandboxes.len(),
        sandboxes,
        unreadable: listing.unreadable.into_iter().map(Into::into).collect(),
        cursor: listing.next.as_ref().map(Position::to_cursor),
    }))
}

/// Count the sandboxes
///
/// Exact for any size of the pool; the most recent changes may be missing. `unreadable` is as of the last sync.
#[utoipa::path(
    get,
    path = "/admin/stats",
    tag = "Admin",
    responses((status = 200, description = "The counts", body = StatsBody), StatsErrors),
    security(("viewer_token" = [])),
)]
async fn stats(State(state): State<AppState>, _: Viewer) -> Result<Json<StatsBody>, ApiError> {
    Ok(Json(state.broker.stats().await?.into()))
}
