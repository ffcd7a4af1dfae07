//! The policy in an answer, as JSON or TOML.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{
    IntoParams, IntoResponses, PartialSchema, ToSchema,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::{Parameter, ParameterIn},
    },
};

use crate::{
    broker::policy::PolicyState,
    clock::UnixSeconds,
    domain::PolicyDocument,
    http::{
        api::header_docs::{header_parameter, response_header},
        error::ApiError,
    },
};

/// The media type of TOML (RFC 9512).
pub(super) const TOML: &str = "application/toml";

/// Returns whether a media type, with or without parameters, is that of TOML.
pub(super) fn is_toml(media_type: &str) -> bool {
    let name = media_type.split(';').next().unwrap_or_default();
    name.trim().eq_ignore_ascii_case(TOML)
}

/// The format of an answer with the policy: TOML if `Accept` names it before JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyFormat {
    /// The document, its version, and who wrote it.
    Json,
    /// The document alone.
    Toml,
}

impl<S: Sync> FromRequestParts<S> for PolicyFormat {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(format_of(&parts.headers))
    }
}

fn format_of(headers: &HeaderMap) -> PolicyFormat {
    let mut accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    // A client that names neither receives JSON.
    match accepted.find(|media_type| is_toml(media_type) || is_json(media_type)) {
        Some(media_type) if is_toml(media_type) => PolicyFormat::Toml,
        _ => PolicyFormat::Json,
    }
}

fn is_json(media_type: &str) -> bool {
    let name = media_type.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/*", "*/*"].contains(&name)
}

impl IntoParams for PolicyFormat {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(
            "Accept",
            "With `application/toml` the answer is the document as TOML, and its version in `ETag`.",
            "application/json",
        )]
    }
}

/// A version of the policy with its document. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Policy, example = json!({
    "version": 3, "author": "anna", "at": 1_774_000_000, "reason": "exams need more time",
    "policy": {
        "defaults": { "duration_minutes": 240 },
        "lab": [{ "id": "cloud-security-101", "duration_minutes": 120, "max_duration_minutes": 300, "max_held": 60 }]
    }
}))]
pub(in crate::http) struct PolicyBody {
    /// The number of the version; 0 before the first one.
    pub version: u32,
    /// The name of the principal that wrote it; `null` before the first one.
    pub author: Option<String>,
    /// When it was written; `null` before the first one.
    pub at: Option<UnixSeconds>,
    /// Why, in the words of its author.
    pub reason: Option<String>,
    /// The document.
    pub policy: PolicyDocument,
}

impl From<PolicyState> for PolicyBody {
    fn from(state: PolicyState) -> Self {
        let number = state.number();
        let PolicyState { version, document } = state;
        Self {
            version: number,
            author: version.as_ref().map(|version| version.author.to_string()),
            at: version.as_ref().map(|version| version.at),
            reason: version
                .and_then(|version| version.reason)
                .map(|reason| reason.as_str().to_owned()),
            policy: document,
        }
    }
}

/// The answer with the policy.
#[derive(Clone, Debug)]
pub(super) struct PolicyAnswer {
    pub(super) policy: PolicyState,
    pub(super) format: PolicyFormat,
}

impl IntoResponse for PolicyAnswer {
    fn into_response(self) -> Response {
        let tag = format!("\"{}\"", self.policy.number());
        let mut response = match self.format {
            PolicyFormat::Json => Json(PolicyBody::from(self.policy)).into_response(),
            PolicyFormat::Toml => {
                let text = self.policy.document.to_toml();
                ([(header::CONTENT_TYPE, TOML)], text).into_response()
            }
        };
        let headers = response.headers_mut();
        // Digits in quotes, so this cannot fail.
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(header::ETAG, tag);
        }
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        response
    }
}

impl IntoResponses for PolicyAnswer {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let json = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Policy")))
            .build();
        let toml = ContentBuilder::new()
            .schema(Some(String::schema()))
            .example(Some("[defaults]\nduration_minutes = 240\n".into()))
            .build();
        let tag = "The number of the version, in quotes.";
        let response = ResponseBuilder::new()
            .description("The version of the policy")
            .content("application/json", json)
            .content(TOML, toml)
            .header("ETag", response_header(tag, false));
        BTreeMap::from([("200".to_owned(), response.build().into())])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn format(accept: &str) -> PolicyFormat {
        let value = HeaderValue::try_from(accept).unwrap();
        format_of(&HeaderMap::from_iter([(header::ACCEPT, value)]))
    }

    #[test]
    fn answer_is_toml_only_if_the_client_prefers_it_to_json() {
        for accept in ["application/toml", "text/html, Application/TOML; q=1, */*"] {
            assert_eq!(format(accept), PolicyFormat::Toml, "{accept}");
        }
        for accept in [
            "*/*",
            "application/json",
            "application/json, application/toml",
            "text/html",
            "application/toml+x",
            "",
        ] {
            assert_eq!(format(accept), PolicyFormat::Json, "{accept}");
        }
        assert_eq!(format_of(&HeaderMap::new()), PolicyFormat::Json);
    }

    proptest! {
        #[test]
        fn any_accept_header_is_read(value in crate::arbitrary::header_value()) {
            format_of(&HeaderMap::from_iter([(header::ACCEPT, value)]));
        }
    }
}
