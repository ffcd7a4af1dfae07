//! The error responses of the endpoints in the OpenAPI document.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::json;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, example::ExampleBuilder};

use super::header_docs::response_header;
use crate::http::error::ErrorCode;

/// The errors of every endpoint that requires a token.
const COMMON: [ErrorCode; 8] = [
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::PayloadTooLarge,
    ErrorCode::RateLimitExceeded,
    ErrorCode::InternalError,
    ErrorCode::Overloaded,
    ErrorCode::RequestTimeout,
    ErrorCode::SignInUnavailable,
];

/// Returns the OpenAPI responses for `codes` and for the errors of every endpoint: one response for each status, with
/// an example for each code.
#[must_use]
pub(super) fn responses(codes: &[ErrorCode]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status: BTreeMap<StatusCode, Vec<ErrorCode>> = BTreeMap::new();
    for code in COMMON.iter().chain(codes) {
        by_status.entry(code.status()).or_default().push(*code);
    }
    by_status
        .into_iter()
        .map(|(status, codes)| {
            let names: Vec<_> = codes
                .iter()
                .map(|code| format!("`{}`", code.as_str()))
                .collect();
            let examples = codes.iter().map(|code| {
                (
                    code.as_str(),
                    ExampleBuilder::new().value(Some(example(*code))),
                )
            });
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("ErrorBody")))
                .examples_from_iter(examples)
                .build();
            let mut response = ResponseBuilder::new()
                .description(names.join(", "))
                .content("application/json", content);
            if codes.iter().any(|code| code.retry_after().is_some()) {
                response = response.header(
                    "Retry-After",
                    response_header("Seconds to wait before a retry.", true),
                );
            }
            if codes.contains(&ErrorCode::Unauthorized) {
                response = response.header(
                    "WWW-Authenticate",
                    response_header("The scheme to use: `Bearer`.", false),
                );
            }
            (status.as_str().to_owned(), response.build().into())
        })
        .collect()
}

fn example(code: ErrorCode) -> serde_json::Value {
    let mut error = json!({
        "code": code.as_str(),
        "message": code.message(),
        "request_id": "5f0c7a52-3a0e-4a55-9d0e-8a7b6c5d4e3f",
    });
    if let Some(seconds) = code.retry_after() {
        error["retry_after"] = json!(seconds);
    }
    if code == ErrorCode::InvalidPolicy {
        let takes = "a whole number from 0 to 100000";
        error["faults"] = json!([{ "path": "lab[0].max_held", "got": "-1", "takes": takes }]);
    }
    json!({ "error": error, "detail": error })
}

/// A named set of error codes that `#[utoipa::path(responses(…))]` takes.
macro_rules! error_set {
    ($(#[$doc:meta])* $name:ident: $($code:ident),*) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::response::Response>> {
                $crate::http::api::error_responses::responses(&[$($crate::http::error::ErrorCode::$code),*])
            }
        }
    };
}
pub(super) use error_set;
