//! Transactions of a few conditional writes.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, TransactWriteItem},
};

use super::{
    PoolStore, StoreError,
    error::{is_failed_check, is_transient_reason},
};

/// The name of the operation in errors.
pub(super) const OPERATION: &str = "TransactWriteItems";
const ATTEMPTS: u32 = 8;
/// Half of the pause before the first retry; the pauses double.
const PAUSE: Duration = Duration::from_millis(10);

/// The outcome of a transaction.
#[derive(Debug)]
pub(super) enum Transaction {
    /// Every action was executed.
    Done,
    /// No action was executed, because the conditions of some do not hold. Contains a reason for each action, in their
    /// order.
    Refused(Vec<CancellationReason>),
}

impl PoolStore {
    /// Executes a transaction. One that conflicts with another is repeated. All attempts carry the same token, so that
    /// one whose answer was lost counts as done instead of as refused by its own effect.
    ///
    /// # Errors
    /// [`StoreError`]. Unless it is [`StoreError::Unexpected`], it is unknown whether the actions were executed.
    pub(super) async fn transact(
        &self,
        actions: Vec<TransactWriteItem>,
    ) -> Result<Transaction, StoreError> {
        let token = format!("{:032x}", rand::random::<u128>());
        let mut attempt = 0;
        loop {
            let answer = {
                let _slot = self.slot().await;
                let call = self
                    .client
                    .transact_write_items()
                    .set_transact_items(Some(actions.clone()))
                    .client_request_token(&token);
                Box::pin(call.send()).await
            };
            let Err(error) = answer else {
                return Ok(Transaction::Done);
            };
            match cancellation_reasons(&error) {
                Some(reasons) if reasons.iter().any(is_failed_check) => {
                    return Ok(Transaction::Refused(reasons.to_vec()));
                }
                Some(reasons) if reasons.iter().all(is_transient_reason) => {}
                _ => return Err(StoreError::from_sdk(OPERATION, error)),
            }
            attempt += 1;
            if attempt == ATTEMPTS {
                return Err(StoreError::unavailable(OPERATION, error));
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
        }
    }
}

/// Returns the reasons of a cancelled transaction, and none if a transaction with the same token is in progress. `None`
/// for any other error.
pub(super) fn cancellation_reasons<R>(
    error: &SdkError<TransactWriteItemsError, R>,
) -> Option<&[CancellationReason]> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            Some(cancelled.cancellation_reasons())
        }
        TransactWriteItemsError::TransactionInProgressException(_) => Some(&[]),
        _ => None,
    }
}
