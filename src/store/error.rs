//! Errors of store calls, classified by the possible reactions to them.

use std::error::Error as StdError;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::CancellationReason,
};
use thiserror::Error;

type Source = Box<dyn StdError + Send + Sync>;

/// A failed store call. A lost race is not an error but a value, such as
/// [`ClaimOutcome::Lost`](super::ClaimOutcome::Lost).
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database is unreachable, slow or throttling. The same call may succeed later. Whether a write took effect is
    /// unknown.
    #[error("{operation}: the database is unavailable")]
    Unavailable {
        /// The DynamoDB operation.
        operation: &'static str,
        /// The cause.
        source: Source,
    },
    /// The table or one of its indexes does not exist.
    #[error(
        "{operation}: the table or one of its indexes does not exist; `sandbox-broker table create` creates the tables, or \
         says what an existing one lacks"
    )]
    TableMissing {
        /// The DynamoDB operation.
        operation: &'static str,
        /// The cause.
        source: Source,
    },
    /// The credentials are missing, expired or lack the permission.
    #[error(
        "{operation}: the database rejects the credentials; check that they are valid and permit the operation"
    )]
    Denied {
        /// The DynamoDB operation.
        operation: &'static str,
        /// The cause.
        source: Source,
    },
    /// Too many reads of many items for operators are in progress.
    #[error("too many lists, searches, counts and reports are being read; try again later")]
    Busy,
    /// Another run has taken over the lease of the job. Nothing was written.
    #[error("another run of the job has taken over its lease")]
    Superseded,
    /// Any other error: a defect of the broker or of the table.
    #[error("{operation}: unexpected answer from the database")]
    Unexpected {
        /// The DynamoDB operation.
        operation: &'static str,
        /// The cause.
        source: Source,
    },
}

impl StoreError {
    /// Classifies an SDK error.
    pub(super) fn from_sdk<E, R>(operation: &'static str, error: SdkError<E, R>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let code = error
            .as_service_error()
            .and_then(ProvideErrorMetadata::code)
            .map(str::to_owned);
        let unreachable = !matches!(
            error,
            SdkError::ServiceError(_) | SdkError::ConstructionFailure(_)
        );
        let source = Source::from(error);
        match code.as_deref() {
            Some("ResourceNotFoundException") => Self::TableMissing { operation, source },
            Some(
                "AccessDeniedException"
                | "UnrecognizedClientException"
                | "ExpiredTokenException"
                | "IncompleteSignatureException"
                | "InvalidSignatureException"
                | "MissingAuthenticationTokenException",
            ) => Self::Denied { operation, source },
            Some(code) if is_transient(code) => Self::Unavailable { operation, source },
            _ if unreachable => Self::Unavailable { operation, source },
            _ => Self::Unexpected { operation, source },
        }
    }

    /// Creates the error for an answer that the broker cannot use.
    pub(crate) fn unexpected(operation: &'static str, source: impl Into<Source>) -> Self {
        Self::Unexpected {
            operation,
            source: source.into(),
        }
    }

    /// Creates the error for a transient failure that the SDK does not classify as such.
    pub(super) fn unavailable(operation: &'static str, source: impl Into<Source>) -> Self {
        Self::Unavailable {
            operation,
            source: source.into(),
        }
    }

    /// Creates the error for a request whose time was over before the database had answered.
    pub(crate) fn timed_out(operation: &'static str) -> Self {
        Self::Unavailable {
            operation,
            source: "no answer within the time limit of the request".into(),
        }
    }

    /// Creates the error for a write that lost every attempt to writes of other requests.
    pub(crate) fn contended(operation: &'static str) -> Self {
        Self::Unavailable {
            operation,
            source: "other requests write the same item".into(),
        }
    }

    /// Creates the error for requests that shared the result of another request's call, which failed.
    pub(crate) fn shared(operation: &'static str) -> Self {
        Self::Unavailable {
            operation,
            source: "the call of another request, whose result this request shares, failed".into(),
        }
    }
}

/// Returns whether a DynamoDB error code stands for a transient condition.
fn is_transient(code: &str) -> bool {
    matches!(
        code,
        "InternalServerError"
            | "InternalFailure"
            | "LimitExceededException"
            | "ProvisionedThroughputExceededException"
            | "ReplicatedWriteConflictException"
            | "RequestLimitExceeded"
            | "ServiceUnavailable"
            | "ThrottlingException"
            | "TransactionConflictException"
            | "TransactionInProgressException"
    )
}

/// Returns whether a write failed because its condition did not hold.
pub(super) fn is_failed_condition<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error
        .as_service_error()
        .is_some_and(|error| error.code() == Some("ConditionalCheckFailedException"))
}

/// Returns whether a write was rejected because a transaction writes the same item. Nothing was written.
pub(super) fn is_conflict<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error
        .as_service_error()
        .is_some_and(|error| error.code() == Some("TransactionConflictException"))
}

/// Returns whether a transaction was cancelled because the condition of this reason's action did not hold.
pub(super) fn is_failed_check(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

/// Returns whether the action of this reason did not cause the cancellation, or caused it by a transient condition.
pub(super) fn is_transient_reason(reason: &CancellationReason) -> bool {
    reason.code().is_none_or(|code| {
        matches!(
            code,
            "None" | "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"
        ) || is_transient(code)
    })
}
