//! The write that replaces: one transaction ends an allocation, allocates another sandbox to its holder, and moves the
//! claim from the old one to the new one.

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};

use super::{
    ClaimOutcome, ClaimPrecondition, NewAllocation, PoolStore, Slot, StoreError, StoredClaim,
    change::{SET_ASIDE, action},
    error::is_failed_check,
    item::{self, claim_ttl, number, string},
    retire::{IS_SAME_ALLOCATION, RETIRE, seen_end},
    transaction::OPERATION,
};
use crate::domain::{Candidate, Reason, Replaced, Sandbox, Status, Transition};

/// A replacement to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewReplacement<'a> {
    /// The sandbox to be replaced, as it was read.
    pub old: &'a Sandbox,
    /// The allocation of the new one, to the same holder.
    pub allocation: NewAllocation<'a>,
    /// The fate of the old one.
    pub replaced: Replaced,
    /// How often the holder may have its sandbox replaced, at least once.
    pub max_replacements: u32,
    /// Why, in the words of the holder.
    pub reason: &'a Reason,
    /// The name of the principal that makes it.
    pub by: &'a str,
}

/// The stored claim that a replacement expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplacedClaim {
    /// It points to the old sandbox.
    PointsToOld,
    /// It does not, because the FastAPI service made the allocation, or the claim was lost: it is overwritten under this
    /// precondition, and the replacements are counted from then on.
    Other(ClaimPrecondition),
}

/// Why an attempt to replace was refused, if the candidate was not the reason.
#[derive(Debug)]
pub enum ReplacementRefusal {
    /// The old sandbox is no longer in the allocation as it was read. Contains the stored sandbox if it exists and is
    /// readable.
    Old(Option<Box<Sandbox>>),
    /// The holder has had its sandbox replaced as often as permitted.
    LimitReached,
    /// The stored claim is not the expected one.
    Claim(StoredClaim),
}

impl Slot<'_> {
    /// Tries to replace a sandbox by `candidate`.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the write took effect is then unknown.
    pub async fn replace(
        self,
        candidate: &Candidate,
        replacement: NewReplacement<'_>,
        claim: &ReplacedClaim,
    ) -> Result<ClaimOutcome<ReplacementRefusal>, StoreError> {
        let store = self.store;
        let others = store
            .end_replaced(candidate, replacement)
            .and_then(|old| Ok(vec![old, store.move_claim(candidate, replacement, claim)?]))
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let old = replacement.old;
        self.attempt(candidate, replacement.allocation, others, |reasons| {
            let [of_old, of_claim] = reasons else {
                return None;
            };
            if is_failed_check(of_old) {
                let stored = of_old.item().and_then(|item| store.read_or_skip(item));
                return Some(ReplacementRefusal::Old(stored.map(Box::new)));
            }
            is_failed_check(of_claim).then(|| {
                let stored = StoredClaim::read(of_claim.item().cloned());
                if *claim == ReplacedClaim::PointsToOld && stored.points_to(old) {
                    ReplacementRefusal::LimitReached
                } else {
                    ReplacementRefusal::Claim(stored)
                }
            })
        })
        .await
    }
}

impl PoolStore {
    /// Returns the end of the allocation of the replaced sandbox. It requires the allocation and the end that were read:
    /// the new allocation does not end before the old one, and an extension may have moved its end.
    fn end_replaced(
        &self,
        candidate: &Candidate,
        replacement: NewReplacement<'_>,
    ) -> Result<TransactWriteItem, BuildError> {
        let NewReplacement {
            old, allocation, ..
        } = replacement;
        let set_replaced = "replaced_by = :new, replacement_reason = :reason";
        let (transition, expression) = match replacement.replaced {
            Replaced::Delete => (
                Transition::Retire,
                format!("{RETIRE}, released_by = :by, {set_replaced}"),
            ),
            Replaced::Quarantine => (
                Transition::Quarantine {
                    from: Status::Allocated,
                },
                format!("{SET_ASIDE}, {set_replaced} REMOVE quarantined_until"),
            ),
        };
        let update = self
            .transition(old.id(), transition, allocation.at)
            .update_expression(expression)
            .condition_expression(format!(
                "{IS_SAME_ALLOCATION} AND allocated_to_track = :caller"
            ))
            .expression_attribute_values(":allocated_at", number(old.allocated_at.0))
            .expression_attribute_values(":seen_end", seen_end(old))
            .expression_attribute_values(":caller", string(allocation.holder.caller.as_str()))
            .expression_attribute_values(":new", string(candidate.id.as_str()))
            .expression_attribute_values(":reason", string(replacement.reason.as_str()))
            .expression_attribute_values(":by", string(replacement.by))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        action(update)
    }

    fn move_claim(
        &self,
        candidate: &Candidate,
        replacement: NewReplacement<'_>,
        claim: &ReplacedClaim,
    ) -> Result<TransactWriteItem, BuildError> {
        let NewReplacement {
            old, allocation, ..
        } = replacement;
        let holder = allocation.holder;
        if let ReplacedClaim::Other(precondition) = claim {
            let mut put = self.write_claim(candidate, allocation, precondition)?;
            put.item.insert("replacements".to_owned(), number(1));
            return Ok(TransactWriteItem::builder().put(put).build());
        }
        let end = allocation.end() + allocation.grace;
        let update = Update::builder()
            .table_name(&self.table.companion)
            .set_key(Some(item::claim_key(&holder.caller, &holder.key)))
            .update_expression(
                "SET sandbox_id = :new, allocated_at = :at, expires_at = :end, #ttl = :ttl, \
                 replacements = if_not_exists(replacements, :none) + :one",
            )
            .condition_expression(
                "sandbox_id = :old AND allocated_at = :old_start AND (attribute_not_exists(replacements) OR \
                 replacements < :max)",
            )
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":old", string(old.id().as_str()))
            .expression_attribute_values(":old_start", number(old.allocated_at.0))
            .expression_attribute_values(":max", number(replacement.max_replacements))
            .expression_attribute_values(":new", string(candidate.id.as_str()))
            .expression_attribute_values(":at", number(allocation.at.0))
            .expression_attribute_values(":end", number(end.0))
            .expression_attribute_values(":ttl", number(claim_ttl(end).0))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":one", number(1))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        action(update)
    }
}
