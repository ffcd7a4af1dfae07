//! The listing of audit records.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{ApiQuery, Viewer},
    paging::{non_empty, page_limit, page_start},
};
use crate::{
    clock::UnixSeconds,
    domain::{Event, EventFilter},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    store::AuditPosition,
};

error_set! {
    /// The errors of reading the audit.
    AuditErrors: InvalidParameter, InvalidCursor, StoreUnavailable
}

/// The longest text that a filter compares with, in bytes.
const MAX_PATTERN: usize = 512;
/// The last second of the year 9999.
const MAX_TIME: i64 = 253_402_300_799;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_audit))
}

/// A record of one action, or an event in the life of a sandbox. All texts are plain text; reasons are the words of
/// people.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = AuditRecord, example = json!({
    "at": 1_774_000_000, "at_ms": 1_774_000_000_123_i64, "action": "sandbox.release", "actor": "anna",
    "role": "operator", "target": "sandbox/2009521", "outcome": "done", "reason": "The student left.",
    "before": { "status": "allocated" }, "after": { "status": "pending_deletion" },
    "request_id": "5f0c7a52-3a0e-4a55-9d0e-8a7b6c5d4e3f", "address": "203.0.113.5"
}))]
pub(crate) struct EventBody {
    /// The time, in Unix seconds.
    pub at: UnixSeconds,
    /// The time, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The action, such as `sandbox.release`, or the event, such as `allocated`.
    pub action: String,
    /// The name of the principal or job that did it; `null` if it is not known.
    pub actor: Option<String>,
    /// The role in which the actor acted; `null` for a job.
    pub role: Option<String>,
    /// The object of the action: `sandbox/`, `job/`, `pause/`, `token/` or `route/`, and its name.
    pub target: String,
    /// `done`, or the code of the error with which it was refused.
    pub outcome: String,
    /// Why, in the words of the actor.
    pub reason: Option<String>,
    /// The state of the target before.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// The state of the target after.
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// The id of the request in the log, or of the run; `null` for events that are derived from the state of a sandbox.
    pub request_id: Option<String>,
    /// The address that the request came from.
    pub address: Option<String>,
}

impl From<Event> for EventBody {
    fn from(event: Event) -> Self {
        let Event {
            at_ms,
            action,
            actor,
            role,
            target,
            outcome,
            reason,
            before,
            after,
            request_id,
            address,
        } = event;
        Self {
            at: UnixSeconds(at_ms.div_euclid(1000)),
            at_ms,
            action,
            actor,
            role,
            target,
            outcome,
            reason,
            before,
            after,
            request_id,
            address,
        }
    }
}

/// A page of the audit.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "records": [{
    "at": 1_774_000_000, "at_ms": 1_774_000_000_123_i64, "action": "job.start", "actor": "anna", "role": "operator",
    "target": "job/sync", "outcome": "done", "reason": null, "before": null,
    "after": { "run_id": "sync-01774000000-1f0c7a52", "force": false },
    "request_id": "5f0c7a52-3a0e-4a55-9d0e-8a7b6c5d4e3f", "address": "203.0.113.5"
}], "count": 1, "cursor": null }))]
pub(crate) struct AuditBody {
    /// The records, newest first.
    pub records: Vec<EventBody>,
    /// The number of records on this page.
    pub count: usize,
    /// The cursor of the next page; `null` on the last page. A page that is short, or empty, may have a next page.
    pub cursor: Option<String>,
}

/// The filter and the page of the audit. A text matches as a whole, or with a `*` at its end as a beginning.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AuditParams {
    /// Only records from this time on, in Unix seconds.
    #[param(
        required = false,
        minimum = 0,
        maximum = 253_402_300_799_i64,
        example = 1_773_900_000
    )]
    from: Option<i64>,
    /// Only records up to the end of this second, in Unix seconds.
    #[param(
        required = false,
        minimum = 0,
        maximum = 253_402_300_799_i64,
        example = 1_774_000_000
    )]
    to: Option<i64>,
    /// Only records of this actor.
    #[param(required = false, max_length = 512, example = "anna")]
    actor: Option<String>,
    /// Only records of this action, such as `sandbox.release` or `sandbox.*`.
    #[param(required = false, max_length = 512, example = "sandbox.*")]
    action: Option<String>,
    /// Only records of this target, such as `sandbox/2009521` or `sandbox/*`.
    #[param(required = false, max_length = 512, example = "sandbox/2009521")]
    target: Option<String>,
    /// Only records with this outcome: `done`, or the code of an error.
    #[param(required = false, max_length = 512, example = "done")]
    outcome: Option<String>,
    /// The number of records on a page: 1 to 1000, 50 if absent.
    #[param(required = false, minimum = 1, maximum = 1000, example = 50)]
    limit: Option<usize>,
    /// The cursor of the previous page.
    #[param(required = false)]
    cursor: Option<String>,
}

/// List audit records
///
/// Actions of operators and refused requests, newest first, up to 400 days ago. Page by page: repeat the request with
/// the `cursor` of the answer until it is `null`. Each request reads a bounded number of records, so a page of a filter
/// that matches few may be empty and still have a cursor.
#[utoipa::path(
    get,
    path = "/admin/audit",
    tag = "Admin",
    params(AuditParams),
    responses((status = 200, description = "A page of the audit", body = AuditBody), AuditErrors),
    security(("viewer_token" = [])),
)]
async fn list_audit(
    State(state): State<AppState>,
    _: Viewer,
    ApiQuery(params): ApiQuery<AuditParams>,
) -> Result<Json<AuditBody>, ApiError> {
    let (from, to) = (time("from", params.from)?, time("to", params.to)?);
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(invalid("from must not be after to."));
    }
    let filter = EventFilter {
        actor: pattern("actor", params.actor)?,
        action: pattern("action", params.action)?,
        target: pattern("target", params.target)?,
        outcome: pattern("outcome", params.outcome)?,
    };
    let limit = page_limit(params.limit)?;
    let start = page_start(params.cursor, AuditPosition::from_cursor)?;
    let page = state.broker.audit(from, to, &filter, limit, start).await?;
    let records: Vec<EventBody> = page.events.into_iter().map(Into::into).collect();
    Ok(Json(AuditBody {
        count: records.len(),
        records,
        cursor: page.next.as_ref().map(AuditPosition::to_cursor),
    }))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameter, message)
}

/// Checks a time.
fn time(name: &str, seconds: Option<i64>) -> Result<Option<UnixSeconds>, ApiError> {
    match seconds {
        Some(seconds) if !(0..=MAX_TIME).contains(&seconds) => Err(invalid(format!(
            "{name} must be a time in Unix seconds, from 0 to {MAX_TIME}."
        ))),
        seconds => Ok(seconds.map(UnixSeconds)),
    }
}

/// Checks a text that a filter compares with. An empty one counts as absent.
fn pattern(name: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    let text = non_empty(text);
    if text.as_ref().is_some_and(|text| text.len() > MAX_PATTERN) {
        return Err(invalid(format!(
            "{name} must have at most {MAX_PATTERN} bytes."
        )));
    }
    Ok(text)
}
