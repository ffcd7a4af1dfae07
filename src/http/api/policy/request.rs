//! The parts of a request that changes the policy: the document, and the version that it was made from.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use serde_json::Value;
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::response;
use crate::{
    domain::PolicyDocument,
    http::{
        api::{extract::single, header_docs::header_parameter},
        error::{ApiError, ErrorCode},
    },
};

/// The policy document in the body: TOML with `Content-Type: application/toml`, JSON with any other.
#[derive(Clone, Debug)]
pub(super) struct Document(pub PolicyDocument);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_toml = is_toml(request.headers());
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| ApiError::invalid_body(rejection.body_text()))?;
        if body.is_empty() {
            let fault = "it is empty; send a policy document, or {} for one that states nothing";
            return Err(ApiError::invalid_body(fault));
        }
        let text = str::from_utf8(&body).map_err(ApiError::invalid_body)?;
        let value = if is_toml {
            PolicyDocument::from_toml(text)?
        } else {
            read_json(text)?
        };
        Ok(Self(PolicyDocument::parse(&value)?))
    }
}

/// Reads JSON. TOML without its media type is an error of the request, not a fault in the document.
fn read_json(text: &str) -> Result<Value, ApiError> {
    PolicyDocument::from_json(text).map_err(|faults| {
        if PolicyDocument::from_toml(text).is_ok() {
            ApiError::invalid_body("it is TOML; send it with Content-Type: application/toml")
        } else {
            ApiError::from(faults)
        }
    })
}

fn is_toml(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    media_type.is_some_and(response::is_toml)
}

/// The number of the version that a change was made from: the header `If-Match`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedVersion(pub u32);

impl<S: Sync> FromRequestParts<S> for ExpectedVersion {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let value = single(&parts.headers, header::IF_MATCH.as_str())?;
        let value = value.filter(|value| !value.is_empty());
        let value = value.ok_or(ErrorCode::PolicyVersionRequired)?;
        parse_version(value).map(Self).ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidHeader,
                "The header If-Match takes the number of one version of the policy, such as \"3\"; 0 before the first \
                 one.",
            )
        })
    }
}

/// Parses the number of a version, with or without the quotes of an entity tag.
fn parse_version(value: &[u8]) -> Option<u32> {
    let text = str::from_utf8(value).ok()?;
    let tag = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let digits = tag.unwrap_or(text);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

impl IntoParams for ExpectedVersion {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(
            "If-Match",
            "The number of the version that the document was made from, as in `ETag`; 0 before the first one. Required.",
            "\"3\"",
        )]
    }
}
