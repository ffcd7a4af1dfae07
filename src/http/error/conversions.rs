//! The code of each error of the layers below.

use std::time::Duration;

use super::{ApiError, ErrorCode, FaultBody};
use crate::{
    auth::named_tokens::TokenError,
    broker::{BrokerError, pauses::PauseError, policy::PolicyError},
    csp::CspError,
    domain::{ActionRefusal, OutOfBounds, PolicyFault, PolicyFaults, Status},
    http::headers::{LAB, PREFIX},
    jobs::{JobError, forecast::ForecastError, runner::JobStartError},
    store::{PolicyReadError, StoreError},
};

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable { .. }
            | StoreError::TableMissing { .. }
            | StoreError::Denied { .. } => ErrorCode::StoreUnavailable,
            StoreError::Busy => ErrorCode::Overloaded,
            // The run that took over continues the work.
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
            BrokerError::LabQuotaReached { held, max } => {
                let plural = if held == 1 { "" } else { "es" };
                let holds = format!("The lab holds {held} sandbox{plural}");
                let message = if max == 0 {
                    "The quota of the lab is 0, so it gets no sandboxes; ask an operator."
                        .to_owned()
                } else if held > max.into() {
                    format!("{holds}, and its quota permits {max}; try again later.")
                } else {
                    format!("{holds}, as many as its quota permits; try again later.")
                };
                Self::new(ErrorCode::LabQuotaReached, message)
            }
            BrokerError::Paused { reason, ends_in } => {
                let code = ErrorCode::AllocationsPaused;
                let longest = code.retry_after().unwrap_or(1);
                let message = format!("Allocations are paused: {}", reason.as_str());
                Self::new(code, message).with_retry_after(
                    ends_in.map_or(longest, |span| span.as_secs().clamp(1, longest)),
                )
            }
            BrokerError::Contended => ErrorCode::PoolContended.into(),
            BrokerError::NotFound => ErrorCode::SandboxNotFound.into(),
            BrokerError::NotOwner => ErrorCode::NotSandboxOwner.into(),
            BrokerError::NotAllowed => ErrorCode::LabNotAllowed.into(),
            BrokerError::OutOfBounds(fault) => fault.into(),
            BrokerError::Expired { .. } => ErrorCode::AllocationExpired.into(),
            BrokerError::Ended { replaced_by } => {
                let message = replaced_by.map_or_else(
                    || "The allocation has been ended; allocate another sandbox.".to_owned(),
                    |id| format!("The sandbox has been replaced by {id}; use that one."),
                );
                Self::new(ErrorCode::AllocationExpired, message)
            }
            BrokerError::ExtensionLimit {
                expires_at,
                max_duration,
            } => {
                let minutes = max_duration.as_secs() / 60;
                let message = format!(
                    "The allocation ends at {expires_at} (Unix seconds), and no extension moves that: its lab permits at \
                     most {minutes} minutes from its start."
                );
                Self::new(ErrorCode::ExtensionLimitReached, message)
            }
            BrokerError::ReplacementLimit { permitted } => replacement_limit(permitted),
            BrokerError::Unreadable => ErrorCode::SandboxUnreadable.into(),
            BrokerError::Refused(refusal) => refusal.into(),
            BrokerError::Store(error) => error.into(),
        }
    }
}

impl From<OutOfBounds> for ApiError {
    fn from(fault: OutOfBounds) -> Self {
        let (bound_to, found) = match fault {
            OutOfBounds::NoLab => ("labs", format!("the header {LAB} is missing")),
            OutOfBounds::OtherLab => ("labs", format!("the header {LAB} names another one")),
            OutOfBounds::NoPrefix => ("name prefixes", format!("the header {PREFIX} is missing")),
            OutOfBounds::OtherPrefix => (
                "name prefixes",
                format!("the header {PREFIX} names another one"),
            ),
            OutOfBounds::PrefixOfLab(prefix) => {
                let message = format!(
                    "The token is bound to name prefixes, and the policy has another one for this lab, \"{prefix}\"; \
                     use the token of the lab, or name one of the token's prefixes in the header {PREFIX}."
                );
                return Self::new(ErrorCode::LabNotAllowed, message);
            }
        };
        let message = format!(
            "The token is bound to {bound_to}, and {found}; use the token of the lab, or correct the header."
        );
        Self::new(ErrorCode::LabNotAllowed, message)
    }
}

fn replacement_limit(permitted: u32) -> ApiError {
    let message = match permitted {
        0 => "The lab permits no replacement of its sandboxes; ask an operator.".to_owned(),
        1 => "The sandbox has been replaced once, as often as its lab permits; ask an operator."
            .to_owned(),
        times => format!(
            "The sandbox has been replaced {times} times, as often as its lab permits; ask an operator."
        ),
    };
    ApiError::new(ErrorCode::ReplacementLimitReached, message)
}

impl From<PauseError> for ApiError {
    fn from(error: PauseError) -> Self {
        match error {
            PauseError::End(fault) => Self::invalid_body(fault),
            PauseError::Store(error) => error.into(),
        }
    }
}

impl From<ForecastError> for ApiError {
    fn from(error: ForecastError) -> Self {
        let fault = match error {
            ForecastError::Past => "at has passed; a forecast takes a time from now on.",
            ForecastError::TooFar => "at must be at most 90 days ahead.",
            ForecastError::Store(error) => return error.into(),
        };
        Self::new(ErrorCode::InvalidParameter, fault)
    }
}

impl From<PolicyError> for ApiError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Changed { in_force } => {
                let message = format!(
                    "Version {in_force} of the policy is in force by now; read it, make your change again, and send it \
                     with If-Match: \"{in_force}\"."
                );
                Self::new(ErrorCode::PolicyChanged, message)
            }
            PolicyError::NotFound => ErrorCode::PolicyVersionNotFound.into(),
            PolicyError::Read(PolicyReadError::Store(error)) => error.into(),
            PolicyError::Read(error @ PolicyReadError::Unreadable { .. }) => {
                let message = format!("{error}. {}", ErrorCode::PolicyUnreadable.message());
                Self {
                    message,
                    ..Self::caused(ErrorCode::PolicyUnreadable, error)
                }
            }
        }
    }
}

impl From<PolicyFaults> for ApiError {
    fn from(PolicyFaults { faults, more }: PolicyFaults) -> Self {
        let (count, all) = (faults.len() + more, faults.len());
        let plural = if count == 1 { "" } else { "s" };
        let listed = match more {
            0 => "all of them".to_owned(),
            _ => format!("the first {all}"),
        };
        let message = format!("The policy has {count} fault{plural}; error.faults lists {listed}.");
        Self {
            faults: faults.into_iter().map(FaultBody::from).collect(),
            ..Self::new(ErrorCode::InvalidPolicy, message)
        }
    }
}

impl From<PolicyFault> for FaultBody {
    fn from(PolicyFault { path, got, takes }: PolicyFault) -> Self {
        Self { path, got, takes }
    }
}

impl From<ActionRefusal> for ApiError {
    fn from(refusal: ActionRefusal) -> Self {
        let code = match refusal {
            ActionRefusal::InStatus(Status::Provisioning) => ErrorCode::SandboxProvisioning,
            ActionRefusal::InStatus(Status::Available) => ErrorCode::SandboxAvailable,
            ActionRefusal::InStatus(Status::Allocated) => ErrorCode::SandboxAllocated,
            ActionRefusal::InStatus(Status::PendingDeletion) => ErrorCode::SandboxPendingDeletion,
            ActionRefusal::InStatus(Status::DeletionFailed) => ErrorCode::SandboxDeletionFailed,
            ActionRefusal::InStatus(Status::Stale) => ErrorCode::SandboxStale,
            ActionRefusal::InStatus(Status::Quarantined) => ErrorCode::SandboxQuarantined,
            ActionRefusal::HadHolder => ErrorCode::HadHolder,
            ActionRefusal::AllocationChanged => ErrorCode::AllocationChanged,
            ActionRefusal::EndsLater => {
                let message = "The allocation already ends at this time or later. The minutes count from now; ask for \
                               more of them.";
                return Self::new(ErrorCode::ExtensionLimitReached, message);
            }
            ActionRefusal::Replaced => {
                let message =
                    "The allocation is over, and its caller has another sandbox; release this one.";
                return Self::new(ErrorCode::ExtensionLimitReached, message);
            }
        };
        code.into()
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NameTaken => ErrorCode::TokenNameTaken.into(),
            TokenError::TooMany => ErrorCode::TokenLimitReached.into(),
            TokenError::NotFound => ErrorCode::TokenNotFound.into(),
            TokenError::Store(error) => error.into(),
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
            CspError::RateLimited { .. }
            | CspError::Unavailable { .. }
            | CspError::Conflict { .. } => Self::caused(ErrorCode::CspUnavailable, error),
            CspError::Unauthorized { .. }
            | CspError::Forbidden
            | CspError::Refused { .. }
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
                let run_id = run_id.unwrap_or_else(|| "unknown".to_owned());
                let message = format!(
                    "A run of {job} is already in progress: {run_id}. Follow that run, or try again later."
                );
                Self {
                    run_id: Some(run_id),
                    ..Self::new(ErrorCode::JobRunning, message)
                }
            }
            JobStartError::NotDue { .. } => ErrorCode::JobRunning.into(),
            JobStartError::Off { job, variable } => {
                let message = format!(
                    "{job} is off in the configuration of this broker; set {variable} to turn it on."
                );
                Self::new(ErrorCode::JobOff, message)
            }
            JobStartError::Panicked { .. } => Self::caused(ErrorCode::InternalError, fault),
        }
    }
}
