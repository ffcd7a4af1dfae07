//! What a store call may fail with, by what the caller can do about it.

use std::error::Error as StdError;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::CancellationReason,
};
use thiserror::Error;

type Source = Box<dyn StdError + Send + Sync>;

/// A store call failed. A lost race is no error but a value, such as [`Claim::Lost`](super::Claim::Lost).
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database cannot be reached, is too slow, or throttles. The same call may succeed later. Whether a write
    /// took effect is not known.
    #[error("{operation}: the database is unavailable")]
    Unavailable {
        /// The DynamoDB operation.
        operation: &'static str,
        /// The SDK's account of it.
        source: Source,
    },
    /// The table, or one of its indexes, is not there.
    #[error(
        "{operation}: the table or an index of it does not exist; `sandbox-broker table create` makes them"
    )]
    TableMissing {
        /// The DynamoDB operation.
        operation: &'static str,
        /// The SDK's account of it.
        source: Source,
    },
    /// The credentials are missing, expired or not allowed to do this.
    #[error("{operation}: the database refuses the credentials")]
    Denied {
        /// The DynamoDB operation.
        operation: &'static str,
        /// The SDK's account of it.
        source: Source,
    },
    /// Another run of the job has taken over its lease. Nothing was written.
    #[error("another run of the job has taken over")]
    Superseded,
    /// Anything else: a defect of the broker or of the table.
    #[error("{operation}: unexpected answer from the database")]
    Unexpected {
        /// The DynamoDB operation.
        operation: &'static str,
        /// The SDK's account of it.
        source: Source,
    },
}

impl StoreError {
    /// Sorts an SDK error by what can be done about it.
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

    /// A failure of an operation that the broker finds itself.
    pub(crate) fn unexpected(operation: &'static str, source: impl Into<Source>) -> Self {
        Self::Unexpected {
            operation,
            source: source.into(),
        }
    }

    /// A failure that passes, although the SDK does not know it.
    pub(super) fn unavailable(operation: &'static str, source: impl Into<Source>) -> Self {
        Self::Unavailable {
            operation,
            source: source.into(),
        }
    }

    /// For those who waited for an operation of someone else that failed.
    pub(crate) fn shared(operation: &'static str) -> Self {
        Self::Unavailable {
            operation,
            source: "the call that this one waited for failed".into(),
        }
    }
}

/// DynamoDB's error codes that stand for a passing condition.
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

/// Whether a transaction was cancelled for something that passes, or not on account of this action at all.
pub(super) fn is_passing(reason: &CancellationReason) -> bool {
    reason.code().is_none_or(|code| {
        matches!(
            code,
            "None" | "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"
        ) || is_transient(code)
    })
}
