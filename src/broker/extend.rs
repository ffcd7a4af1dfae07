//! Extension of an allocation by its holder.

use std::time::Duration;

use super::{Broker, BrokerError};
use crate::{
    clock::UnixSeconds,
    domain::{Bounds, CallerId, ExtensionOrder, ExtensionRefusal, Sandbox, SandboxId},
    store::Decided,
};

/// The outcome of an extension that has moved the end.
const SUCCESS: &str = "success";

/// An allocation that ends as late as its holder has requested, or as its lab permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedAllocation {
    /// Whether this request has moved the end. Otherwise, it was late enough before.
    pub is_moved: bool,
    /// The id of the sandbox.
    pub sandbox_id: SandboxId,
    /// When the allocation ends, without the grace period.
    pub expires_at: UnixSeconds,
    /// The latest end to which the holder can extend it.
    pub max_expires_at: UnixSeconds,
}

impl Broker {
    /// Moves the end of the caller's allocation to a time not before `span` from now, as far as the holder's lab permits,
    /// within the bounds of its principal. A repeated request adds nothing but the time since the first one.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::NotOwner`], [`BrokerError::NotAllowed`], [`BrokerError::Expired`],
    /// [`BrokerError::Ended`], [`BrokerError::ExtensionLimit`], [`BrokerError::Store`]. After the last one the allocation
    /// may have been extended nevertheless; repeating the request is safe.
    pub async fn extend(
        &self,
        id: &SandboxId,
        span: Duration,
        caller: &CallerId,
        bounds: &Bounds,
    ) -> Result<ExtendedAllocation, BrokerError> {
        let now = self.clock.now();
        let policy = self.policy.current();
        let order = ExtensionOrder {
            caller,
            bounds,
            end: now + span,
            policy: &policy,
            grace: self.terms.grace,
        };
        let (outcome, extended) = match Box::pin(self.store.extend(id, &order, now)).await {
            Ok(Decided::Done(sandbox)) => (SUCCESS, Ok(sandbox)),
            Ok(Decided::Refused(refusal)) => as_result(refusal),
            Ok(Decided::Unreadable | Decided::NotFound) => {
                ("not_found", Err(BrokerError::NotFound))
            }
            Err(error) => ("error", Err(error.into())),
        };
        let extensions = &self.metrics.extensions;
        extensions.with_label_values(&[outcome]).inc();
        let sandbox = extended?;
        let latest = policy.latest_end(&sandbox);
        Ok(ExtendedAllocation {
            is_moved: outcome == SUCCESS,
            sandbox_id: sandbox.id().clone(),
            expires_at: sandbox.expires_at.unwrap_or_default(),
            max_expires_at: latest.unwrap_or_default(),
        })
    }
}

/// Returns the name of a refusal in the metric, and what it means for the caller: an end that is late enough is a
/// success.
fn as_result(refusal: ExtensionRefusal) -> (&'static str, Result<Box<Sandbox>, BrokerError>) {
    match refusal {
        ExtensionRefusal::EndsLater(sandbox) => ("unchanged", Ok(sandbox)),
        ExtensionRefusal::NotOwner => ("not_owner", Err(BrokerError::NotOwner)),
        ExtensionRefusal::NotAllowed => ("lab_not_allowed", Err(BrokerError::NotAllowed)),
        ExtensionRefusal::Ended { replaced_by } => {
            ("expired", Err(BrokerError::Ended { replaced_by }))
        }
        ExtensionRefusal::Overdue { expires_at } => {
            ("expired", Err(BrokerError::Expired { expires_at }))
        }
        ExtensionRefusal::Limit {
            expires_at,
            max_duration,
        } => {
            let limit = BrokerError::ExtensionLimit {
                expires_at,
                max_duration,
            };
            ("limit", Err(limit))
        }
    }
}
