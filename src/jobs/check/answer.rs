//! The answer to the check of one account.

use crate::{
    csp::{Credentials, CspError},
    domain::{Observation, Status},
    telemetry::chain,
};

/// The outcome of the check of one account.
#[derive(Debug)]
pub(super) enum Answer {
    /// An observation of the account.
    Observed(Observation),
    /// The user is denied access, to this account or to all.
    Denied(CspError),
    /// CSP has failed, perhaps because of this account.
    Failed(CspError),
    /// CSP limits the rate of calls, which says nothing about the account.
    RateLimited(CspError),
    /// CSP rejects the user.
    UserRejected(CspError),
}

impl Answer {
    /// Classifies the number of groups that CSP lists for an account, `None` if it does not know the account.
    pub(super) fn of(groups: Result<Option<usize>, CspError>, status: Status) -> Self {
        let (unknown, empty) = if status == Status::Provisioning {
            (
                "CSP does not know the account yet",
                "the account has no groups yet",
            )
        } else {
            (
                "CSP does not know the account any more",
                "the account has no groups",
            )
        };
        let error = match groups {
            Ok(Some(1..)) => return Self::Observed(Observation::Usable),
            Ok(Some(0)) => return Self::Observed(Observation::NotYet(empty.to_owned())),
            Ok(None) => return Self::Observed(Observation::NotYet(unknown.to_owned())),
            Err(error) => error,
        };
        match error {
            CspError::Unauthorized {
                credentials: Credentials::NiosxaasUser | Credentials::ApiToken,
                ..
            } => Self::UserRejected(error),
            CspError::Unauthorized { .. } | CspError::Forbidden => Self::Denied(error),
            CspError::Conflict { .. } => Self::Observed(Observation::NotYet(chain(&error))),
            CspError::RateLimited { .. } => Self::RateLimited(error),
            CspError::Unavailable { .. } => Self::Failed(error),
            CspError::InvalidId { .. } | CspError::Refused { .. } | CspError::Rejected { .. } => {
                Self::Observed(Observation::Broken(chain(&error)))
            }
        }
    }

    /// Returns the error with which CSP has failed, or refused a call for its rate.
    pub(super) const fn outage(&self) -> Option<&CspError> {
        match self {
            Self::Failed(error) | Self::RateLimited(error) => Some(error),
            _ => None,
        }
    }
}
