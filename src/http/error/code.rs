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
    /// The token is valid, but its role does not suffice.
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
    /// The job is off in the configuration.
    JobOff,
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
    /// The body of the request is invalid.
    InvalidBody,
    /// The token is bound to other labs or name prefixes.
    LabNotAllowed,
    /// There is no such named token.
    TokenNotFound,
    /// A live token has this name.
    TokenNameTaken,
    /// There are too many named tokens.
    TokenLimitReached,
    /// The action does not apply to a sandbox that is not known to be usable yet.
    SandboxProvisioning,
    /// The action does not apply to a sandbox that is available.
    SandboxAvailable,
    /// The action does not apply to a sandbox that is allocated.
    SandboxAllocated,
    /// The action does not apply to a sandbox that waits for its deletion.
    SandboxPendingDeletion,
    /// The action does not apply to a sandbox whose deletion failed.
    SandboxDeletionFailed,
    /// The action does not apply to a stale sandbox.
    SandboxStale,
    /// The action does not apply to a sandbox in quarantine.
    SandboxQuarantined,
    /// The item of the sandbox in the table is unreadable.
    SandboxUnreadable,
    /// The sandbox had a holder, so it never becomes available again.
    HadHolder,
    /// The sandbox is in another allocation than the request names, or that was extended since.
    AllocationChanged,
    /// The allocation cannot end any later.
    ExtensionLimitReached,
    /// An operator has paused allocations.
    AllocationsPaused,
    /// The holder's sandbox has been replaced as often as its lab permits.
    ReplacementLimitReached,
    /// The lab holds as many sandboxes as its quota permits.
    LabQuotaReached,
    /// The policy document has faults.
    InvalidPolicy,
    /// The request does not name the version of the policy that it changes.
    PolicyVersionRequired,
    /// Another change of the policy came first.
    PolicyChanged,
    /// There is no such version of the policy.
    PolicyVersionNotFound,
    /// An item of the policy in the table is unreadable.
    PolicyUnreadable,
    /// The public key of the load balancer cannot be fetched, so that a sign-in there cannot be verified.
    SignInUnavailable,
}

impl ErrorCode {
    /// The HTTP status.
    #[must_use]
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::MissingHeader
            | Self::InvalidHeader
            | Self::InvalidParameter
            | Self::InvalidCursor
            | Self::InvalidBody
            | Self::InvalidPolicy => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden
            | Self::NotSandboxOwner
            | Self::AllocationExpired
            | Self::LabNotAllowed => StatusCode::FORBIDDEN,
            Self::SandboxNotFound
            | Self::RunNotFound
            | Self::TokenNotFound
            | Self::PolicyVersionNotFound
            | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoSandboxesAvailable
            | Self::JobRunning
            | Self::JobOff
            | Self::TokenNameTaken
            | Self::TokenLimitReached
            | Self::SandboxProvisioning
            | Self::SandboxAvailable
            | Self::SandboxAllocated
            | Self::SandboxPendingDeletion
            | Self::SandboxDeletionFailed
            | Self::SandboxStale
            | Self::SandboxQuarantined
            | Self::SandboxUnreadable
            | Self::PolicyUnreadable
            | Self::HadHolder
            | Self::AllocationChanged
            | Self::ExtensionLimitReached
            | Self::ReplacementLimitReached
            | Self::LabQuotaReached => StatusCode::CONFLICT,
            Self::PolicyChanged => StatusCode::PRECONDITION_FAILED,
            Self::PolicyVersionRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::CspError => StatusCode::BAD_GATEWAY,
            Self::CspUnavailable
            | Self::PoolContended
            | Self::StoreUnavailable
            | Self::RequestTimeout
            | Self::Overloaded
            | Self::JobInterrupted
            | Self::AllocationsPaused
            | Self::SignInUnavailable => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::JobOff => "JOB_OFF",
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
            Self::InvalidBody => "INVALID_BODY",
            Self::LabNotAllowed => "LAB_NOT_ALLOWED",
            Self::TokenNotFound => "TOKEN_NOT_FOUND",
            Self::TokenNameTaken => "TOKEN_NAME_TAKEN",
            Self::TokenLimitReached => "TOKEN_LIMIT_REACHED",
            Self::SandboxProvisioning => "SANDBOX_PROVISIONING",
            Self::SandboxAvailable => "SANDBOX_AVAILABLE",
            Self::SandboxAllocated => "SANDBOX_ALLOCATED",
            Self::SandboxPendingDeletion => "SANDBOX_PENDING_DELETION",
            Self::SandboxDeletionFailed => "SANDBOX_DELETION_FAILED",
            Self::SandboxStale => "SANDBOX_STALE",
            Self::SandboxQuarantined => "SANDBOX_QUARANTINED",
            Self::SandboxUnreadable => "SANDBOX_UNREADABLE",
            Self::HadHolder => "HAD_HOLDER",
            Self::AllocationChanged => "ALLOCATION_CHANGED",
            Self::ExtensionLimitReached => "EXTENSION_LIMIT_REACHED",
            Self::AllocationsPaused => "ALLOCATIONS_PAUSED",
            Self::ReplacementLimitReached => "REPLACEMENT_LIMIT_REACHED",
            Self::LabQuotaReached => "LAB_QUOTA_REACHED",
            Self::InvalidPolicy => "INVALID_POLICY",
            Self::PolicyVersionRequired => "POLICY_VERSION_REQUIRED",
            Self::PolicyChanged => "POLICY_CHANGED",
            Self::PolicyVersionNotFound => "POLICY_VERSION_NOT_FOUND",
            Self::PolicyUnreadable => "POLICY_UNREADABLE",
            Self::SignInUnavailable => "SIGN_IN_UNAVAILABLE",
        }
    }

    /// How long a client should wait before a retry, in seconds; `None` if a retry does not help.
    #[must_use]
    pub(crate) const fn retry_after(self) -> Option<u64> {
        match self {
            Self::NoSandboxesAvailable
            | Self::LabQuotaReached
            | Self::JobRunning
            | Self::JobInterrupted
            | Self::AllocationsPaused => Some(30),
            Self::CspUnavailable => Some(60),
            Self::PoolContended
            | Self::RequestTimeout
            | Self::RateLimitExceeded
            | Self::Overloaded => Some(1),
            Self::StoreUnavailable | Self::SignInUnavailable => Some(5),
            _ => None,
        }
    }

    /// The message of an error with this code that has none of its own. Paths of the API begin with the placeholder of
    /// [`base_path`](crate::http::base_path).
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a text for each code")]
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
            Self::Forbidden => {
                "This endpoint requires the role operator; the token has another one."
            }
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
            Self::JobOff => {
                "The job is off in the configuration of the broker; set its mode to turn it on."
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
            Self::PayloadTooLarge => "The body is larger than 16384 bytes, or incomplete.",
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
            Self::InvalidBody => "The body is invalid: missing field `reason`.",
            Self::LabNotAllowed => {
                "The token is not valid for this lab or name prefix; use the token of the lab."
            }
            Self::TokenNotFound => {
                "There is no such token; {base_path}/admin/tokens lists all tokens."
            }
            Self::TokenNameTaken => {
                "A live token has this name; choose another name, or revoke that token first."
            }
            Self::TokenLimitReached => {
                "There are 1000 live tokens, or 5000 with those that ended in the last 30 days; revoke some, or wait."
            }
            Self::SandboxProvisioning => {
                "The sandbox is not known to be usable yet, so this action does not apply."
            }
            Self::SandboxAvailable => "The sandbox is available, so this action does not apply.",
            Self::SandboxAllocated => {
                "The sandbox is allocated, so this action does not apply; release or quarantine it."
            }
            Self::SandboxPendingDeletion => {
                "The sandbox waits for its deletion, so this action does not apply."
            }
            Self::SandboxDeletionFailed => {
                "The deletion of the sandbox failed, so this action does not apply; delete it again."
            }
            Self::SandboxStale => {
                "The sandbox is stale: CSP does not list it, so this action does not apply."
            }
            Self::SandboxQuarantined => {
                "The sandbox is in quarantine, so this action does not apply; restore or delete it."
            }
            Self::SandboxUnreadable => {
                "The item of the sandbox is unreadable; repair or remove it in the pool's table."
            }
            Self::HadHolder => {
                "The sandbox had a holder, so it never becomes available again; delete it."
            }
            Self::AllocationChanged => {
                "The sandbox is in another allocation than you have seen, or it was extended since; list the leaks again."
            }
            Self::ExtensionLimitReached => {
                "The allocation already ends at the requested time or later, or as late as its lab permits."
            }
            Self::ReplacementLimitReached => {
                "The sandbox has been replaced 3 times, as often as the lab permits; ask an operator."
            }
            Self::LabQuotaReached => {
                "The lab holds 60 sandboxes, as many as its quota permits; try again later."
            }
            Self::InvalidPolicy => "The policy has 1 fault; error.faults lists all of them.",
            Self::PolicyVersionRequired => {
                "The header If-Match is missing; send the version of the policy that you have changed."
            }
            Self::PolicyChanged => {
                "The policy has been changed since that version; read it, make your change again, and send the new version."
            }
            Self::PolicyVersionNotFound => {
                "There is no such version of the policy; {base_path}/admin/policy/history lists all of them."
            }
            Self::PolicyUnreadable => {
                "This item of the table is unreadable. The brokers go on with the version that they have read last. Put a \
                 valid document in force, such as that of an older version; if the item is CURRENT, write it again from \
                 the newest version first."
            }
            Self::AllocationsPaused => "Allocations are paused: CSP is being repaired",
            Self::SignInUnavailable => {
                "The public key of the load balancer cannot be fetched, so your sign-in cannot be verified; repeat the \
                 request, or use a token."
            }
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
            E::InvalidBody,
            E::LabNotAllowed,
            E::TokenNotFound,
            E::TokenNameTaken,
            E::TokenLimitReached,
            E::SandboxProvisioning,
            E::SandboxAvailable,
            E::SandboxAllocated,
            E::SandboxPendingDeletion,
            E::SandboxDeletionFailed,
            E::SandboxStale,
            E::SandboxQuarantined,
            E::SandboxUnreadable,
            E::HadHolder,
            E::AllocationChanged,
            E::ExtensionLimitReached,
            E::AllocationsPaused,
            E::ReplacementLimitReached,
            E::LabQuotaReached,
            E::InvalidPolicy,
            E::PolicyVersionRequired,
            E::PolicyChanged,
            E::PolicyVersionNotFound,
            E::PolicyUnreadable,
            E::SignInUnavailable,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
