//! The write that allocates: one transaction moves a sandbox from `available` to `allocated` and writes its claim.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};

use super::{
    PoolStore, Slot, StoreError,
    error::{is_failed_check, is_transient_reason},
    item::{self, StoredClaim, number, string},
    transaction::OPERATION,
};
use crate::{
    clock::UnixSeconds,
    domain::{
        Account, Candidate, Holder, LeaseTerms, Maintenance, Quarantine, Sandbox, Transition,
    },
};

/// The stored claim that an allocation expects and replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimPrecondition {
    /// No claim: the (caller, key) pair must be new.
    New,
    /// The claim for the sandbox with this id, which the pair no longer holds.
    Leftover(String),
    /// An item that is not a valid claim.
    Unreadable,
}

/// The outcome of an attempt to allocate.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// The sandbox was allocated.
    Won(Sandbox),
    /// The stored claim does not meet the precondition. Contains the stored claim.
    Held(StoredClaim),
    /// The sandbox is no longer available, or its account changed. Contains the stored sandbox if it exists and is
    /// readable.
    Lost(Option<Sandbox>),
    /// Another transaction is writing the sandbox. Nothing was written.
    Contended,
    /// Another transaction is writing the claim. Nothing was written.
    Conflict,
    /// The database throttles, or still executes an earlier attempt of the same call.
    Busy,
}

impl Slot<'_> {
    /// Tries to allocate `candidate` to `holder`. Choose the candidate only after the slot is acquired: a candidate
    /// that is reserved while its request waits for a slot is withheld from other requests, and more likely taken by
    /// another broker.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the write took effect is then unknown.
    pub async fn claim(
        self,
        candidate: &Candidate,
        holder: &Holder,
        precondition: &ClaimPrecondition,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<ClaimOutcome, StoreError> {
        let store = self.store;
        let allocate = store
            .allocate_sandbox(candidate, holder, terms, now)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let claim = store
            .write_claim(candidate, holder, precondition, terms, now)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let call = store
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().update(allocate).build())
            .transact_items(TransactWriteItem::builder().put(claim).build());
        match Box::pin(call.send()).await {
            Ok(_) => Ok(ClaimOutcome::Won(Sandbox {
                account: Account {
                    sandbox_id: candidate.id.clone(),
                    name: candidate.name.to_string(),
                    external_id: candidate.external_id.to_string(),
                    sfdc_account_id: candidate.sfdc_account_id.as_deref().map(str::to_owned),
                    created_at: None,
                },
                inserted_at: None,
                status: Transition::Allocate.to(),
                holder: Some(holder.clone()),
                allocated_at: now,
                expires_at: Some(terms.end(now)),
                is_inherited: false,
                lab_duration_hours: terms.lab_duration_hours,
                deletion_requested_at: None,
                released_by: None,
                quarantine: Quarantine::default(),
                maintenance: Maintenance::default(),
            })),
            Err(SdkError::ServiceError(context)) => match context.err() {
                TransactWriteItemsError::TransactionCanceledException(cancelled) => store
                    .read_cancellation(cancelled.cancellation_reasons())
                    .map_or_else(
                        || {
                            Err(StoreError::from_sdk(
                                OPERATION,
                                SdkError::ServiceError(context),
                            ))
                        },
                        Ok,
                    ),
                TransactWriteItemsError::TransactionInProgressException(_) => {
                    Ok(ClaimOutcome::Busy)
                }
                _ => Err(StoreError::from_sdk(
                    OPERATION,
                    SdkError::ServiceError(context),
                )),
            },
            Err(error) => Err(StoreError::from_sdk(OPERATION, error)),
        }
    }
}

impl PoolStore {
    /// The condition covers the account's attributes as well as the status: the answer to the caller is built from the
    /// candidate, whose name matched the requested prefix.
    fn allocate_sandbox(
        &self,
        candidate: &Candidate,
        holder: &Holder,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Update, aws_sdk_dynamodb::error::BuildError> {
        const SET: &str = "SET #status = :to, allocated_to_track = :caller, idempotency_key = :key, \
                           allocated_at = :now, expires_at = :end, lab_duration_hours = :hours, \
                           updated_at = :now";
        let update = match &holder.lab {
            Some(lab) => Update::builder()
                .update_expression(format!("{SET}, track_name = :lab"))
                .expression_attribute_values(":lab", string(lab.as_str())),
            None => Update::builder().update_expression(SET),
        };
        let (same_sfdc, sfdc) = match &candidate.sfdc_account_id {
            Some(sfdc) => ("sfdc_account_id = :sfdc", &**sfdc),
            None => ("NOT attribute_type(sfdc_account_id, :sfdc)", "S"),
        };
        update
            .expression_attribute_values(":sfdc", string(sfdc))
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(&candidate.id)))
            .condition_expression(format!(
                "#status = :from AND #name = :name AND external_id = :external_id AND {same_sfdc}"
            ))
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#name", "name")
            .expression_attribute_values(":from", string(Transition::Allocate.from().as_str()))
            .expression_attribute_values(":to", string(Transition::Allocate.to().as_str()))
            .expression_attribute_values(":caller", string(holder.caller.as_str()))
            .expression_attribute_values(":key", string(holder.key.as_str()))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":end", number(terms.end(now).0))
            .expression_attribute_values(":hours", number(terms.lab_duration_hours))
            .expression_attribute_values(":name", string(&*candidate.name))
            .expression_attribute_values(":external_id", string(&*candidate.external_id))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
    }

    fn write_claim(
        &self,
        candidate: &Candidate,
        holder: &Holder,
        precondition: &ClaimPrecondition,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Put, aws_sdk_dynamodb::error::BuildError> {
        let put = Put::builder()
            .table_name(&self.table.companion)
            .set_item(Some(item::claim_item(
                &candidate.id,
                holder,
                now,
                terms.end(now) + terms.grace,
            )))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match precondition {
            ClaimPrecondition::New => put.condition_expression("attribute_not_exists(PK)"),
            ClaimPrecondition::Unreadable => put
                .condition_expression(
                    "attribute_exists(PK) AND NOT (attribute_type(sandbox_id, :string) \
                     AND attribute_type(allocated_at, :number))",
                )
                .expression_attribute_values(":string", string("S"))
                .expression_attribute_values(":number", string("N")),
            ClaimPrecondition::Leftover(sandbox_id) => put
                .condition_expression("sandbox_id = :leftover")
                .expression_attribute_values(":leftover", string(sandbox_id)),
        }
        .build()
    }

    /// Converts the reasons of a cancelled transaction; `None` if one of them is neither a race nor transient.
    fn read_cancellation(&self, reasons: &[CancellationReason]) -> Option<ClaimOutcome> {
        let [sandbox, claim] = reasons else {
            return None;
        };
        if is_failed_check(claim) {
            return Some(ClaimOutcome::Held(StoredClaim::read(claim.item().cloned())));
        }
        if is_failed_check(sandbox) {
            return Some(ClaimOutcome::Lost(
                sandbox.item().and_then(|item| self.read_or_skip(item)),
            ));
        }
        let is_conflict =
            |reason: &CancellationReason| reason.code() == Some("TransactionConflict");
        reasons.iter().all(is_transient_reason).then(|| {
            if is_conflict(sandbox) {
                ClaimOutcome::Contended
            } else if is_conflict(claim) {
                ClaimOutcome::Conflict
            } else {
                ClaimOutcome::Busy
            }
        })
    }
}
