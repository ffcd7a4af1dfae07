//! The codes of errors: name, HTTP status, time to wait before a retry, and default message of each.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// The kind of an error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ErrorCode {
    /// A required header is missing or empty.
    MissingHeader,
    /// The value of a header is invalid.
    InvalidHeader,
    /// A query parameter is invalid.
    InvalidParameter,
    /// The request has no valid bearer token.
    Unauthorized,
    /// The token is valid, but of the wrong role.
    Forbidden,
    /// The sandbox is held by another caller, or by none.
    NotSandboxOwner,
    /// The allocation and its grace period are over.
    AllocationExpired,
    /// There is no such sandbox.
    SandboxNotFound,
    /// There is no such route.
    NotFound,
    /// The route does not support the method.
    MethodNotAllowed,
    /// No matching sandbox is available.
    NoSandboxesAvailable,
    /// A run of the job is already in progress.
    JobRunning,
    /// There is no such run.
    RunNotFound,
    /// The cursor does not belong to this listing.
    InvalidCursor,
    /// The body is too large.
    PayloadTooLarge,
    /// A defect of the broker.
    InternalError,
    /// CSP rejected a call of the broker.
    CspError,
    /// CSP is unavailable, or limits the rate.
    CspUnavailable,
    /// Sandboxes are available, but the request has lost every attempt to others.
    PoolContended,
    /// The database is unavailable, or did not answer in time.
    StoreUnavailable,
    /// The client took too long to send the request.
    RequestTimeout,
    /// Another run has taken over from this one.
    JobInterrupted,
    /// The caller, or its address, sends too many requests.
    RateLimitExceeded,
    /// Too many requests are in progress.
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

    /// How long a client should wait before a retry, in seconds; `None` if a retry does not help.
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

    /// The message of an error with this code that has none of its own. Paths of the API begin with the placeholder of
    /// [`base_path`](crate::http::base_path).
    #[must_use]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::MissingHeader => {
                "The header X-Instruqt-Sandbox-ID (or X-Track-ID) is required; it identifies the caller."
            }
            Self::InvalidHeader => {
                "The header X-Instruqt-Sandbox-ID has 300 characters; at most 256 are allowed."
            }
            Self::InvalidParameter => "The query is invalid: force must be true or false.",
            Self::Unauthorized => {
                "The Authorization header is missing; send 'Authorization: Bearer <token>'."
            }
            Self::Forbidden => "The token is valid, but not for this endpoint.",
            Self::NotSandboxOwner => "The sandbox is held by another caller, or by none.",
            Self::AllocationExpired => {
                "The allocation and its grace period are over; the sandbox will be deleted."
            }
            Self::SandboxNotFound => "There is no such sandbox.",
            Self::NotFound => "There is no such route; {base_path}/docs lists all routes.",
            Self::MethodNotAllowed => {
                "The route does not support this method; {base_path}/docs lists all routes and their methods."
            }
            Self::NoSandboxesAvailable => "No matching sandbox is available; try again later.",
            Self::JobRunning => {
                "A run of the job is already in progress; follow that run, or try again later."
            }
            Self::RunNotFound => {
                "There is no such run; {base_path}/admin/jobs lists the recent ones."
            }
            Self::InvalidCursor => {
                "The cursor does not belong to this listing; start again without a cursor."
            }
            Self::JobInterrupted => {
                "Another run of the job has taken over; follow that run, or try again later."
            }
            Self::PayloadTooLarge => {
                "The body is larger than 16384 bytes, or incomplete; no endpoint needs a body."
            }
            Self::InternalError => {
                "The broker failed; the log has the cause under this request_id."
            }
            Self::CspError => {
                "CSP rejected a call of the broker; the log has the cause under this request_id."
            }
            Self::CspUnavailable => "CSP is unavailable, or limits the rate; try again later.",
            Self::PoolContended => {
                "Sandboxes are available, but too many requests compete for them; repeat the request."
            }
            Self::StoreUnavailable => {
                "The database is unavailable, or did not answer in time; repeat the request."
            }
            Self::RequestTimeout => {
                "The body of the request did not arrive within 10 s; repeat the request."
            }
            Self::RateLimitExceeded => {
                "Too many requests; wait as long as Retry-After says, then repeat the request."
            }
            Self::Overloaded => "Too many requests are in progress; repeat the request.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_the_same_name_in_answers_and_in_the_log() {
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
}
