//! The writes of refill: the steps of creations, and the state of a pool.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{AttributeValue, Delete, Put, TransactWriteItem, Update, builders::UpdateBuilder},
};

use super::items::{CLOSED, OPEN, STATE, TIME, creation_item, key, sort_key};
use crate::{
    clock::UnixSeconds,
    domain::{Closing, Creation, CreationState, NamePrefix, RefillStop},
    store::{
        Fence, PoolStore, StoreError, change,
        error::is_failed_check,
        item::{number, string},
        transaction::{OPERATION, Transaction},
    },
};

/// How long closed creations are kept.
const RETENTION: Duration = Duration::from_hours(30 * 24);
/// The number of measured times that are kept.
const TIMES: u64 = 100;
/// A time that was measured by two clocks counts up to this one.
const LONGEST_TIME: i64 = 7 * 24 * 3600;
/// The condition that a creation is as it was read.
const AS_READ: &str = "#state = :from AND attempts = :attempts";

/// A step of an open creation, from the state in which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreationStep {
    /// To `attempted`: CSP is asked right after.
    Attempt,
    /// From `attempted` back to `intended`: CSP has refused, so that nothing was created.
    Refused(RefillStop),
    /// From `attempted` back to `intended`: CSP was not reached, or rejects the token.
    NotCreated,
    /// To `created`: the account exists.
    Created {
        /// Its id.
        external_id: String,
    },
    /// Stays in `created`: the account exists, although no sync lists it.
    LookedUp,
    /// To `listed`: a sync has its sandbox.
    Listed {
        /// The id of the account.
        external_id: String,
    },
    /// Closed.
    Closed(Closing),
}

impl PoolStore {
    /// Writes the intention of a creation with a new number. Returns whether it was written: not if the number is used.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] if the run has lost its lease; any other [`StoreError`]: whether it was written is then
    /// unknown.
    pub async fn intend(
        &self,
        fence: &Fence,
        prefix: &NamePrefix,
        creation: &Creation,
    ) -> Result<bool, StoreError> {
        let put = Put::builder()
            .table_name(&self.table.companion)
            .set_item(Some(creation_item(prefix, OPEN, creation)))
            .condition_expression("attribute_not_exists(PK)")
            .build();
        // A closed creation with the number may have expired, but not its account.
        let count = self
            .update_refill_state(prefix)
            .update_expression("SET last_number = :number")
            .condition_expression("attribute_not_exists(last_number) OR last_number < :number")
            .expression_attribute_values(":number", unsigned(creation.number));
        let actions = put.map(|put| TransactWriteItem::builder().put(put).build());
        let actions = actions.and_then(|put| Ok(vec![put, change::action(count)?]));
        self.write_fenced(fence, actions).await
    }

    /// Makes a step of a creation, if it is as it was read. Returns whether it was made.
    ///
    /// # Errors
    /// As for [`intend`](Self::intend).
    pub async fn step(
        &self,
        fence: &Fence,
        prefix: &NamePrefix,
        creation: &Creation,
        step: &CreationStep,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let actions = self.step_actions(prefix, creation, step, now);
        self.write_fenced(fence, actions).await
    }

    /// Stops a pool's refill, or prolongs its stop.
    ///
    /// # Errors
    /// As for [`intend`](Self::intend).
    pub async fn stop_refill(
        &self,
        fence: &Fence,
        prefix: &NamePrefix,
        stop: &RefillStop,
    ) -> Result<(), StoreError> {
        let stop = self.stop_action(prefix, stop).map(|stop| vec![stop]);
        self.write_fenced(fence, stop).await.map(drop)
    }

    /// Ends the stop of a pool's refill.
    ///
    /// # Errors
    /// As for [`intend`](Self::intend).
    pub async fn end_refill_stop(
        &self,
        fence: &Fence,
        prefix: &NamePrefix,
    ) -> Result<(), StoreError> {
        let end = self.update_refill_state(prefix).update_expression(
            "REMOVE stopped_reason, stopped_at, next_attempt_at, policy_version",
        );
        self.write_fenced(fence, change::action(end).map(|end| vec![end]))
            .await
            .map(drop)
    }

    /// Records since when a pool has been below its target.
    ///
    /// # Errors
    /// As for [`intend`](Self::intend).
    pub async fn record_below_since(
        &self,
        fence: &Fence,
        prefix: &NamePrefix,
        since: Option<UnixSeconds>,
    ) -> Result<(), StoreError> {
        let update = self.update_refill_state(prefix);
        let update = match since {
            None => update.update_expression("REMOVE below_since"),
            Some(since) => update
                .update_expression("SET below_since = :since")
                .expression_attribute_values(":since", number(since.0)),
        };
        let update = change::action(update).map(|update| vec![update]);
        self.write_fenced(fence, update).await.map(drop)
    }

    fn step_actions(
        &self,
        prefix: &NamePrefix,
        creation: &Creation,
        step: &CreationStep,
        now: UnixSeconds,
    ) -> Result<Vec<TransactWriteItem>, BuildError> {
        let to = |state: CreationState, set: &str| {
            self.update_creation(prefix, creation)
                .update_expression(format!("SET #state = :to{set}"))
                .expression_attribute_values(":to", string(state.as_str()))
        };
        let at = number(now.0);
        let update = match step {
            CreationStep::Attempt => to(
                CreationState::Attempted,
                ", attempted_at = :at, attempts = :attempts + :one",
            )
            .expression_attribute_values(":at", at)
            .expression_attribute_values(":one", number(1)),
            CreationStep::Refused(_) | CreationStep::NotCreated => to(CreationState::Intended, ""),
            CreationStep::Created { external_id } => to(
                CreationState::Created,
                ", created_at = :at, external_id = :id",
            )
            .expression_attribute_values(":at", at)
            .expression_attribute_values(":id", string(external_id)),
            CreationStep::LookedUp => to(CreationState::Created, ", looked_up_at = :at")
                .expression_attribute_values(":at", at),
            CreationStep::Listed { external_id } => to(
                CreationState::Listed,
                ", listed_at = :at, external_id = :id",
            )
            .expression_attribute_values(":at", at)
            .expression_attribute_values(":id", string(external_id)),
            CreationStep::Closed(closing) => {
                return self.closing_actions(prefix, creation, *closing, now);
            }
        };
        let mut actions = vec![change::action(update)?];
        if let CreationStep::Refused(stop) = step {
            actions.push(self.stop_action(prefix, stop)?);
        }
        Ok(actions)
    }

    /// Moves a creation to the closed ones, and keeps the time that it took.
    fn closing_actions(
        &self,
        prefix: &NamePrefix,
        creation: &Creation,
        closing: Closing,
        now: UnixSeconds,
    ) -> Result<Vec<TransactWriteItem>, BuildError> {
        let mut item = creation_item(prefix, CLOSED, creation);
        item.extend([
            ("outcome".to_owned(), string(closing.outcome.as_str())),
            ("closed_at".to_owned(), number(now.0)),
            ("ttl".to_owned(), number((now + RETENTION).0)),
        ]);
        if let Some(at) = closing.available_at {
            item.insert("available_at".to_owned(), number(at.0));
        }
        let delete = Delete::builder()
            .table_name(&self.table.companion)
            .set_key(Some(key(prefix, &sort_key(OPEN, creation.number))))
            .condition_expression(AS_READ)
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":from", string(creation.state.as_str()))
            .expression_attribute_values(":attempts", number(creation.attempts))
            .build()?;
        let mut actions = vec![
            TransactWriteItem::builder().delete(delete).build(),
            change::put(&self.table.companion, item)?,
        ];
        let measured = creation.attempted_at.zip(closing.available_at);
        if let Some((from, to)) = measured {
            let seconds = to.0.saturating_sub(from.0).clamp(0, LONGEST_TIME);
            let update = self
                .update_refill_state(prefix)
                .update_expression("SET #time = :seconds")
                .expression_attribute_names(
                    "#time",
                    format!("{TIME}{:02}", creation.number % TIMES),
                )
                .expression_attribute_values(":seconds", number(seconds));
            actions.push(change::action(update)?);
        }
        Ok(actions)
    }

    fn stop_action(
        &self,
        prefix: &NamePrefix,
        stop: &RefillStop,
    ) -> Result<TransactWriteItem, BuildError> {
        let update = self
            .update_refill_state(prefix)
            .update_expression(
                "SET stopped_reason = :reason, stopped_at = if_not_exists(stopped_at, :since), \
                 next_attempt_at = :next, policy_version = :version",
            )
            .expression_attribute_values(":reason", string(&stop.reason))
            .expression_attribute_values(":since", number(stop.since.0))
            .expression_attribute_values(":next", number(stop.next_attempt_at.0))
            .expression_attribute_values(":version", number(stop.policy_version));
        change::action(update)
    }

    fn update_creation(&self, prefix: &NamePrefix, creation: &Creation) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table.companion)
            .set_key(Some(key(prefix, &sort_key(OPEN, creation.number))))
            .condition_expression(AS_READ)
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":from", string(creation.state.as_str()))
            .expression_attribute_values(":attempts", number(creation.attempts))
    }

    fn update_refill_state(&self, prefix: &NamePrefix) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table.companion)
            .set_key(Some(key(prefix, STATE)))
    }

    /// Executes actions under the fence. Returns whether their conditions held.
    async fn write_fenced(
        &self,
        fence: &Fence,
        actions: Result<Vec<TransactWriteItem>, BuildError>,
    ) -> Result<bool, StoreError> {
        let mut actions = actions.map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        actions.push(self.check_fence(fence)?);
        match self.transact(actions).await? {
            Transaction::Done => Ok(true),
            Transaction::Refused(reasons) if reasons.last().is_some_and(is_failed_check) => {
                Err(StoreError::Superseded)
            }
            Transaction::Refused(_) => Ok(false),
        }
    }
}

fn unsigned(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}
