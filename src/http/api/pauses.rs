//! Pauses: activities that operators stop for a while.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{ApiJson, Operator, Viewer},
};
use crate::{
    clock::UnixSeconds,
    domain::{Activity, Pause, Reason},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
};

error_set! {
    /// The errors of listing pauses.
    ListErrors: StoreUnavailable
}
error_set! {
    /// The errors of setting a pause.
    SetErrors: InvalidBody, NotFound, StoreUnavailable
}
error_set! {
    /// The errors of ending a pause.
    EndErrors: NotFound, StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_pauses))
        .routes(routes!(set_pause, end_pause))
}

/// A pause of an activity. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Pause, example = json!({
    "activity": "deletions", "reason": "CSP is being repaired", "author": "alice", "since": 1_774_000_000,
    "until": 1_774_014_400
}))]
pub(crate) struct PauseBody {
    /// The activity.
    pub activity: Activity,
    /// Why, in the words of its author.
    pub reason: String,
    /// The name of the principal that set the pause, or last changed it.
    pub author: String,
    /// Since when the activity has been paused.
    pub since: UnixSeconds,
    /// When the pause ends by itself; `null` if an operator has to end it.
    pub until: Option<UnixSeconds>,
}

impl From<Pause> for PauseBody {
    fn from(pause: Pause) -> Self {
        Self {
            activity: pause.activity,
            reason: pause.reason.as_str().to_owned(),
            author: pause.author.to_string(),
            since: pause.since,
            until: pause.until,
        }
    }
}

/// The pauses in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "pauses": [{
    "activity": "deletions", "reason": "CSP is being repaired", "author": "alice", "since": 1_774_000_000,
    "until": null
}] }))]
pub(crate) struct PausesBody {
    /// The pauses, at most one of each activity.
    pub pauses: Vec<PauseBody>,
}

/// The reason and the end of a pause.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "CSP is being repaired", "until": 1_774_014_400 }))]
struct PauseRequest {
    /// Why, for operators and, with allocations, for the setup scripts of labs: 1 to 500 printable characters.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    reason: Reason,
    /// When the pause ends by itself, in Unix seconds, at most a year ahead; without it an operator has to end it.
    #[serde(default)]
    until: Option<UnixSeconds>,
}

/// The activity in the path.
#[derive(Clone, Copy, Debug)]
struct ActivityPath(Activity);

impl<S: Send + Sync> FromRequestParts<S> for ActivityPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let activity = path.ok().and_then(|Path(name)| name.parse().ok());
        activity.map(Self).ok_or_else(|| {
            let names = Activity::ALL.map(Activity::as_str).join(", ");
            let message =
                format!("There is no such activity; one of these can be paused: {names}.");
            ApiError::new(ErrorCode::NotFound, message)
        })
    }
}

impl IntoParams for ActivityPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("activity")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("The activity."))
            .schema(Some(Activity::schema()))
            .build();
        vec![parameter]
    }
}

/// List the pauses in force
#[utoipa::path(
    get,
    path = "/admin/pauses",
    tag = "Admin",
    responses((status = 200, description = "The pauses", body = PausesBody), ListErrors),
    security(("viewer_token" = [])),
)]
async fn list_pauses(
    State(state): State<AppState>,
    _: Viewer,
) -> Result<Json<PausesBody>, ApiError> {
    let pauses = state.broker.pauses();
    // From the table, so that a pause that another broker has just set is shown.
    pauses.refresh().await?;
    let pauses = pauses.in_force().into_iter().map(Into::into).collect();
    Ok(Json(PausesBody { pauses }))
}

/// Pause an activity
///
/// In force on every broker and in every job within five seconds. Setting a pause again replaces its reason and its
/// end. Allocations: new ones are answered with `ALLOCATIONS_PAUSED`; retries of callers that hold a sandbox, and
/// everything else, go on. Deletions: the jobs cleanup, auto-delete-stale and bulk-delete. Sync and expiry: the jobs
/// sync and auto-expire. A run in progress stops after the current item; a run that is started during the pause does
/// nothing, forced or not. Both report `paused`. Refill: the job refill, whose creations stay open.
#[utoipa::path(
    put,
    path = "/admin/pauses/{activity}",
    tag = "Admin",
    params(ActivityPath),
    request_body = PauseRequest,
    responses((status = 200, description = "The pause", body = PauseBody), SetErrors),
    security(("operator_token" = [])),
)]
async fn set_pause(
    State(state): State<AppState>,
    Operator(author): Operator,
    ActivityPath(activity): ActivityPath,
    ApiJson(PauseRequest { reason, until }): ApiJson<PauseRequest>,
) -> Result<Json<PauseBody>, ApiError> {
    let pauses = state.broker.pauses();
    let pause = pauses.set(activity, reason, until, &author).await?;
    Ok(Json(pause.into()))
}

/// End the pause of an activity
///
/// Succeeds also if the activity is not paused.
#[utoipa::path(
    delete,
    path = "/admin/pauses/{activity}",
    tag = "Admin",
    params(ActivityPath),
    responses((status = 204, description = "The activity is not paused"), EndErrors),
    security(("operator_token" = [])),
)]
async fn end_pause(
    State(state): State<AppState>,
    Operator(author): Operator,
    ActivityPath(activity): ActivityPath,
) -> Result<StatusCode, ApiError> {
    state.broker.pauses().end(activity, &author).await?;
    Ok(StatusCode::NO_CONTENT)
}
