//! Errors of calls, and which of them may pass.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use thiserror::Error;

use super::SettingsError;

/// The error of a call.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The arguments or settings are invalid; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// The settings are invalid; nothing was sent.
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
        /// How long to wait before a retry. Without it a retry does not help.
        retry_after: Option<Duration>,
        /// The other details of the error, such as `faults` and `run_id`.
        detail: Value,
    },
    /// There is no answer, or a truncated one.
    #[error("no answer of {url}: {cause}")]
    Unreachable {
        /// The URL.
        url: String,
        /// The cause.
        cause: String,
    },
    /// A server that is not the broker, such as a load balancer, answered with an error that may pass.
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
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Rejected {
                status,
                retry_after,
                ..
            } => is_transient(*status) || retry_after.is_some(),
            Self::Unreachable { .. } | Self::Unavailable { .. } => true,
            Self::Usage(_) | Self::Settings(_) | Self::NotABroker { .. } => false,
        }
    }

    /// Returns whether a call that awaits `codes` is repeated after this error.
    pub(super) fn is_retried(&self, awaited: &[&str]) -> bool {
        match self {
            Self::Rejected { status, code, .. } => {
                is_transient(*status) && code != "ALLOCATIONS_PAUSED"
                    || awaited.contains(&code.as_str())
            }
            _ => self.may_pass(),
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
    /// refused the token or its role, 4 if there is no such thing, 75 if it may pass, else 1.
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
            _ if self.may_pass() => 75,
            _ => 1,
        }
    }
}

/// Returns whether a status code stands for an error that may pass.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    ) || status.is_server_error()
}
