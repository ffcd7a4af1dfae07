//! Errors of CSP calls.

use std::time::Duration;

use thiserror::Error;

/// A failed CSP call.
#[derive(Debug, Error)]
pub enum CspError {
    /// No answer, an invalid one, a server error, or an answer of a proxy in front of CSP. Transient.
    #[error("CSP is unavailable: {reason}")]
    Unavailable {
        /// The reason.
        reason: String,
        /// The error of the HTTP client.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// Too many requests. Transient.
    #[error("CSP limits the rate of requests")]
    RateLimited {
        /// The delay that CSP asks for, if any.
        retry_after: Option<Duration>,
    },
    /// The credentials are not accepted. Every call fails until they are replaced.
    #[error("CSP rejects {credentials}", credentials = credentials.remedy(*status))]
    Unauthorized {
        /// The status code.
        status: u16,
        /// The credentials.
        credentials: Credentials,
    },
    /// The request is not permitted for this account (HTTP 403), by credentials that are otherwise accepted.
    #[error("CSP denies access to this account (HTTP 403)")]
    Forbidden,
    /// The state of this account prevents the request for now. Transient, but no sign that CSP fails.
    #[error("CSP cannot serve the request in the account's present state (HTTP {status})")]
    Conflict {
        /// 409, 423 or 425.
        status: u16,
    },
    /// The account's id is not safe in a URL, so no request was sent.
    #[error("the account id {external_id:?} is not of the form identity/accounts/<uuid>")]
    InvalidId {
        /// The id.
        external_id: String,
    },
    /// CSP answers that it does not create, or look for, an account: 403 and other statuses from 400 to 499 that say so.
    /// Nothing was created.
    #[error("CSP refuses the request (HTTP {status}): {message}")]
    Refused {
        /// The status code.
        status: u16,
        /// CSP's message, printable and at most [`MAX_REASON`](crate::domain::MAX_REASON) characters long.
        message: String,
    },
    /// The request is rejected permanently.
    #[error("CSP rejects the request (HTTP {status})")]
    Rejected {
        /// The status code.
        status: u16,
    },
}

/// The credentials of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `CSP_API_TOKEN`.
    ApiToken,
    /// `NIOSXAAS_EMAIL` and `NIOSXAAS_PASSWORD`.
    NiosxaasUser,
    /// A session of that user.
    Session,
}

impl Credentials {
    fn remedy(self, status: u16) -> String {
        match self {
            Self::ApiToken => format!(
                "the API token (HTTP {status}); set CSP_API_TOKEN to a valid token of the account"
            ),
            Self::NiosxaasUser => format!(
                "the NIOSXaaS user (HTTP {status}); set NIOSXAAS_EMAIL and NIOSXAAS_PASSWORD to valid credentials of a \
                 user with access to the accounts"
            ),
            Self::Session => format!("the session of the NIOSXaaS user (HTTP {status})"),
        }
    }
}

impl CspError {
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            source: None,
        }
    }

    /// Returns the delay that CSP asks for, if any.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// Returns the value of the metrics' `outcome` label.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden
            | Self::Conflict { .. }
            | Self::InvalidId { .. }
            | Self::Refused { .. }
            | Self::Rejected { .. } => "rejected",
        }
    }

    /// Returns whether CSP itself fails, so that other calls would fail too. Transient.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::RateLimited { .. })
    }

    /// Returns whether the same call may succeed later without a change of the configuration.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.is_outage() || matches!(self, Self::Conflict { .. })
    }

    /// Returns whether the account of a creation that failed so may exist: unless CSP was not reached, or has said that it
    /// refuses. A gateway in front of CSP may answer 5xx, 408 or 429 to a request that CSP serves nevertheless, and 409 is
    /// the answer to a name that exists.
    #[must_use]
    pub fn may_have_created(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => {
                !source.as_ref().is_some_and(reqwest::Error::is_connect)
            }
            Self::RateLimited { .. } | Self::Conflict { .. } | Self::InvalidId { .. } => true,
            Self::Unauthorized { .. } | Self::Forbidden | Self::Refused { .. } => false,
            Self::Rejected { status } => !(400..500).contains(status),
        }
    }

    /// Returns the error of a call that concerns no single account: the credentials are at fault if it is denied.
    pub(super) fn without_account(self, credentials: Credentials) -> Self {
        match self {
            Self::Forbidden => Self::Unauthorized {
                status: 403,
                credentials,
            },
            error => error,
        }
    }
}

impl From<reqwest::Error> for CspError {
    fn from(error: reqwest::Error) -> Self {
        let reason = if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke during the answer"
        };
        // The URL is internal to the installation, and readers of the error need not know it.
        Self::Unavailable {
            reason: reason.to_owned(),
            source: Some(error.without_url()),
        }
    }
}
