//! The one error shape of the API, and the only place that knows status codes.

use std::{error::Error as StdError, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::request_context::{self, Outcome};
use crate::{
    broker::BrokerError,
    csp::CspError,
    jobs::{JobError, runner::JobStartError},
    store::StoreError,
    telemetry::chain,
};

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ErrorCode {
    /// A required header is missing or empty.
    MissingHeader,
    /// A header's value cannot be used.
    InvalidHeader,
    /// A query parameter cannot be used.
    InvalidParameter,
    /// No valid bearer token.
    Unauthorized,
    /// A valid token of the wrong role.
    Forbidden,
    /// The sandbox belongs to another caller, or to nobody.
    NotSandboxOwner,
    /// The allocation and its grace period are over.
    AllocationExpired,
    /// There is no such sandbox.
    SandboxNotFound,
    /// There is no such route.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// No matching sandbox is available.
    NoSandboxesAvailable,
    /// A run of the job is under way already.
    JobRunning,
    /// There is no such run.
    RunNotFound,
    /// The cursor is not one of this listing.
    InvalidCursor,
    /// The body is too large.
    PayloadTooLarge,
    /// A defect of the broker.
    InternalError,
    /// CSP refuses what the broker asks.
    CspError,
    /// CSP does not answer, or limits the rate.
    CspUnavailable,
    /// There are sandboxes, but too many ask for them at once.
    PoolContended,
    /// The database does not answer.
    StoreUnavailable,
    /// The request took too long.
    RequestTimeout,
    /// Another run took over from this one.
    JobInterrupted,
    /// The caller, or its address, sends too many requests.
    RateLimitExceeded,
    /// Too many requests are under way.
    Overloaded,
}

impl ErrorCode {
    /// The HTTP status.
    #[must_use]
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::MissingHeader
            | Self::InvalidHeader
            | Self::InvalidParameter
            | Self::InvalidCursor => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::NotSandboxOwner | Self::AllocationExpired => {
                StatusCode::FORBIDDEN
            }
            Self::SandboxNotFound | Self::RunNotFound | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoSandboxesAvailable | Self::JobRunning => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::CspError => StatusCode::BAD_GATEWAY,
            Self::CspUnavailable
            | Self::PoolContended
            | Self::StoreUnavailable
            | Self::RequestTimeout
            | Self::Overloaded
            | Self::JobInterrupted => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The name on the wire.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MissingHeader => "MISSING_HEADER",
            Self::InvalidHeader => "INVALID_HEADER",
            Self::InvalidParameter => "INVALID_PARAMETER",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotSandboxOwner => "NOT_SANDBOX_OWNER",
            Self::AllocationExpired => "ALLOCATION_EXPIRED",
            Self::SandboxNotFound => "SANDBOX_NOT_FOUND",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::NoSandboxesAvailable => "NO_SANDBOXES_AVAILABLE",
            Self::JobRunning => "JOB_RUNNING",
            Self::RunNotFound => "RUN_NOT_FOUND",
            Self::InvalidCursor => "INVALID_CURSOR",
            Self::JobInterrupted => "JOB_INTERRUPTED",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::InternalError => "INTERNAL_ERROR",
            Self::CspError => "CSP_ERROR",
            Self::CspUnavailable => "CSP_UNAVAILABLE",
            Self::PoolContended => "POOL_CONTENDED",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            Self::Overloaded => "OVERLOADED",
        }
    }

    /// How long a client should wait before it tries again, in seconds; `None` if trying again does not help.
    #[must_use]
    pub(crate) const fn retry_after(self) -> Option<u64> {
        match self {
            Self::NoSandboxesAvailable | Self::JobRunning | Self::JobInterrupted => Some(30),
            Self::CspUnavailable => Some(60),
            Self::PoolContended
            | Self::RequestTimeout
            | Self::RateLimitExceeded
            | Self::Overloaded => Some(1),
            Self::StoreUnavailable => Some(5),
            _ => None,
        }
    }

    /// What an error with this code says when nothing more can be said.
    #[must_use]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::MissingHeader => {
                "The header X-Instruqt-Sandbox-ID (or X-Track-ID) is required and says who asks."
            }
            Self::InvalidHeader => {
                "The header X-Instruqt-Sandbox-ID has 300 characters; at most 256 are allowed."
            }
            Self::InvalidParameter => "The query cannot be read: force must be true or false.",
            Self::Unauthorized => {
                "The Authorization header is missing; send 'Authorization: Bearer <token>'."
            }
            Self::Forbidden => "The token is valid, but not for this endpoint.",
            Self::NotSandboxOwner => "The sandbox belongs to another caller, or to nobody.",
            Self::AllocationExpired => {
                "The allocation and its grace period are over; the sandbox will be deleted."
            }
            Self::SandboxNotFound => "There is no such sandbox.",
            Self::NotFound => "There is no such route; /v1/docs lists those there are.",
            Self::MethodNotAllowed => {
                "This route has no such method; /v1/docs lists those there are."
            }
            Self::NoSandboxesAvailable => "No matching sandbox is available; try again later.",
            Self::JobRunning => {
                "A run of the job is under way already; look at it, or try again later."
            }
            Self::RunNotFound => "There is no such run; /v1/admin/jobs lists the recent ones.",
            Self::InvalidCursor => {
                "The cursor is not one of this listing; begin again without one."
            }
            Self::JobInterrupted => {
                "Another run of the job has taken over; look at it, or try again later."
            }
            Self::PayloadTooLarge => {
                "The body is larger than 16384 bytes, or broke off; no endpoint needs one."
            }
            Self::InternalError => {
                "The broker failed; the log has the cause under this request_id."
            }
            Self::CspError => {
                "CSP refuses what the broker asks; the log has the cause under this request_id."
            }
            Self::CspUnavailable => "CSP does not answer as it should; try again later.",
            Self::PoolContended => {
                "Sandboxes are available, but too many callers ask for them; repeat the request."
            }
            Self::StoreUnavailable => "The database is unavailable; repeat the request.",
            Self::RequestTimeout => "The request was not done in time; repeat it.",
            Self::RateLimitExceeded => {
                "Too many requests; wait as long as Retry-After says, then repeat the request."
            }
            Self::Overloaded => "The broker has too much to do at once; repeat the request.",
        }
    }
}

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: ErrorCode,
    message: String,
    retry_after: Option<u64>,
    run_id: Option<String>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// The error itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong and what to do, for people.
    pub message: String,
    /// The id under which the log has this request.
    pub request_id: String,
    /// Seconds to wait before trying again; absent if trying again does not help. Also in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// With `JOB_RUNNING`: the run that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// The body of every error answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
    /// The same again: scripts written for the predecessor of this service read it here.
    pub detail: ErrorDetail,
}

impl ApiError {
    /// What went wrong.
    #[cfg(test)]
    pub(crate) const fn code(&self) -> ErrorCode {
        self.code
    }

    /// An error with a message of its own.
    #[must_use]
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: code.retry_after(),
            run_id: None,
            cause: None,
        }
    }

    /// The same error, but with another time to wait, in seconds.
    #[must_use]
    pub(crate) const fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
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
        Self::new(code, code.message())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable { .. }
            | StoreError::TableMissing { .. }
            | StoreError::Denied { .. } => ErrorCode::StoreUnavailable,
            // The other run does what this one did not.
            StoreError::Superseded => ErrorCode::JobInterrupted,
            StoreError::Unexpected { .. } => ErrorCode::InternalError,
        };
        Self::caused(code, error)
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::NoSandboxes => ErrorCode::NoSandboxesAvailable.into(),
            BrokerError::Contended => ErrorCode::PoolContended.into(),
            BrokerError::NotFound => ErrorCode::SandboxNotFound.into(),
            BrokerError::NotOwner => ErrorCode::NotSandboxOwner.into(),
            BrokerError::Expired { .. } => ErrorCode::AllocationExpired.into(),
            BrokerError::Store(error) => error.into(),
        }
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Store(error) => error.into(),
            JobError::Panicked => Self::caused(ErrorCode::InternalError, error),
            JobError::Csp(error) => error.into(),
        }
    }
}

impl From<CspError> for ApiError {
    fn from(error: CspError) -> Self {
        match error {
            CspError::RateLimited {
                retry_after: Some(pause),
            } => Self {
                retry_after: Some(pause.max(Duration::from_secs(1)).as_secs()),
                ..Self::caused(ErrorCode::CspUnavailable, error)
            },
            CspError::RateLimited { .. } | CspError::Unavailable { .. } => {
                Self::caused(ErrorCode::CspUnavailable, error)
            }
            CspError::Unauthorized { .. }
            | CspError::Rejected { .. }
            | CspError::InvalidId { .. } => Self::caused(ErrorCode::CspError, error),
        }
    }
}

impl From<JobStartError> for ApiError {
    fn from(fault: JobStartError) -> Self {
        match fault {
            JobStartError::Store(error) => error.into(),
            JobStartError::Running { job, run_id } => {
                let which = run_id.unwrap_or_else(|| "unknown".to_owned());
                let message = format!(
                    "A run of {job} is under way already: {which}. Look at it, or try again later."
                );
                Self {
                    run_id: Some(which),
                    ..Self::new(ErrorCode::JobRunning, message)
                }
            }
            JobStartError::NotDue { .. } => ErrorCode::JobRunning.into(),
            JobStartError::Panicked { .. } => Self::caused(ErrorCode::InternalError, fault),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self {
            code,
            message,
            retry_after,
            run_id,
            cause,
        } = self;
        let request_id = request_context::request_id();
        if let Some(cause) = cause {
            let cause: &(dyn StdError + 'static) = &*cause;
            tracing::error!(
                request_id,
                code = code.as_str(),
                cause = chain(cause),
                "request failed"
            );
        }
        let error = ErrorDetail {
            code,
            message,
            request_id,
            retry_after,
            run_id,
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
    fn the_name_of_a_code_is_the_same_in_answers_and_in_the_log() {
        use ErrorCode as E;
        for code in [
            E::MissingHeader,
            E::InvalidHeader,
            E::InvalidParameter,
            E::Unauthorized,
            E::Forbidden,
            E::NotSandboxOwner,
            E::AllocationExpired,
            E::SandboxNotFound,
            E::NotFound,
            E::MethodNotAllowed,
            E::NoSandboxesAvailable,
            E::PayloadTooLarge,
            E::InternalError,
            E::CspError,
            E::CspUnavailable,
            E::PoolContended,
            E::StoreUnavailable,
            E::RequestTimeout,
            E::JobRunning,
            E::RunNotFound,
            E::InvalidCursor,
            E::JobInterrupted,
            E::RateLimitExceeded,
            E::Overloaded,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn every_409_429_and_503_says_when_to_try_again() {
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
