//! The write that allocates: one transaction moves a sandbox from `available` to `allocated` and writes its claim.

use std::time::Duration;

use aws_sdk_dynamodb::{
    operation::transact_write_items::builders::TransactWriteItemsFluentBuilder,
    types::{
        CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};

use super::{
    PoolStore, QuotaSlot, Slot, StoreError, StoredSlot,
    error::{is_failed_check, is_transient_reason},
    item::{self, StoredClaim, number, string},
    transaction::{OPERATION, cancellation_reasons},
};
use crate::{
    clock::UnixSeconds,
    domain::{
        Account, Candidate, Holder, Lease, Maintenance, NamePrefix, Quarantine, Readiness, Sandbox,
        SandboxId, Transition, whole_hours,
    },
};

/// An allocation to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewAllocation<'a> {
    /// The pair that receives the sandbox, with its lab.
    pub holder: &'a Holder,
    /// The name prefix that the allocation is restricted to.
    pub name_prefix: Option<&'a NamePrefix>,
    /// The sandbox that this one replaces.
    pub replaces: Option<&'a SandboxId>,
    /// The start.
    pub at: UnixSeconds,
    /// The duration, without the grace period.
    pub duration: Duration,
    /// The grace period.
    pub grace: Duration,
    /// The slot that it takes of its lab's quota, if that has one.
    pub quota: Option<QuotaSlot<'a>>,
}

impl NewAllocation<'_> {
    /// Returns the end, without the grace period.
    #[must_use]
    pub fn end(self) -> UnixSeconds {
        self.at + self.duration
    }

    /// Returns the duration in hours, rounded up, which the FastAPI service shows.
    fn hours(self) -> u32 {
        whole_hours(self.at, self.end())
    }

    /// Returns the sandbox of `candidate` in this allocation.
    fn of(self, candidate: &Candidate) -> Sandbox {
        Sandbox {
            account: Account {
                sandbox_id: candidate.id.clone(),
                name: candidate.name.to_string(),
                external_id: candidate.external_id.to_string(),
                sfdc_account_id: candidate.sfdc_account_id.as_deref().map(str::to_owned),
                created_at: None,
            },
            inserted_at: None,
            status: Transition::Allocate.to(),
            holder: Some(self.holder.clone()),
            allocated_at: self.at,
            expires_at: Some(self.end()),
            is_inherited: false,
            lab_duration_hours: self.hours(),
            deletion_requested_at: None,
            released_by: None,
            lease: Lease {
                name_prefix: self.name_prefix.map(ToString::to_string),
                replaces: self.replaces.cloned(),
                quota_slot: self.quota.map(|slot| slot.number),
                ..Lease::default()
            },
            readiness: Readiness::default(),
            quarantine: Quarantine::default(),
            maintenance: Maintenance::default(),
        }
    }
}

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

/// The outcome of an attempt to allocate a candidate.
#[derive(Debug)]
pub enum ClaimOutcome<R = StoredClaim> {
    /// The sandbox was allocated.
    Won(Sandbox),
    /// Another condition than that of the candidate does not hold. Contains what is stored: of an allocation, the claim
    /// that does not meet its precondition.
    Refused(R),
    /// The slot of the lab's quota is not as it was read. Contains the stored one.
    QuotaSlot(Option<StoredSlot>),
    /// The candidate is no longer available, or its account changed. Contains the stored sandbox if it exists and is
    /// readable.
    Lost(Option<Sandbox>),
    /// Another transaction is writing the candidate. Nothing was written.
    Contended,
    /// Another transaction is writing another item of this one, such as the claim. Nothing was written.
    Conflict,
    /// The database throttles, or still executes an earlier attempt of the same call.
    Busy,
}

impl Slot<'_> {
    /// Tries to allocate `candidate`. Choose the candidate only after the slot is acquired: a candidate
    /// that is reserved while its request waits for a slot is withheld from other requests, and more likely taken by
    /// another broker.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the write took effect is then unknown.
    pub async fn claim(
        self,
        candidate: &Candidate,
        allocation: NewAllocation<'_>,
        precondition: &ClaimPrecondition,
    ) -> Result<ClaimOutcome, StoreError> {
        let claim = self
            .store
            .write_claim(candidate, allocation, precondition)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let claim = TransactWriteItem::builder().put(claim).build();
        self.attempt(candidate, allocation, vec![claim], |reasons| {
            let [claim] = reasons else { return None };
            is_failed_check(claim).then(|| StoredClaim::read(claim.item().cloned()))
        })
        .await
    }

    /// Executes the transaction that allocates `candidate`, does `others`, and takes the slot of the quota. `refusal` reads
    /// the reasons of `others`, in their order, if one of the conditions does not hold; `None` if it is not one of theirs.
    pub(super) async fn attempt<R>(
        self,
        candidate: &Candidate,
        allocation: NewAllocation<'_>,
        others: Vec<TransactWriteItem>,
        refusal: impl FnOnce(&[CancellationReason]) -> Option<R>,
    ) -> Result<ClaimOutcome<R>, StoreError> {
        let store = self.store;
        let allocate = store
            .allocate_sandbox(candidate, allocation)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let quota = allocation.quota.map(|slot| {
            let (table, holder) = (&store.table.companion, allocation.holder);
            slot.take(table, &candidate.id, holder, allocation.at)
        });
        let quota = quota
            .transpose()
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let quota = quota.map(|put| TransactWriteItem::builder().put(put).build());
        let call = store
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().update(allocate).build());
        let has_quota = quota.is_some();
        let call = others
            .into_iter()
            .chain(quota)
            .fold(call, TransactWriteItemsFluentBuilder::transact_items);
        let Err(error) = Box::pin(call.send()).await else {
            return Ok(ClaimOutcome::Won(allocation.of(candidate)));
        };
        cancellation_reasons(&error)
            .and_then(|reasons| store.read_cancellation(reasons, has_quota, refusal))
            .ok_or_else(|| StoreError::from_sdk(OPERATION, error))
    }
}

impl PoolStore {
    /// The condition covers the account's attributes as well as the status: the answer to the caller is built from the
    /// candidate, whose name matched the requested prefix.
    fn allocate_sandbox(
        &self,
        candidate: &Candidate,
        allocation: NewAllocation<'_>,
    ) -> Result<Update, aws_sdk_dynamodb::error::BuildError> {
        let NewAllocation { holder, at, .. } = allocation;
        let mut set = "SET #status = :to, allocated_to_track = :caller, idempotency_key = :key, \
                       allocated_at = :now, expires_at = :end, lab_duration_hours = :hours, updated_at = :now"
            .to_owned();
        let mut update = Update::builder();
        if let Some(lab) = &holder.lab {
            set.push_str(", track_name = :lab");
            update = update.expression_attribute_values(":lab", string(lab.as_str()));
        }
        if let Some(prefix) = allocation.name_prefix {
            set.push_str(", name_prefix = :prefix");
            update = update.expression_attribute_values(":prefix", string(prefix.as_str()));
        }
        if let Some(old) = allocation.replaces {
            set.push_str(", replaces = :old");
            update = update.expression_attribute_values(":old", string(old.as_str()));
        }
        if let Some(slot) = allocation.quota {
            set.push_str(", quota_slot = :slot");
            update = update.expression_attribute_values(":slot", number(slot.number));
        }
        let (same_sfdc, sfdc) = match &candidate.sfdc_account_id {
            Some(sfdc) => ("sfdc_account_id = :sfdc", &**sfdc),
            None => ("NOT attribute_type(sfdc_account_id, :sfdc)", "S"),
        };
        update
            .update_expression(set)
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
            .expression_attribute_values(":now", number(at.0))
            .expression_attribute_values(":end", number(allocation.end().0))
            .expression_attribute_values(":hours", number(allocation.hours()))
            .expression_attribute_values(":name", string(&*candidate.name))
            .expression_attribute_values(":external_id", string(&*candidate.external_id))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
    }

    pub(super) fn write_claim(
        &self,
        candidate: &Candidate,
        allocation: NewAllocation<'_>,
        precondition: &ClaimPrecondition,
    ) -> Result<Put, aws_sdk_dynamodb::error::BuildError> {
        let put = Put::builder()
            .table_name(&self.table.companion)
            .set_item(Some(item::claim_item(
                &candidate.id,
                allocation.holder,
                allocation.at,
                allocation.end() + allocation.grace,
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

    /// Converts the reasons of a cancelled transaction, none if an earlier attempt of the same call is in progress.
    /// `None` if one of them is neither a race nor transient.
    fn read_cancellation<R>(
        &self,
        reasons: &[CancellationReason],
        has_quota: bool,
        refusal: impl FnOnce(&[CancellationReason]) -> Option<R>,
    ) -> Option<ClaimOutcome<R>> {
        let Some((candidate, others)) = reasons.split_first() else {
            return Some(ClaimOutcome::Busy);
        };
        let (slot, of_refusal) = match others.split_last() {
            Some((slot, others)) if has_quota => (Some(slot), others),
            _ => (None, others),
        };
        if let Some(refusal) = refusal(of_refusal) {
            return Some(ClaimOutcome::Refused(refusal));
        }
        if let Some(slot) = slot.filter(|slot| is_failed_check(slot)) {
            let stored = slot.item().cloned().map(StoredSlot::read);
            return Some(ClaimOutcome::QuotaSlot(stored));
        }
        if is_failed_check(candidate) {
            return Some(ClaimOutcome::Lost(
                candidate.item().and_then(|item| self.read_or_skip(item)),
            ));
        }
        let is_conflict =
            |reason: &CancellationReason| reason.code() == Some("TransactionConflict");
        reasons.iter().all(is_transient_reason).then(|| {
            if is_conflict(candidate) {
                ClaimOutcome::Contended
            } else if others.iter().any(is_conflict) {
                ClaimOutcome::Conflict
            } else {
                ClaimOutcome::Busy
            }
        })
    }
}
