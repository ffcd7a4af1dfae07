//! The actions of operators on single sandboxes.

use std::{collections::HashSet, time::Duration};

use super::{Broker, BrokerError};
use crate::{
    domain::{
        ActionOrder, Author, Candidate, LONGEST_DURATION, Reason, Sandbox, SandboxAction,
        SandboxId, Status,
    },
    store::Decided,
};

impl Broker {
    /// Moves the end of an allocation to a time not before `span` from now, at most [`LONGEST_DURATION`]. A repeated
    /// extension therefore does not add to the first one.
    ///
    /// # Errors
    /// Those of [`Broker::act`].
    pub async fn extend_for_operator(
        &self,
        id: &SandboxId,
        span: Duration,
        author: Author,
        reason: Reason,
    ) -> Result<Sandbox, BrokerError> {
        let now = self.clock.now();
        let action = SandboxAction::Extend {
            end: now + span,
            latest: now + LONGEST_DURATION,
        };
        self.act(id, action, author, reason).await
    }

    /// Executes an action of an operator, with its audit records, and returns the sandbox after it.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::Unreadable`], [`BrokerError::Refused`], [`BrokerError::Store`]. After
    /// the last one the action may have been done nevertheless; then a repeated one is refused with the status that it
    /// wanted.
    pub async fn act(
        &self,
        id: &SandboxId,
        action: SandboxAction,
        author: Author,
        reason: Reason,
    ) -> Result<Sandbox, BrokerError> {
        let order = ActionOrder {
            action,
            allocation: None,
            author,
            reason,
        };
        self.execute(id, &order).await
    }

    /// Executes an order of an operator, as [`act`](Self::act) does.
    pub(super) async fn execute(
        &self,
        id: &SandboxId,
        order: &ActionOrder,
    ) -> Result<Sandbox, BrokerError> {
        let action = order.action;
        let grace = self.terms.grace;
        let done = self.store.act(id, order, grace, self.clock.now_ms()).await;
        let (outcome, done) = match done {
            Ok(Decided::Done(sandbox)) => ("success", Ok(*sandbox)),
            Ok(Decided::Refused(refusal)) => ("refused", Err(BrokerError::Refused(refusal))),
            Ok(Decided::Unreadable) => ("refused", Err(BrokerError::Unreadable)),
            Ok(Decided::NotFound) => ("not_found", Err(BrokerError::NotFound)),
            Err(error) => ("error", Err(error.into())),
        };
        self.metrics
            .admin_actions
            .with_label_values(&[name(action), outcome])
            .inc();
        if let Ok(sandbox) = &done {
            self.note_in_index(action, sandbox);
        }
        done
    }

    /// Keeps the candidate index up to date, so that no request tries a sandbox in vain that this broker has taken away,
    /// and the next one can have a sandbox that it has brought back.
    fn note_in_index(&self, action: SandboxAction, after: &Sandbox) {
        let candidates = self.refresher.candidates();
        match action {
            SandboxAction::Quarantine { .. } | SandboxAction::Delete => {
                candidates.remove(&HashSet::from([after.id().clone()]));
            }
            SandboxAction::Restore if after.status == Status::Available => {
                candidates.add(vec![Candidate::from(&after.account)]);
            }
            SandboxAction::Restore | SandboxAction::Release | SandboxAction::Extend { .. } => {}
        }
    }
}

/// Returns the name of an action in the metric.
const fn name(action: SandboxAction) -> &'static str {
    match action {
        SandboxAction::Release => "release",
        SandboxAction::Extend { .. } => "extend",
        SandboxAction::Quarantine { .. } => "quarantine",
        SandboxAction::Restore => "restore",
        SandboxAction::Delete => "delete",
    }
}
