//! The listing of audit records.

use super::{Broker, BrokerError};
use crate::{
    clock::{MAX_CLOCK_SKEW, UnixSeconds},
    domain::{AUDIT_RETENTION, EventFilter},
    store::{AuditPosition, AuditSpan, EventPage},
};

impl Broker {
    /// Returns a page of at most `limit` audit records from `start` on, newest first: those of the span of time from
    /// `from` to the end of the second `to` that meet the conditions of `filter`. Without bounds, all that are
    /// retained.
    ///
    /// # Errors
    /// [`BrokerError::Store`].
    pub async fn audit(
        &self,
        from: Option<UnixSeconds>,
        to: Option<UnixSeconds>,
        filter: &EventFilter,
        limit: usize,
        start: Option<AuditPosition>,
    ) -> Result<EventPage<AuditPosition>, BrokerError> {
        let now = self.clock.now();
        // Each day of the span takes a query, so days that cannot have records are left out. The clock of another broker
        // may be ahead.
        let from = from.map_or(now - AUDIT_RETENTION, |from| {
            from.max(now - AUDIT_RETENTION)
        });
        let latest = now + MAX_CLOCK_SKEW;
        let to = to.map_or(latest, |to| to.min(latest));
        if from > to {
            return Ok(EventPage {
                events: Vec::new(),
                next: None,
            });
        }
        let span = AuditSpan {
            from_ms: from.0.saturating_mul(1000),
            to_ms: to.0.saturating_mul(1000).saturating_add(999),
        };
        let store = self.store.admit_read()?;
        Ok(store.audit_page(span, filter, limit, start).await?)
    }
}
