//! The one write that allocates: a sandbox leaves `available` and a claim points at it, both or neither.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};

use super::{
    PoolStore, Slot, StoreError,
    error::is_passing,
    item::{self, ClaimTarget, number, string},
};
use crate::{
    clock::UnixSeconds,
    domain::{
        Account, Candidate, Holder, LeaseTerms, Maintenance, Sandbox, SandboxId, Transition,
        lab_duration,
    },
};

/// How long a claim outlives its allocation before the table's TTL may remove it. An allocation that nothing expired
/// for so long is a fault of the installation, and only then does a lost claim cost a second sandbox.
const CLAIM_RETENTION: std::time::Duration = std::time::Duration::from_hours(7 * 24);

/// Which claim an allocation may write over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimPrecondition {
    /// None: the (caller, key) pair must be new.
    New,
    /// The one that points at this sandbox, which the pair no longer holds.
    Leftover(String),
    /// The one there is, for as long as it cannot be read.
    Unreadable,
}

/// What the table has as the claim of a (caller, key) pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredClaim {
    /// Nothing.
    None,
    /// A claim.
    Readable(ClaimTarget),
    /// An item that is no claim.
    Unreadable,
}

impl StoredClaim {
    /// Reads a claim item, or logs why it is none.
    pub(super) fn read(item: Option<item::Item>) -> Self {
        let Some(item) = item else { return Self::None };
        let key = item.get("PK").and_then(|key| key.as_s().ok()).cloned();
        serde_dynamo::aws_sdk_dynamodb_1::from_item(item).map_or_else(
            |fault| {
                tracing::error!(key, %fault, "a claim cannot be read and will be written over");
                Self::Unreadable
            },
            Self::Readable,
        )
    }
}

/// How an attempt to allocate ended.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// The caller holds the sandbox now.
    Won(Sandbox),
    /// The claim of the (caller, key) pair is not what the guard says; what it is, or nothing if it vanished.
    Held(StoredClaim),
    /// The sandbox is not what the candidate says; what it is now, if it still exists and can be read.
    Lost(Option<Sandbox>),
    /// Another transaction is at the sandbox. Nothing was written.
    Contended,
    /// Another transaction, or the database's capacity, was in the way. Nothing was written.
    Conflict,
}

impl Slot<'_> {
    /// Tries to allocate `candidate` to `holder`. Choose it in the slot: one that waits with a request for its slot is
    /// not there for others, and may be gone before it is its turn.
    ///
    /// # Errors
    /// [`StoreError`]; whether the write took effect is then not known.
    pub async fn claim(
        self,
        candidate: &Candidate,
        holder: &Holder,
        guard: &ClaimPrecondition,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<ClaimOutcome, StoreError> {
        const OPERATION: &str = "TransactWriteItems";
        let store = self.store;
        let allocate = store
            .allocate_sandbox(candidate, holder, terms, now)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let point = store
            .point_claim(candidate, holder, guard, terms, now)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let call = store
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().update(allocate).build())
            .transact_items(TransactWriteItem::builder().put(point).build());
        match Box::pin(call.send()).await {
            Ok(_) => Ok(ClaimOutcome::Won(Sandbox {
                account: Account {
                    sandbox_id: candidate.id.clone(),
                    name: candidate.name.to_string(),
                    external_id: candidate.external_id.to_string(),
                    sfdc_account_id: candidate.sfdc_account_id.as_deref().map(str::to_owned),
                    created_at: None,
                },
                status: Transition::Allocate.to(),
                holder: Some(holder.clone()),
                allocated_at: now,
                lab_duration_hours: terms.lab_duration_hours,
                deletion_requested_at: None,
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
                    Ok(ClaimOutcome::Conflict)
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
    /// Besides the status, what describes the account must be as the candidate has it: the answer to the caller is
    /// made from it, and the name has to have the prefix that was asked for.
    fn allocate_sandbox(
        &self,
        candidate: &Candidate,
        holder: &Holder,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Update, aws_sdk_dynamodb::error::BuildError> {
        const SET: &str = "SET #status = :to, allocated_to_track = :caller, idempotency_key = :key, \
                           allocated_at = :now, lab_duration_hours = :hours, updated_at = :now";
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
            .expression_attribute_values(":hours", number(terms.lab_duration_hours))
            .expression_attribute_values(":name", string(&*candidate.name))
            .expression_attribute_values(":external_id", string(&*candidate.external_id))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
    }

    fn point_claim(
        &self,
        candidate: &Candidate,
        holder: &Holder,
        guard: &ClaimPrecondition,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Put, aws_sdk_dynamodb::error::BuildError> {
        let put = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(claim_item(&candidate.id, holder, terms, now)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match guard {
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

    /// `None` if the transaction failed for a reason that is no outcome of a race.
    fn read_cancellation(&self, reasons: &[CancellationReason]) -> Option<ClaimOutcome> {
        let [sandbox, claim] = reasons else {
            return None;
        };
        let failed = |reason: &CancellationReason| reason.code() == Some("ConditionalCheckFailed");
        if failed(claim) {
            return Some(ClaimOutcome::Held(StoredClaim::read(claim.item().cloned())));
        }
        if failed(sandbox) {
            return Some(ClaimOutcome::Lost(
                sandbox
                    .item()
                    .cloned()
                    .and_then(|item| self.read_or_skip(item)),
            ));
        }
        reasons.iter().all(is_passing).then(|| {
            if sandbox.code() == Some("TransactionConflict") {
                ClaimOutcome::Contended
            } else {
                ClaimOutcome::Conflict
            }
        })
    }
}

/// The claim of one allocation.
pub(super) fn claim_item(
    sandbox: &SandboxId,
    holder: &Holder,
    terms: LeaseTerms,
    at: UnixSeconds,
) -> item::Item {
    let expires_at = at + lab_duration(terms.lab_duration_hours) + terms.grace;
    let mut claim = item::claim_key(&holder.caller, &holder.key);
    claim.extend([
        ("caller".to_owned(), string(holder.caller.as_str())),
        ("key".to_owned(), string(holder.key.as_str())),
        ("sandbox_id".to_owned(), string(sandbox.as_str())),
        ("allocated_at".to_owned(), number(at.0)),
        ("expires_at".to_owned(), number(expires_at.0)),
        ("ttl".to_owned(), number((expires_at + CLAIM_RETENTION).0)),
    ]);
    claim
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::spoilt,
        domain::{CallerId, IdempotencyKey},
    };

    proptest! {
        #[test]
        fn any_claim_reads_back(
            sandbox in "[!-~]{1,256}", caller in "[!-~]{1,256}", key in "[!-~]{1,256}", at in any::<i64>(),
        ) {
            let sandbox = SandboxId::parse(sandbox).unwrap();
            let item = claim_item(&sandbox, &holder(&caller, &key), TERMS, UnixSeconds(at));
            let pointer = ClaimTarget { sandbox_id: sandbox.to_string(), allocated_at: at };
            prop_assert_eq!(StoredClaim::read(Some(item)), StoredClaim::Readable(pointer));
        }

        #[test]
        fn any_item_is_a_claim_or_unreadable(item in spoilt(claim_item(
            &SandboxId::parse("1").unwrap(), &holder("play-1", "key-1"), TERMS, UnixSeconds(1)
        ))) {
            let is_claim = item.get("sandbox_id").is_some_and(AttributeValue::is_s)
                && item.get("allocated_at").and_then(|at| at.as_n().ok()).is_some_and(|at| at.parse::<i64>().is_ok());
            prop_assert_eq!(matches!(StoredClaim::read(Some(item)), StoredClaim::Readable(_)), is_claim);
        }
    }

    const TERMS: LeaseTerms = LeaseTerms {
        lab_duration_hours: 4,
        grace: std::time::Duration::from_mins(30),
    };

    fn holder(caller: &str, key: &str) -> Holder {
        Holder {
            caller: CallerId::parse(caller).unwrap(),
            key: IdempotencyKey::parse(key).unwrap(),
            lab: None,
        }
    }
}
