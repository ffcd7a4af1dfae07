//! `POST /allocate`.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{AllocateHeaders, read_body, read_json},
    minutes::{MINUTES, span},
};
use crate::{
    broker::{AllocateRequest, Allocation},
    clock::UnixSeconds,
    domain::Sandbox,
    http::{
        AppState,
        error::ApiError,
        request_context::{self, Outcome},
    },
};

error_set! {
    /// The errors of an allocation.
    AllocateErrors: MissingHeader, InvalidHeader, InvalidBody, LabNotAllowed, NoSandboxesAvailable, LabQuotaReached,
    AllocationsPaused, PoolContended, StoreUnavailable
}

/// The field without which a body is ignored: clients of the FastAPI service, which ignored every body, send any.
const DURATION_FIELD: &[u8] = b"duration_minutes";

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(allocate))
}

/// The terms that an allocation asks for.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "duration_minutes": 90 }))]
pub(super) struct TermsBody {
    /// The duration in minutes, 1 to 43200, which is 30 days. Above the maximum of the lab it is that maximum; without it,
    /// it is the duration of the lab.
    #[serde(default)]
    #[schema(required = false, minimum = 1, maximum = 43200)]
    duration_minutes: Option<u64>,
}

/// The duration that the body asks for. A body that does not contain [`DURATION_FIELD`] is ignored, any other one is read
/// strictly.
#[derive(Clone, Copy, Debug)]
struct WantedDuration(Option<Duration>);

impl WantedDuration {
    fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        let mut parts = body.windows(DURATION_FIELD.len());
        if !parts.any(|part| part == DURATION_FIELD) {
            return Ok(Self(None));
        }
        let (least, most) = (MINUTES.start(), MINUTES.end());
        let invalid = |fault: &str| {
            ApiError::invalid_body(format_args!(
                "{fault}; send {{\"duration_minutes\": 90}} with a whole number from {least} to {most}, or no body"
            ))
        };
        let TermsBody { duration_minutes } = read_json(body).map_err(|fault| invalid(&fault))?;
        let duration = duration_minutes.map(|minutes| {
            span(minutes).ok_or_else(|| invalid(&format!("duration_minutes is {minutes}")))
        });
        duration.transpose().map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for WantedDuration {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Self::of_body(&read_body(request, state).await?)
    }
}

/// A sandbox allocated to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "sandbox_id": "2009521", "name": "lab-adventure-0087",
    "external_id": "identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-2b3a4c5d6e7f",
    "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400, "sfdc_account_id": null
}))]
pub(crate) struct AllocationBody {
    /// The id of the sandbox.
    pub sandbox_id: String,
    /// The name of the account.
    pub name: String,
    /// CSP's resource id of the account.
    pub external_id: String,
    /// When it was allocated, in Unix seconds.
    pub allocated_at: UnixSeconds,
    /// When the allocation ends, in Unix seconds.
    pub expires_at: Option<UnixSeconds>,
    /// The Salesforce account, if CSP has one.
    pub sfdc_account_id: Option<String>,
}

impl From<Sandbox> for AllocationBody {
    fn from(sandbox: Sandbox) -> Self {
        Self {
            expires_at: sandbox.expires_at,
            sandbox_id: sandbox.account.sandbox_id.to_string(),
            name: sandbox.account.name,
            external_id: sandbox.account.external_id,
            allocated_at: sandbox.allocated_at,
            sfdc_account_id: sandbox.account.sfdc_account_id,
        }
    }
}

/// Allocate a sandbox
///
/// Allocates a sandbox to the caller, or returns the one that the caller already holds under the same key. A retry is
/// therefore safe, whether or not the first request succeeded. While an operator has paused allocations, or the lab holds
/// as many sandboxes as its quota permits, only such a retry gets a sandbox.
///
/// The duration is that of the body, which may be absent, or else that of the lab. A repeated request does not change it. A
/// body without the text `duration_minutes` is ignored, whatever it contains.
#[utoipa::path(
    post,
    path = "/allocate",
    tag = "Tracks",
    params(AllocateHeaders),
    request_body = Option<TermsBody>,
    responses(
        (status = 201, description = "Allocated by this request", body = AllocationBody),
        (status = 200, description = "Allocated by an earlier request with the same caller and key", body = AllocationBody),
        AllocateErrors,
    ),
    security(("track_token" = [])),
)]
async fn allocate(
    State(state): State<AppState>,
    AllocateHeaders(request): AllocateHeaders,
    WantedDuration(duration): WantedDuration,
) -> Result<Response, ApiError> {
    let request = AllocateRequest {
        duration,
        ..request
    };
    let allocation = state.broker.allocate(&request).await?;
    Ok(answer(allocation, "allocated"))
}

/// Returns the answer with a sandbox that the caller holds, and adds it to the log event of the request. `outcome` is that
/// of a request that has allocated the sandbox.
pub(super) fn answer(allocation: Allocation, outcome: &'static str) -> Response {
    let (status, outcome, sandbox) = match allocation {
        Allocation::New(sandbox) => (StatusCode::CREATED, outcome, sandbox),
        Allocation::Replayed(sandbox) => (StatusCode::OK, "replayed", sandbox),
    };
    request_context::note_sandbox(sandbox.id());
    if let (StatusCode::CREATED, Some(end)) = (status, sandbox.expires_at) {
        request_context::note_duration(sandbox.allocated_at, end);
    }
    let body = AllocationBody::from(sandbox);
    (status, Extension(Outcome(outcome)), Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{LONGEST_DURATION, SHORTEST_DURATION},
        http::error::ErrorCode,
    };

    fn wanted(body: &[u8]) -> Result<Option<Duration>, ApiError> {
        WantedDuration::of_body(body).map(|WantedDuration(duration)| duration)
    }

    #[test]
    fn longest_durations_are_accepted() {
        for (minutes, seconds) in [(1, 60), (90, 5400), (43_200, 30 * 86_400)] {
            let body = format!(r#"{{"duration_minutes": {minutes}}}"#);
            let duration = Duration::from_secs(seconds);
            assert_eq!(wanted(body.as_bytes()).unwrap(), Some(duration));
        }
        assert_eq!(wanted(br#"{"duration_minutes": null}"#).unwrap(), None);
    }

    proptest! {
        #[test]
        fn body_without_the_field_is_ignored(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let names_it = String::from_utf8_lossy(&body).contains("duration_minutes");
            prop_assert!(names_it || wanted(&body).unwrap().is_none());
        }

        #[test]
        fn body_with_the_field_is_in_range_or_refused(
            before in "[{\"a: 1,]{0,8}", between in "[\": ]{0,4}", value in "[-0-9.e\"ntrul]{0,6}", after in "[}, \"a]{0,4}"
        ) {
            let body = format!("{before}duration_minutes{between}{value}{after}");
            match wanted(body.as_bytes()) {
                Ok(Some(duration)) => {
                    prop_assert!((SHORTEST_DURATION..=LONGEST_DURATION).contains(&duration), "{body}");
                }
                Ok(None) => prop_assert!(body.contains("null"), "{body}"),
                Err(error) => prop_assert_eq!(error.code(), ErrorCode::InvalidBody),
            }
        }
    }
}
