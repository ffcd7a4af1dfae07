//! The timeline of one sandbox.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    admin::{AdminSandboxBody, UnreadableBody},
    audit::EventBody,
    error_responses::error_set,
    extract::{ApiQuery, SandboxPath, Viewer},
    paging::{page_limit, page_start},
};
use crate::{
    broker::SandboxTimeline,
    clock::UnixSeconds,
    domain::{Quarantine, SandboxId, Status},
    http::{AppState, error::ApiError},
    store::{EventPosition, Tombstone},
};

error_set! {
    /// The errors of reading the timeline of a sandbox.
    TimelineErrors: InvalidParameter, InvalidCursor, SandboxNotFound, StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_timeline))
}

/// The tombstone of a deleted sandbox that once had a holder, kept for 30 days. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Tombstone, example = json!({
    "sandbox_id": "2009521", "name": "lab-adventure-0087",
    "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f",
    "allocated_to_track": "play-7f3a91", "idempotency_key": "play-7f3a91", "track_name": "cloud-security-101",
    "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400, "lab_duration_hours": 4,
    "deletion_requested_at": 1_774_003_600, "released_by": "env-track", "released_at": 1_774_003_600, "name_prefix": "lab-", "extensions": 1,
    "extended_at": 1_774_001_800, "replaces": null, "replaced_by": null, "replacement_reason": null,
    "deletion_retry_count": 2,
    "quarantined_by": null, "quarantined_at": null, "quarantine_reason": null, "quarantined_until": null,
    "quarantined_from": null, "created_at": 1_743_094_427, "inserted_at": 1_743_094_500,
    "deleted_at": 1_774_003_720, "kept_until": 1_776_595_720
}))]
pub(crate) struct TombstoneBody {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// The name of the account; `null` if an earlier version deleted it.
    pub name: Option<String>,
    /// CSP's resource id of the account.
    pub external_id: String,
    /// The caller that held it last.
    pub allocated_to_track: Option<String>,
    /// The idempotency key of its last allocation.
    pub idempotency_key: Option<String>,
    /// The lab of its last allocation.
    pub track_name: Option<String>,
    /// When it was allocated last; 0 if it never was.
    pub allocated_at: UnixSeconds,
    /// When its last allocation ended or would have ended.
    pub expires_at: Option<UnixSeconds>,
    /// The duration of its last allocation, in hours.
    pub lab_duration_hours: u32,
    /// When it was released, expired, or deleted by an operator.
    pub deletion_requested_at: Option<UnixSeconds>,
    /// The name of the principal or job that released, expired or deleted it.
    pub released_by: Option<String>,
    /// When its holder released it; `null` if its last allocation ended in any other way.
    pub released_at: Option<UnixSeconds>,
    /// The name prefix that its last allocation was restricted to, by its request or its lab.
    pub name_prefix: Option<String>,
    /// How often the end of its last allocation was moved to a later time.
    pub extensions: u32,
    /// When the end was last moved.
    pub extended_at: Option<UnixSeconds>,
    /// The sandbox that its holder had before, which this one replaced.
    pub replaces: Option<String>,
    /// The sandbox that its holder received in place of this one.
    pub replaced_by: Option<String>,
    /// Why it was replaced, in the words of the holder.
    pub replacement_reason: Option<String>,
    /// The number of failed attempts to delete it.
    pub deletion_retry_count: u32,
    /// The principal that put it in quarantine, if it was deleted from there.
    pub quarantined_by: Option<String>,
    /// When it was put in quarantine.
    pub quarantined_at: Option<UnixSeconds>,
    /// Why it was put in quarantine.
    pub quarantine_reason: Option<String>,
    /// When the quarantine was to end.
    pub quarantined_until: Option<UnixSeconds>,
    /// The status that it had before.
    pub quarantined_from: Option<Status>,
    /// When CSP created the account.
    pub created_at: Option<UnixSeconds>,
    /// When a sync inserted it into the pool.
    pub inserted_at: Option<UnixSeconds>,
    /// When it was deleted.
    pub deleted_at: UnixSeconds,
    /// When the tombstone is removed.
    pub kept_until: UnixSeconds,
}

impl From<Tombstone> for TombstoneBody {
    fn from(tombstone: Tombstone) -> Self {
        let Quarantine {
            by,
            at,
            reason,
            until,
            from,
        } = tombstone.quarantine();
        let lease = tombstone.lease();
        let time = |seconds: Option<i64>| seconds.map(UnixSeconds);
        let id = |id: Option<SandboxId>| id.map(|id| id.to_string());
        Self {
            sandbox_id: tombstone.sandbox_id,
            name: tombstone.name,
            external_id: tombstone.external_id,
            allocated_to_track: tombstone.last_caller,
            idempotency_key: tombstone.last_key,
            track_name: tombstone.last_lab,
            allocated_at: UnixSeconds(tombstone.allocated_at),
            expires_at: time(tombstone.expires_at),
            lab_duration_hours: tombstone.lab_duration_hours,
            deletion_requested_at: time(tombstone.deletion_requested_at),
            released_by: tombstone.released_by,
            released_at: lease.released_at,
            name_prefix: lease.name_prefix,
            extensions: lease.extensions,
            extended_at: lease.extended_at,
            replaces: id(lease.replaces),
            replaced_by: id(lease.replaced_by),
            replacement_reason: lease.replacement_reason,
            deletion_retry_count: tombstone.deletion_retry_count,
            quarantined_by: by,
            quarantined_at: at,
            quarantine_reason: reason,
            quarantined_until: until,
            quarantined_from: from,
            created_at: time(tombstone.created_at),
            inserted_at: time(tombstone.inserted_at),
            deleted_at: UnixSeconds(tombstone.deleted_at),
            kept_until: UnixSeconds(tombstone.ttl),
        }
    }
}

/// The state and the events of a sandbox.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox": null, "unreadable": null, "tombstone": null, "events": [{
        "at": 1_774_000_000, "at_ms": 1_774_000_000_123_i64, "action": "sandbox.release", "actor": "anna",
        "role": "operator", "target": "sandbox/2009521", "outcome": "done", "reason": "The student left.",
        "before": { "status": "allocated" }, "after": { "status": "pending_deletion" },
        "request_id": "5f0c7a52-3a0e-4a55-9d0e-8a7b6c5d4e3f", "address": "203.0.113.5"
    }, {
        "at": 1_773_990_000, "at_ms": 1_773_990_000_000_i64, "action": "allocated", "actor": null, "role": null,
        "target": "sandbox/2009521", "outcome": "done", "reason": null, "before": null,
        "after": { "allocated_to_track": "play-7f3a91", "idempotency_key": "play-7f3a91",
            "track_name": "cloud-security-101" },
        "request_id": null, "address": null
    }], "cursor": null
}))]
pub(crate) struct TimelineBody {
    /// The sandbox; `null` if it is not in the pool, or its item is unreadable.
    pub sandbox: Option<AdminSandboxBody>,
    /// Its item, if that is no valid sandbox.
    pub unreadable: Option<UnreadableBody>,
    /// Its tombstone, after its deletion.
    pub tombstone: Option<TombstoneBody>,
    /// Its events, newest first: the recorded actions of operators, and events that are derived from the state of the
    /// sandbox. Of the latter, only the second is known, and only the last one of each kind.
    pub events: Vec<EventBody>,
    /// The cursor of the next page of events; `null` on the last page.
    pub cursor: Option<String>,
}

impl TimelineBody {
    fn new(timeline: SandboxTimeline, cursor: Option<String>) -> Self {
        let SandboxTimeline {
            stored,
            tombstone,
            events,
            next: _,
        } = timeline;
        let (sandbox, unreadable) = match stored {
            Some(Ok(sandbox)) => (Some(sandbox.into()), None),
            Some(Err(item)) => (None, Some(item.into())),
            None => (None, None),
        };
        Self {
            sandbox,
            unreadable,
            tombstone: tombstone.map(Into::into),
            events: events.into_iter().map(Into::into).collect(),
            cursor,
        }
    }
}

/// The page of a timeline.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TimelineParams {
    /// The number of recorded events on a page: 1 to 1000, 50 if absent. The derived events of the same time come with
    /// them.
    #[param(required = false, minimum = 1, maximum = 1000, example = 50)]
    limit: Option<usize>,
    /// The cursor of the previous page.
    #[param(required = false)]
    cursor: Option<String>,
}

/// Get the state and the events of a sandbox
///
/// Also after its deletion: its tombstone is kept for 30 days if it had a holder, and recorded events for 400 days.
#[utoipa::path(
    get,
    path = "/admin/sandboxes/{sandbox_id}",
    tag = "Admin",
    params(
        ("sandbox_id" = String, Path, description = "The id of the sandbox", example = "2009521"),
        TimelineParams,
    ),
    responses((status = 200, description = "The sandbox and its events", body = TimelineBody), TimelineErrors),
    security(("viewer_token" = [])),
)]
async fn get_timeline(
    State(state): State<AppState>,
    _: Viewer,
    SandboxPath(id): SandboxPath,
    ApiQuery(TimelineParams { limit, cursor }): ApiQuery<TimelineParams>,
) -> Result<Json<TimelineBody>, ApiError> {
    let limit = page_limit(limit)?;
    let start = page_start(cursor, |cursor| EventPosition::from_cursor(cursor, &id))?;
    let timeline = state.broker.timeline(&id, limit, start).await?;
    let cursor = timeline.next.as_ref().map(|next| next.to_cursor(&id));
    Ok(Json(TimelineBody::new(timeline, cursor)))
}
