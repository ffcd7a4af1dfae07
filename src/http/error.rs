//! The one error shape of the API, and the only place that knows HTTP status codes.

mod code;
mod conversions;

use std::{error::Error as StdError, fmt::Display};

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::code::ErrorCode;
use super::request_context::{self, Outcome};
use crate::telemetry::chain;

/// An error that a client receives.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: ErrorCode,
    message: String,
    retry_after: Option<u64>,
    run_id: Option<String>,
    faults: Vec<FaultBody>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// A value of a policy document that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PolicyFault)]
pub(crate) struct FaultBody {
    /// The path of the value, such as `lab[2].max_held`, or its line and column in a document that cannot be read.
    pub path: String,
    /// The value, shortened.
    pub got: String,
    /// The values that are possible.
    pub takes: String,
}

/// The details of an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// The code of the error, for programs.
    pub code: ErrorCode,
    /// A description of the error and of its remedy, for human readers.
    pub message: String,
    /// The id of this request in the log.
    pub request_id: String,
    /// Seconds to wait before a retry; absent if a retry does not help. Also in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// With `JOB_RUNNING`: the run in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// With `INVALID_POLICY`: the faults of the document, up to 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub faults: Vec<FaultBody>,
}

/// The body of every error answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
    /// The same as `error`, for scripts written for the predecessor of this service.
    pub detail: ErrorDetail,
}

impl ApiError {
    /// The kind of the error.
    #[cfg(test)]
    pub(crate) const fn code(&self) -> ErrorCode {
        self.code
    }

    /// Creates an error with a message of its own.
    #[must_use]
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: code.retry_after(),
            run_id: None,
            faults: Vec::new(),
            cause: None,
        }
    }

    /// Creates the error for a body that is not valid. `fault` is a clause without a full stop.
    #[must_use]
    pub(crate) fn invalid_body(fault: impl Display) -> Self {
        Self::new(
            ErrorCode::InvalidBody,
            format!("The body is invalid: {fault}."),
        )
    }

    /// Replaces the time to wait before a retry, in seconds.
    #[must_use]
    pub(crate) const fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds a sentence to the message.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Display) -> Self {
        self.message = format!("{} {hint}", self.message);
        self
    }

    /// Logs the cause, and returns the code and the message, for an answer that has several results.
    #[must_use]
    pub(crate) fn into_result(self) -> (ErrorCode, String) {
        self.log_cause();
        (self.code, self.message)
    }

    fn log_cause(&self) {
        if let Some(cause) = &self.cause {
            let cause: &(dyn StdError + 'static) = &**cause;
            tracing::error!(
                request_id = request_context::request_id(),
                code = self.code.as_str(),
                cause = chain(cause),
                "request failed"
            );
        }
    }

    fn caused(code: ErrorCode, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self {
            cause: Some(Box::new(cause)),
            ..Self::from(code)
        }
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, request_context::fill_base_path(code.message()))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log_cause();
        let Self {
            code,
            message,
            retry_after,
            run_id,
            faults,
            cause: _,
        } = self;
        let request_id = request_context::request_id();
        let error = ErrorDetail {
            code,
            message,
            request_id,
            retry_after,
            run_id,
            faults,
        };
        let body = ErrorBody {
            error: error.clone(),
            detail: error,
        };
        let mut response = (code.status(), Json(body)).into_response();
        response.extensions_mut().insert(Outcome(code.as_str()));
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        if code == ErrorCode::Unauthorized {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_with_409_429_or_503_has_a_time_to_wait() {
        for code in [
            ErrorCode::NoSandboxesAvailable,
            ErrorCode::PoolContended,
            ErrorCode::StoreUnavailable,
            ErrorCode::RateLimitExceeded,
            ErrorCode::Overloaded,
        ] {
            let response = ApiError::from(code).into_response();
            assert!(
                response.headers().contains_key(header::RETRY_AFTER),
                "{code:?}"
            );
        }
    }
}
