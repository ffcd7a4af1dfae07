//! The policy: the version in force, older ones, and changes.

mod request;
mod response;

use axum::{Json, extract::State, http::Method};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::response::PolicyBody;
use self::{
    request::{Document, ExpectedVersion},
    response::{PolicyAnswer, PolicyFormat},
};
use super::{
    error_responses::error_set,
    extract::{Admin, ApiQuery, Viewer},
    paging::{non_empty, page_limit, page_start},
};
use crate::{
    clock::UnixSeconds,
    domain::{PolicyChange, PolicyDocument, PolicyVersion, Reason},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    store::HistoryPosition,
};

error_set! {
    /// The errors of reading the policy.
    ReadErrors: InvalidParameter, PolicyVersionNotFound, PolicyUnreadable, StoreUnavailable
}
error_set! {
    /// The errors of changing the policy.
    SetErrors: InvalidHeader, InvalidParameter, InvalidBody, InvalidPolicy, PolicyChanged, PolicyVersionRequired,
        PolicyUnreadable, StoreUnavailable
}
error_set! {
    /// The errors of checking a document.
    CheckErrors: InvalidBody, InvalidPolicy, PolicyUnreadable, StoreUnavailable
}
error_set! {
    /// The errors of listing the versions.
    HistoryErrors: InvalidParameter, InvalidCursor, StoreUnavailable
}

/// The operations whose body may be large: a policy document.
pub(super) const WITH_LARGE_BODY: [(Method, &str); 2] = [
    (Method::PUT, "/admin/policy"),
    (Method::POST, "/admin/policy/check"),
];

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(get_policy, set_policy))
        .routes(routes!(check_policy))
        .routes(routes!(list_policy_versions))
        .routes(routes!(compare_policy_versions))
}

/// The version of the policy to read.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct VersionParams {
    /// The number of the version; that in force if absent. The last 50 are retained. 0 is the empty document before the
    /// first one.
    #[param(
        required = false,
        minimum = 0,
        maximum = 4_294_967_295_u32,
        example = 3
    )]
    version: Option<u32>,
}

/// The reason of a change.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct SetParams {
    /// Why the policy is changed, for its history and the audit: 1 to 500 printable characters.
    #[param(required = false, max_length = 500, example = "exams need more time")]
    reason: Option<String>,
}

/// Two versions of the policy.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DifferenceParams {
    /// The number of the version before the changes; 0 for the empty document.
    #[param(minimum = 0, maximum = 4_294_967_295_u32, example = 2)]
    from: u32,
    /// The number of the version after the changes; 0 for the empty document.
    #[param(minimum = 0, maximum = 4_294_967_295_u32, example = 3)]
    to: u32,
}

/// The page of a listing.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PageParams {
    /// The number of versions on a page: 1 to 1000, 50 if absent.
    #[param(required = false, minimum = 1, maximum = 1000, example = 50)]
    limit: Option<usize>,
    /// The cursor of the previous page.
    #[param(required = false)]
    cursor: Option<String>,
}

/// A value that two versions do not have in common.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PolicyChange, example = json!({ "path": "lab[cloud-security-101].max_held", "before": 40, "after": 60 }))]
pub(crate) struct ChangeBody {
    /// The path of the value. Labs and pools are named by their ids and prefixes.
    pub path: String,
    /// The value before; `null` if there was none.
    pub before: Option<serde_json::Value>,
    /// The value after; `null` if there is none.
    pub after: Option<serde_json::Value>,
}

impl From<PolicyChange> for ChangeBody {
    fn from(change: PolicyChange) -> Self {
        let PolicyChange {
            path,
            before,
            after,
        } = change;
        Self {
            path,
            before,
            after,
        }
    }
}

/// The changes that a document would make.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "version": 3, "changes": [{ "path": "lab[cloud-security-101].max_held", "before": 40, "after": 60 }]
}))]
struct PolicyCheckBody {
    /// The number of the version in force, with which the document was compared.
    version: u32,
    /// The changes; empty if the document is equal to the one in force.
    changes: Vec<ChangeBody>,
}

/// The changes between two versions.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "from": 2, "to": 3, "changes": [{ "path": "lab[cloud-security-101].max_held", "before": 40, "after": 60 }]
}))]
struct PolicyDifferenceBody {
    /// The number of the version before the changes.
    from: u32,
    /// The number of the version after the changes.
    to: u32,
    /// The changes.
    changes: Vec<ChangeBody>,
}

/// A version of the policy, without its document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PolicyVersion, example = json!({
    "version": 3, "author": "anna", "at": 1_774_000_000, "reason": "exams need more time"
}))]
struct VersionBody {
    /// Its number.
    version: u32,
    /// The name of the principal that wrote it.
    author: String,
    /// When it was written, in Unix seconds.
    at: UnixSeconds,
    /// Why, in the words of its author.
    reason: Option<String>,
}

impl From<PolicyVersion> for VersionBody {
    fn from(version: PolicyVersion) -> Self {
        Self {
            version: version.number,
            author: version.author.to_string(),
            at: version.at,
            reason: version.reason.map(|reason| reason.as_str().to_owned()),
        }
    }
}

/// A page of the versions.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "versions": [{ "version": 3, "author": "anna", "at": 1_774_000_000, "reason": "exams need more time" }],
    "count": 1, "cursor": null
}))]
struct PolicyHistoryBody {
    /// The versions, newest first.
    versions: Vec<VersionBody>,
    /// The number of versions on this page.
    count: usize,
    /// The cursor of the next page; `null` on the last page. A page that is short, or empty, may have a next page.
    cursor: Option<String>,
}

/// Get the policy
///
/// The version in force, or an older one. As TOML with `Accept: application/toml`: the document alone. The header `ETag`
/// has the number of the version, for `If-Match` of a change. Before the first version the number is 0 and the document
/// is empty: the terms of the environment are in force.
#[utoipa::path(
    get,
    path = "/admin/policy",
    tag = "Admin",
    params(VersionParams, PolicyFormat),
    responses(PolicyAnswer, ReadErrors),
    security(("viewer_token" = [])),
)]
async fn get_policy(
    State(state): State<AppState>,
    _: Viewer,
    format: PolicyFormat,
    ApiQuery(VersionParams { version }): ApiQuery<VersionParams>,
) -> Result<PolicyAnswer, ApiError> {
    let policy = state.broker.policy().state(version).await?;
    Ok(PolicyAnswer { policy, format })
}

/// Change the policy
///
/// Puts a document in force as a new version, within five seconds on every broker and in every job. The document is
/// JSON, or TOML with `Content-Type: application/toml`, of at most 256 KiB. `If-Match` has the number of the version that
/// the document was made from; if another one is in force by now, nothing changes. A document that is equal to the one
/// in force makes no new version and succeeds with any `If-Match`, so a request whose answer was lost can be repeated. To
/// roll back, send the document of an older version.
#[utoipa::path(
    put,
    path = "/admin/policy",
    tag = "Admin",
    params(ExpectedVersion, SetParams, PolicyFormat),
    request_body(
        description = "The policy document",
        content(
            (PolicyDocument = "application/json"),
            (String = "application/toml", example = "[defaults]\nduration_minutes = 240\n"),
        ),
    ),
    responses(PolicyAnswer, SetErrors),
    security(("admin_token" = [])),
)]
async fn set_policy(
    State(state): State<AppState>,
    Admin(author): Admin,
    ExpectedVersion(expected): ExpectedVersion,
    format: PolicyFormat,
    ApiQuery(SetParams { reason }): ApiQuery<SetParams>,
    Document(document): Document,
) -> Result<PolicyAnswer, ApiError> {
    let reason = non_empty(reason).map(|reason| {
        Reason::parse(&reason).map_err(|fault| {
            ApiError::new(ErrorCode::InvalidParameter, format!("The reason {fault}."))
        })
    });
    let policy = state.broker.policy();
    let policy = policy.set(document, expected, reason.transpose()?, &author);
    let policy = policy.await?;
    Ok(PolicyAnswer { policy, format })
}

/// Check a policy document
///
/// Validates a document as a change of the policy does, and compares it with the version in force. Changes nothing.
#[utoipa::path(
    post,
    path = "/admin/policy/check",
    tag = "Admin",
    request_body(
        description = "The policy document",
        content(
            (PolicyDocument = "application/json"),
            (String = "application/toml", example = "[defaults]\nduration_minutes = 240\n"),
        ),
    ),
    responses((status = 200, description = "The changes", body = PolicyCheckBody), CheckErrors),
    security(("viewer_token" = [])),
)]
async fn check_policy(
    State(state): State<AppState>,
    _: Viewer,
    Document(document): Document,
) -> Result<Json<PolicyCheckBody>, ApiError> {
    let (version, changes) = state.broker.policy().check(&document).await?;
    Ok(Json(PolicyCheckBody {
        version,
        changes: changes.into_iter().map(Into::into).collect(),
    }))
}

/// List the versions of the policy
///
/// The last 50, newest first, without their documents.
#[utoipa::path(
    get,
    path = "/admin/policy/history",
    tag = "Admin",
    params(PageParams),
    responses((status = 200, description = "The versions", body = PolicyHistoryBody), HistoryErrors),
    security(("viewer_token" = [])),
)]
async fn list_policy_versions(
    State(state): State<AppState>,
    _: Viewer,
    ApiQuery(PageParams { limit, cursor }): ApiQuery<PageParams>,
) -> Result<Json<PolicyHistoryBody>, ApiError> {
    let limit = page_limit(limit)?;
    let start = page_start(cursor, HistoryPosition::from_cursor)?;
    let page = state.broker.policy().history(limit, start).await?;
    let versions: Vec<_> = page.versions.into_iter().map(VersionBody::from).collect();
    Ok(Json(PolicyHistoryBody {
        count: versions.len(),
        versions,
        cursor: page.next.map(HistoryPosition::to_cursor),
    }))
}

/// Compare two versions of the policy
///
/// Labs are matched by their ids, pools by their prefixes.
#[utoipa::path(
    get,
    path = "/admin/policy/difference",
    tag = "Admin",
    params(DifferenceParams),
    responses((status = 200, description = "The changes", body = PolicyDifferenceBody), ReadErrors),
    security(("viewer_token" = [])),
)]
async fn compare_policy_versions(
    State(state): State<AppState>,
    _: Viewer,
    ApiQuery(DifferenceParams { from, to }): ApiQuery<DifferenceParams>,
) -> Result<Json<PolicyDifferenceBody>, ApiError> {
    let changes = state.broker.policy().difference(from, to).await?;
    Ok(Json(PolicyDifferenceBody {
        from,
        to,
        changes: changes.into_iter().map(Into::into).collect(),
    }))
}
