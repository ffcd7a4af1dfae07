//! Errors of calls, and which of them are transient.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use thiserror::Error;

use super::SettingsError;

/// The error of a call.
#[derive(Debug, Error)]
pub enum ClientError {
    /// An argument is invalid, or this machine cannot send the call; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// A setting is missing or invalid; nothing was sent.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The broker answered with an error.
    #[error("{message} [{code}, request {request_id}]")]
    Rejected {
        /// The HTTP status code.
        status: StatusCode,
        /// The code of the error.
        code: String,
        /// The description of the error and of its remedy.
        message: String,
        /// The id of the request in the broker's log.
        request_id: String,
        /// How long to wait before a retry, if the broker asks for a wait.
        retry_after: Option<Duration>,
        /// The whole error object of the answer, with further fields such as `faults` and `run_id`.
        detail: Value,
    },
    /// There is no answer, or a truncated one.
    #[error("no answer of {url}: {cause}")]
    Unreachable {
        /// The URL.
        url: String,
        /// The cause.
        cause: String,
        /// Whether the broker may have received the call.
        was_sent: bool,
    },
    /// A server that is not the broker, such as a load balancer, answered with a transient error.
    #[error("{url} answers with HTTP {status} and no message of the broker")]
    Unavailable {
        /// The URL.
        url: String,
        /// The HTTP status code.
        status: StatusCode,
        /// How long to wait before a retry.
        retry_after: Option<Duration>,
    },
    /// The answer is not one of a broker.
    #[error("{url} is not a broker: {reason}")]
    NotABroker {
        /// The URL.
        url: String,
        /// How the answer shows it.
        reason: String,
    },
}

impl ClientError {
    /// Returns whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rejected {
                status,
                retry_after,
                ..
            } => is_transient_status(*status) || retry_after.is_some(),
            Self::Unreachable { .. } | Self::Unavailable { .. } => true,
            Self::Usage(_) | Self::Settings(_) | Self::NotABroker { .. } => false,
        }
    }

    /// Returns whether a call is repeated after this error, if it waits for the end of the errors with the codes `awaited`.
    pub(super) fn is_retried(&self, awaited: &[&str]) -> bool {
        match self {
            Self::Rejected { status, code, .. } => {
                is_transient_status(*status) && code != "ALLOCATIONS_PAUSED"
                    || awaited.contains(&code.as_str())
            }
            _ => self.is_transient(),
        }
    }

    /// Returns whether the broker may have executed the call although no answer confirms it.
    #[must_use]
    pub fn leaves_outcome_open(&self) -> bool {
        match self {
            Self::Rejected { status, .. } | Self::Unavailable { status, .. } => {
                status.is_server_error() || *status == StatusCode::REQUEST_TIMEOUT
            }
            Self::Unreachable { was_sent, .. } => *was_sent,
            Self::NotABroker { .. } | Self::Usage(_) | Self::Settings(_) => false,
        }
    }

    /// Returns how long the broker asks to wait before a retry.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Returns the code of the broker's error.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Rejected { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Returns the exit code of a command that ends with this error: 2 for invalid arguments and settings, 3 if the broker
    /// refused the token or its role, 4 if there is no such thing, 75 if the error is transient, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Settings(_) => 2,
            Self::Rejected { status, .. }
                if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(status) =>
            {
                3
            }
            Self::Rejected {
                status: StatusCode::NOT_FOUND,
                ..
            } => 4,
            _ if self.is_transient() => 75,
            _ => 1,
        }
    }
}

/// Returns whether a status code stands for a transient error.
pub(super) fn is_transient_status(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    ) || status.is_server_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(status: u16, code: &str, retry_after: Option<u64>) -> ClientError {
        ClientError::Rejected {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.to_owned(),
            message: "No.".to_owned(),
            request_id: "r-1".to_owned(),
            retry_after: retry_after.map(Duration::from_secs),
            detail: Value::Null,
        }
    }

    fn unreachable(was_sent: bool) -> ClientError {
        ClientError::Unreachable {
            url: "http://localhost".to_owned(),
            cause: "refused".to_owned(),
            was_sent,
        }
    }

    fn unavailable(status: StatusCode) -> ClientError {
        ClientError::Unavailable {
            url: "http://localhost".to_owned(),
            status,
            retry_after: None,
        }
    }

    #[test]
    fn exit_code_names_the_kind_of_error() {
        let not_a_broker = ClientError::NotABroker {
            url: "http://localhost".to_owned(),
            reason: "it is a web page".to_owned(),
        };
        for (error, code) in [
            (rejected(400, "INVALID_BODY", None), 1),
            (rejected(401, "UNAUTHORIZED", None), 3),
            (rejected(403, "FORBIDDEN", None), 3),
            (rejected(404, "SANDBOX_NOT_FOUND", None), 4),
            (rejected(409, "EXTENSION_LIMIT_REACHED", None), 1),
            (rejected(409, "NO_SANDBOXES_AVAILABLE", Some(30)), 75),
            (rejected(429, "RATE_LIMIT_EXCEEDED", Some(1)), 75),
            (rejected(500, "INTERNAL_ERROR", None), 75),
            (rejected(503, "ALLOCATIONS_PAUSED", Some(30)), 75),
            (unreachable(true), 75),
            (unavailable(StatusCode::BAD_GATEWAY), 75),
            (not_a_broker, 1),
            (ClientError::Usage("no".to_owned()), 2),
        ] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }

    #[test]
    fn refusal_that_ends_by_itself_is_retried_only_by_calls_that_await_its_end() {
        for (error, by_any_call, by_awaiting_call) in [
            (
                rejected(409, "NO_SANDBOXES_AVAILABLE", Some(30)),
                false,
                true,
            ),
            (rejected(503, "ALLOCATIONS_PAUSED", Some(30)), false, true),
            (rejected(503, "OVERLOADED", Some(1)), true, true),
            (rejected(404, "SANDBOX_NOT_FOUND", None), false, false),
            (unreachable(false), true, true),
        ] {
            let awaited = ["NO_SANDBOXES_AVAILABLE", "ALLOCATIONS_PAUSED"];
            assert_eq!(error.is_retried(&[]), by_any_call, "{error}");
            assert_eq!(error.is_retried(&awaited), by_awaiting_call, "{error}");
        }
    }

    #[test]
    fn outcome_is_open_where_the_broker_may_have_acted() {
        for (error, is_open) in [
            (unreachable(true), true),
            (unreachable(false), false),
            (unavailable(StatusCode::GATEWAY_TIMEOUT), true),
            (unavailable(StatusCode::TOO_MANY_REQUESTS), false),
            (rejected(500, "INTERNAL_ERROR", None), true),
            (rejected(409, "NO_SANDBOXES_AVAILABLE", Some(30)), false),
            (rejected(401, "UNAUTHORIZED", None), false),
        ] {
            assert_eq!(error.leaves_outcome_open(), is_open, "{error}");
        }
    }
}
