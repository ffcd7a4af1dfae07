//! The timeline of one sandbox: its item or tombstone, and its events.
//!
//! Actions of operators are recorded. The events of its normal life are not, because a record would make an allocation
//! a larger transaction: they are derived from the attributes of the item, which state the time of the last of each
//! kind, and of the tombstone.

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, time::Duration};

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::{Broker, BrokerError};
use crate::{
    clock::UnixSeconds,
    domain::{
        AuditAction, AuditTarget, DONE, Event, JobName, Lease, Quarantine, Sandbox, SandboxId,
        Status,
    },
    store::{EventPosition, Listed, Tombstone},
};

/// The state of a sandbox, with a page of its events.
#[derive(Debug)]
pub struct SandboxTimeline {
    /// Its item in the pool; `None` after its deletion.
    pub stored: Option<Listed>,
    /// Its tombstone, while it is retained after the deletion.
    pub tombstone: Option<Tombstone>,
    /// The events of the page, newest first.
    pub events: Vec<Event>,
    /// Start of the next page; `None` on the last one.
    pub next: Option<EventPosition>,
}

impl Broker {
    /// Returns the state of a sandbox, with at most `limit` recorded events from `start` on, and the events derived
    /// from its item and tombstone that lie between them.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] if nothing is known, [`BrokerError::Store`].
    pub async fn timeline(
        &self,
        id: &SandboxId,
        limit: usize,
        start: Option<EventPosition>,
    ) -> Result<SandboxTimeline, BrokerError> {
        let store = self.store.admit_read()?;
        let (stored, tombstone, page) = tokio::try_join!(
            store.find(id),
            store.find_tombstone(id),
            store.sandbox_events(id, limit, start.clone()),
        )?;
        let is_unknown = stored.is_none() && tombstone.is_none() && page.events.is_empty();
        if is_unknown && start.is_none() {
            return Err(BrokerError::NotFound);
        }
        let mut derived = Vec::new();
        if let Some(Ok(sandbox)) = &stored {
            derived.extend(Life::from(sandbox).events(self.terms.grace));
        }
        if let Some(tombstone) = &tombstone {
            derived.extend(Life::from(tombstone).events(self.terms.grace));
        }
        // The page covers the time from its last record on, up to the page before it.
        let from = page.next.as_ref().map_or(i64::MIN, EventPosition::at_ms);
        let before = start.as_ref().map_or(i64::MAX, EventPosition::at_ms);
        derived.retain(|derived| (from..before).contains(&derived.order_ms));
        let recorded = derived.iter().map(|derived| async {
            if derived.recorded_as.is_empty() {
                return Ok(false);
            }
            let events = store.events_around(id, derived.at).await?;
            let mut done = events.iter().filter(|event| event.outcome == DONE);
            Ok::<_, BrokerError>(done.any(|event| {
                let mut actions = derived.recorded_as.iter();
                actions.any(|action| action.as_str() == event.action)
            }))
        });
        let recorded = try_join_all(recorded).await?;
        let unrecorded = derived.into_iter().zip(recorded).filter(|(_, is)| !is);
        let unrecorded = unrecorded.map(|(derived, _)| derived.placed(id));
        let mut events: Vec<_> = page.events.into_iter().map(placed).collect();
        events.extend(unrecorded);
        // Stable, so records of the same millisecond stay in the order of their keys.
        events.sort_by_key(|(place, _)| Reverse(*place));
        events.dedup_by(|(_, one), (_, other)| one.request_id.is_none() && one == other);
        Ok(SandboxTimeline {
            stored,
            tombstone,
            events: events.into_iter().map(|(_, event)| event).collect(),
            next: page.next,
        })
    }
}

/// The place of an event in a timeline: the time in milliseconds, and a rank among those of the same time.
type Place = (i64, i8);

fn placed(event: Event) -> (Place, Event) {
    ((event.at_ms, 0), event)
}

/// An event that is derived from the state of a sandbox.
#[derive(Debug)]
struct Derived {
    name: &'static str,
    at: UnixSeconds,
    /// The place of the event among those that were recorded in the same second. Only its second is known: an event up
    /// to the start of an allocation is placed before all of them, a later one after them.
    order_ms: i64,
    rank: i8,
    actor: Option<String>,
    reason: Option<String>,
    after: Value,
    /// The actions that leave the same state, but are recorded.
    recorded_as: &'static [AuditAction],
}

impl Derived {
    fn first_in_second(name: &'static str, rank: i8, at: UnixSeconds) -> Self {
        Self {
            name,
            at,
            order_ms: at.0.saturating_mul(1000),
            rank,
            actor: None,
            reason: None,
            after: Value::Null,
            recorded_as: &[],
        }
    }

    fn last_in_second(name: &'static str, rank: i8, at: UnixSeconds) -> Self {
        Self {
            order_ms: at.0.saturating_mul(1000).saturating_add(999),
            ..Self::first_in_second(name, rank, at)
        }
    }

    fn placed(self, id: &SandboxId) -> (Place, Event) {
        let event = Event {
            at_ms: self.at.0.saturating_mul(1000),
            action: self.name.to_owned(),
            actor: self.actor,
            role: None,
            target: AuditTarget::Sandbox(id.clone()).to_string(),
            outcome: DONE.to_owned(),
            reason: self.reason,
            before: None,
            after: Some(self.after).filter(|after| !after.is_null()),
            request_id: None,
            address: None,
        };
        ((self.order_ms, self.rank), event)
    }
}

/// The attributes of an item or a tombstone from which events are derived.
#[derive(Debug)]
struct Life {
    inserted_at: Option<UnixSeconds>,
    usable_at: Option<UnixSeconds>,
    allocated_at: Option<UnixSeconds>,
    caller: Option<String>,
    key: Option<String>,
    lab: Option<String>,
    expires_at: Option<UnixSeconds>,
    lease: Lease,
    quarantine: Quarantine,
    deletion_requested_at: Option<UnixSeconds>,
    released_by: Option<String>,
    last: Option<Derived>,
}

impl From<&Sandbox> for Life {
    fn from(sandbox: &Sandbox) -> Self {
        let holder = sandbox.holder.as_ref();
        let lab = holder.and_then(|holder| holder.lab.as_ref());
        let maintenance = &sandbox.maintenance;
        let attempts = maintenance.deletion_retry_count;
        let error = maintenance.deletion_error.as_deref();
        // In these statuses, the last write is the one that led to them.
        let last = |name, after, recorded_as| {
            let at = maintenance.updated_at?;
            Some(Derived {
                after,
                recorded_as,
                ..Derived::last_in_second(name, 3, at)
            })
        };
        let last = match sandbox.status {
            Status::PendingDeletion if attempts > 0 => last(
                "deletion_failed_attempt",
                json!({ "attempts": attempts, "error": error, "next_deletion_at": maintenance.next_deletion_at }),
                &[],
            ),
            Status::DeletionFailed => last(
                "deletion_failed",
                json!({ "attempts": attempts, "error": error }),
                &[AuditAction::ConvertForFastapi],
            ),
            Status::Stale => last(
                "marked_stale",
                Value::Null,
                &[AuditAction::Restore, AuditAction::QuarantineEnd],
            ),
            _ => None,
        };
        Self {
            inserted_at: sandbox.inserted_at,
            usable_at: sandbox.readiness.usable_at,
            allocated_at: Some(sandbox.allocated_at).filter(|at| at.0 > 0),
            caller: holder.map(|holder| holder.caller.to_string()),
            key: holder.map(|holder| holder.key.to_string()),
            lab: lab.map(ToString::to_string),
            expires_at: sandbox.expires_at,
            lease: sandbox.lease.clone(),
            quarantine: sandbox.quarantine.clone(),
            deletion_requested_at: sandbox.deletion_requested_at,
            released_by: sandbox.released_by.clone(),
            last,
        }
    }
}

impl From<&Tombstone> for Life {
    fn from(tombstone: &Tombstone) -> Self {
        let attempts = tombstone.deletion_retry_count;
        Self {
            inserted_at: tombstone.inserted_at.map(UnixSeconds),
            usable_at: tombstone.usable_at.map(UnixSeconds),
            allocated_at: Some(UnixSeconds(tombstone.allocated_at)).filter(|at| at.0 > 0),
            caller: tombstone.last_caller.clone(),
            key: tombstone.last_key.clone(),
            lab: tombstone.last_lab.clone(),
            expires_at: tombstone.expires_at.map(UnixSeconds),
            lease: tombstone.lease(),
            quarantine: tombstone.quarantine(),
            deletion_requested_at: tombstone.deletion_requested_at.map(UnixSeconds),
            released_by: tombstone.released_by.clone(),
            last: Some(Derived {
                after: if attempts > 0 {
                    json!({ "failed_attempts": attempts })
                } else {
                    Value::Null
                },
                ..Derived::last_in_second("deleted", 4, UnixSeconds(tombstone.deleted_at))
            }),
        }
    }
}

impl Life {
    fn events(self, grace: Duration) -> impl Iterator<Item = Derived> {
        let inserted = self.inserted_at.map(|at| Derived {
            actor: Some(JobName::Sync.to_string()),
            ..Derived::first_in_second("inserted", -3, at)
        });
        let usable = self.usable_at.map(|at| Derived {
            actor: Some(JobName::Check.to_string()),
            ..Derived::first_in_second("usable", -2, at)
        });
        let allocated = self.allocated_at.map(|at| Derived {
            after: json!({
                "allocated_to_track": self.caller, "idempotency_key": self.key, "track_name": self.lab,
                "replaces": self.lease.replaces.as_ref().map(SandboxId::as_str),
            }),
            ..Derived::first_in_second("allocated", -1, at)
        });
        // Of several extensions the item has the time of the last one, which an operator may have made.
        let extended = self.lease.extended_at.map(|at| Derived {
            after: json!({ "expires_at": self.expires_at, "extensions": self.lease.extensions }),
            recorded_as: &[AuditAction::Extend],
            ..Derived::last_in_second("extended", 1, at)
        });
        let replaced = self.replaced();
        let by = |job: JobName| self.released_by.as_deref() == Some(job.as_str());
        let is_replacement = replaced
            .as_ref()
            .is_some_and(|replaced| Some(replaced.at) == self.deletion_requested_at);
        let ended = self.deletion_requested_at.filter(|_| !is_replacement);
        let ended = ended.map(|at| {
            let is_overdue = self.expires_at.is_some_and(|end| at > end + grace);
            let name = if by(JobName::Sync) {
                "reinstated"
            } else if by(JobName::AutoExpire) || (self.released_by.is_none() && is_overdue) {
                "expired"
            } else {
                "released"
            };
            Derived {
                actor: self.released_by.clone(),
                recorded_as: &[
                    AuditAction::Release,
                    AuditAction::Delete,
                    AuditAction::QuarantineEnd,
                ],
                ..Derived::last_in_second(name, 2, at)
            }
        });
        [
            inserted, usable, allocated, extended, replaced, ended, self.last,
        ]
        .into_iter()
        .flatten()
    }

    /// Returns the replacement of the sandbox, which was deleted or set aside at that time. The time of a replacement is
    /// not known of a sandbox whose deletion was requested again.
    fn replaced(&self) -> Option<Derived> {
        let new = self.lease.replaced_by.as_ref()?;
        let was_set_aside = self.quarantine.from == Some(Status::Allocated);
        let (at, actor, recorded_as): (_, _, &[_]) = if was_set_aside {
            (self.quarantine.at, &self.quarantine.by, &[])
        } else {
            let requested = self.deletion_requested_at;
            (requested, &self.released_by, &[AuditAction::Delete])
        };
        if actor.as_deref() == Some(JobName::Sync.as_str()) {
            return None;
        }
        Some(Derived {
            actor: actor.clone(),
            reason: self.lease.replacement_reason.clone(),
            after: json!({ "replaced_by": new.as_str() }),
            recorded_as,
            ..Derived::last_in_second("replaced", 2, at?)
        })
    }
}
