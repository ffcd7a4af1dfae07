//! The answer to a request that starts a job: the report of the run, or `202 Accepted` before the run has ended.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{
    IntoParams, IntoResponses, ToSchema,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::{Parameter, ParameterIn},
    },
};

use super::header_docs::{header_parameter, response_header};
use crate::{
    domain::{Author, RunState},
    http::{
        AppState,
        error::ApiError,
        headers::{PREFER, PREFERENCE_APPLIED},
    },
    jobs::run::{Job, Start},
};

/// A run that continues after the answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "run_id": "cleanup-01774000000-1f0c7a52", "state": "running" }))]
pub(crate) struct AcceptedBody {
    /// The id of the run; its path is in the header `Location`.
    pub run_id: String,
    /// `running`.
    pub state: RunState,
}

impl IntoResponses for AcceptedBody {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("AcceptedBody")))
            .build();
        let response = ResponseBuilder::new()
            .description("The run continues after the answer")
            .content("application/json", content)
            .header("Location", response_header("The path of the run.", false))
            .header(
                "Preference-Applied",
                response_header("`respond-async`.", false),
            );
        BTreeMap::from([("202".to_owned(), response.build().into())])
    }
}

/// Whether the client wants an answer before the run has ended (`Prefer: respond-async`, RFC 7240).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefer {
    asynchronous: bool,
}

impl<S: Sync> FromRequestParts<S> for Prefer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self {
            asynchronous: prefers_async(&parts.headers),
        })
    }
}

fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

impl IntoParams for Prefer {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(
            "Prefer",
            "With `respond-async` the answer is 202 when the run has started, and `Location` has the path of the run.",
            "respond-async",
        )]
    }
}

/// Starts a run of `job` for `author`, and answers with its report, or with [`AcceptedBody`] if the client prefers that.
/// `parameters` are those of the query, for the audit.
pub(super) async fn run<J: Job>(
    state: &AppState,
    author: Author,
    parameters: impl Serialize,
    prefer: Prefer,
    job: J,
) -> Result<Response, ApiError> {
    let parameters = match serde_json::to_value(parameters) {
        Ok(Value::Object(parameters)) => parameters,
        // Parameters are structures of numbers and texts, so this cannot happen.
        _ => Map::new(),
    };
    let start = Start { author, parameters };
    let started = state.runner.start_audited(job, start).await?;
    if !prefer.asynchronous {
        return Ok(Json(started.finish().await?).into_response());
    }
    let location = format!("{}/admin/jobs/{}", state.base_path, started.id);
    let body = AcceptedBody {
        run_id: started.id.to_string(),
        state: RunState::Running,
    };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    // A run id consists of letters, digits and hyphens, so this cannot fail.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(
        PREFERENCE_APPLIED,
        HeaderValue::from_static("respond-async"),
    );
    Ok(response)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn preference_is_found_among_others() {
        let prefers = |value: &'static str| {
            prefers_async(&HeaderMap::from_iter([(
                PREFER,
                HeaderValue::from_static(value),
            )]))
        };
        assert!(prefers("respond-async"));
        assert!(prefers("wait=10, Respond-Async; foo=bar"));
        assert!(!prefers("return=minimal"));
        assert!(!prefers("respond-asynchronously"));
    }

    proptest! {
        #[test]
        fn any_preference_is_read(value in crate::arbitrary::header_value()) {
            let name = PREFER;
            let mut headers = HeaderMap::from_iter([(name.clone(), value)]);
            prefers_async(&headers);
            headers.append(name, HeaderValue::from_static("respond-async"));
            prop_assert!(prefers_async(&headers));
        }
    }
}
