//! The actions of operators on single sandboxes: the states that each leaves, and the change that it makes.

use serde_json::{Value, json};

use super::{
    AuditAction, Author, LabId, Quarantine, Reason, Sandbox, SeenAllocation, Status, Transition,
};
use crate::clock::UnixSeconds;

/// An action of an operator on one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxAction {
    /// Ends the allocation on behalf of any holder.
    Release,
    /// Moves the end of the allocation to a later time.
    Extend {
        /// The end that is wanted.
        end: UnixSeconds,
        /// The latest end that is permitted.
        latest: UnixSeconds,
    },
    /// Sets the sandbox aside. A holder keeps nothing.
    Quarantine {
        /// When the quarantine ends by itself; `None` if only an operator ends it.
        until: Option<UnixSeconds>,
    },
    /// Ends the quarantine of a sandbox that never had a holder.
    Restore,
    /// Sends the sandbox to its deletion from CSP.
    Delete,
}

/// An action with the operator who orders it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionOrder {
    /// The action.
    pub action: SandboxAction,
    /// The only allocation that it may end; `None` for any. Counts for a release.
    pub allocation: Option<SeenAllocation>,
    /// The operator.
    pub author: Author,
    /// Why, in the words of the operator.
    pub reason: Reason,
}

/// Why an action does not apply to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionRefusal {
    /// The sandbox is in a status that the action does not leave.
    InStatus(Status),
    /// The sandbox had a holder, so it never becomes available again.
    HadHolder,
    /// The allocation already ends at the wanted time, or later.
    EndsLater,
    /// The allocation is overdue, and its caller has been allocated another sandbox since.
    Replaced,
    /// The sandbox is in another allocation than the operator has seen, or it was extended since.
    AllocationChanged,
}

impl SandboxAction {
    /// Returns the kind of the action, for its audit record.
    #[must_use]
    pub const fn audit_action(self) -> AuditAction {
        match self {
            Self::Release => AuditAction::Release,
            Self::Extend { .. } => AuditAction::Extend,
            Self::Quarantine { .. } => AuditAction::Quarantine,
            Self::Restore => AuditAction::Restore,
            Self::Delete => AuditAction::Delete,
        }
    }
}

impl ActionOrder {
    /// Returns `sandbox` as it is after the action at `now`.
    ///
    /// An overdue allocation can be extended until it is retired: an operator who rescues a lab need not know whether
    /// auto-expire has run.
    ///
    /// # Errors
    /// [`ActionRefusal`] if the action does not apply to it.
    pub fn apply(&self, sandbox: &Sandbox, now: UnixSeconds) -> Result<Sandbox, ActionRefusal> {
        let in_status = ActionRefusal::InStatus(sandbox.status);
        let by = Some(self.author.name.to_string());
        let mut after = sandbox.clone();
        after.maintenance.updated_at = Some(now);
        match self.action {
            SandboxAction::Release | SandboxAction::Extend { .. }
                if sandbox.status != Status::Allocated =>
            {
                return Err(in_status);
            }
            SandboxAction::Release
                if self.allocation.is_some_and(|seen| !seen.matches(sandbox)) =>
            {
                return Err(ActionRefusal::AllocationChanged);
            }
            SandboxAction::Release => {
                after.status = Transition::Retire.to();
                after.deletion_requested_at = Some(now);
                after.released_by = by;
            }
            SandboxAction::Extend { end, latest } => {
                let extended = sandbox.extended(end.min(latest), now);
                after = extended.ok_or(ActionRefusal::EndsLater)?;
            }
            SandboxAction::Quarantine { until } => {
                let transition = Transition::quarantine(sandbox.status).ok_or(in_status)?;
                after.status = transition.to();
                after.quarantine = Quarantine {
                    by,
                    at: Some(now),
                    reason: Some(self.reason.as_str().to_owned()),
                    until,
                    from: Some(sandbox.status),
                };
            }
            SandboxAction::Restore if sandbox.status != Status::Quarantined => {
                return Err(in_status);
            }
            SandboxAction::Restore if sandbox.was_held() => return Err(ActionRefusal::HadHolder),
            SandboxAction::Restore => {
                after.status = Transition::restore_quarantined(sandbox.quarantine.from).to();
                after.quarantine = Quarantine::default();
                after.readiness = sandbox.readiness.begun_anew();
            }
            SandboxAction::Delete => {
                let transition = Transition::delete(sandbox.status).ok_or(in_status)?;
                after.status = transition.to();
                after.deletion_requested_at = Some(now);
                after.released_by = by;
                after.maintenance.deletion_retry_count = 0;
                after.maintenance.next_deletion_at = None;
            }
        }
        Ok(after)
    }
}

impl Sandbox {
    /// Returns its state for an audit record: the status, the holder, the times of the allocation, and the end of the
    /// quarantine.
    #[must_use]
    pub fn audit_state(&self) -> Value {
        let mut state = json!({ "status": self.status });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                state[name] = value;
            }
        };
        if let Some(holder) = &self.holder {
            set("allocated_to_track", Some(holder.caller.as_str().into()));
            set(
                "track_name",
                holder.lab.as_ref().map(LabId::as_str).map(Value::from),
            );
        }
        if let Some(end) = self.expires_at {
            set("allocated_at", Some(self.allocated_at.0.into()));
            set("expires_at", Some(end.0.into()));
        }
        if self.status == Status::Quarantined {
            set(
                "quarantined_until",
                self.quarantine.until.map(|until| until.0.into()),
            );
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Account, CallerId, Holder, IdempotencyKey, Readiness, Role, SandboxId};

    const START: UnixSeconds = UnixSeconds(1_774_000_000);
    const END: UnixSeconds = UnixSeconds(START.0 + 4 * 3600);
    const NOW: UnixSeconds = UnixSeconds(START.0 + 3600);

    fn sandbox(status: Status, was_held: bool) -> Sandbox {
        Sandbox {
            status,
            holder: was_held.then(|| Holder {
                caller: CallerId::stored("play"),
                key: IdempotencyKey::stored("key"),
                lab: Some(LabId::stored("lab")),
            }),
            allocated_at: if was_held { START } else { UnixSeconds(0) },
            expires_at: was_held.then_some(END),
            ..never_held()
        }
    }

    fn never_held() -> Sandbox {
        let account = Account {
            sandbox_id: SandboxId::stored("2009521"),
            name: "lab".to_owned(),
            external_id: "identity/accounts/1".to_owned(),
            sfdc_account_id: None,
            created_at: None,
        };
        Sandbox::available(account)
    }

    fn order(action: SandboxAction) -> ActionOrder {
        ActionOrder {
            action,
            allocation: None,
            author: Author {
                name: "jane".into(),
                role: Some(Role::Operator),
                request_id: "r".to_owned(),
                address: None,
            },
            reason: Reason::parse("broken").unwrap(),
        }
    }

    const QUARANTINE: SandboxAction = SandboxAction::Quarantine { until: None };

    fn extend(end: i64) -> SandboxAction {
        SandboxAction::Extend {
            end: UnixSeconds(end),
            latest: UnixSeconds(i64::MAX),
        }
    }

    #[test]
    fn each_action_leaves_its_states_and_refuses_every_other_with_it() {
        use Status::{Allocated, Available, DeletionFailed, Provisioning, Quarantined, Stale};
        for (action, from) in [
            (SandboxAction::Release, &[Allocated][..]),
            (extend(END.0 + 60), &[Allocated]),
            (QUARANTINE, &[Provisioning, Available, Allocated, Stale]),
            (SandboxAction::Restore, &[Quarantined]),
            (
                SandboxAction::Delete,
                &[Provisioning, Available, DeletionFailed, Stale, Quarantined],
            ),
        ] {
            for status in Status::ALL {
                let was_held = !matches!(status, Provisioning | Available | Stale | Quarantined);
                let done = order(action).apply(&sandbox(status, was_held), NOW);
                let expected = from.contains(&status);
                assert_eq!(done.is_ok(), expected, "{action:?} of {status}");
                if let Err(refusal) = done {
                    assert_eq!(refusal, ActionRefusal::InStatus(status));
                }
            }
        }
    }

    #[test]
    fn end_of_an_allocation_only_moves_to_a_later_time_within_the_limit() {
        let held = sandbox(Status::Allocated, true);
        for (end, latest, expected) in [
            (END.0 + 1, i64::MAX, Some((END.0 + 1, 5))),
            (END.0 + 3600, i64::MAX, Some((END.0 + 3600, 5))),
            (END.0 + 7200, END.0 + 60, Some((END.0 + 60, 5))),
            (END.0, i64::MAX, None),
            (END.0 - 60, i64::MAX, None),
            (END.0 + 60, END.0, None),
        ] {
            let action = SandboxAction::Extend {
                end: UnixSeconds(end),
                latest: UnixSeconds(latest),
            };
            let after = order(action).apply(&held, NOW);
            let after = after.map(|after| (after.expires_at.unwrap().0, after.lab_duration_hours));
            assert_eq!(after, expected.ok_or(ActionRefusal::EndsLater), "{end}");
        }
    }

    #[test]
    fn extended_inherited_allocation_states_its_end() {
        let inherited = Sandbox {
            is_inherited: true,
            ..sandbox(Status::Allocated, true)
        };
        let after = order(extend(END.0 + 60)).apply(&inherited, NOW).unwrap();
        assert!(!after.is_inherited);
    }

    #[test]
    fn quarantine_keeps_the_holder_and_only_a_never_held_sandbox_returns() {
        let held = sandbox(Status::Allocated, true);
        let aside = order(QUARANTINE).apply(&held, NOW).unwrap();
        assert_eq!((&aside.holder, aside.expires_at), (&held.holder, Some(END)));
        assert_eq!(aside.quarantine.from, Some(Status::Allocated));
        assert_eq!(aside.quarantine.by.as_deref(), Some("jane"));
        let restored = order(SandboxAction::Restore).apply(&aside, NOW);
        assert_eq!(restored, Err(ActionRefusal::HadHolder));
        for status in [Status::Provisioning, Status::Available, Status::Stale] {
            let aside = order(QUARANTINE)
                .apply(&sandbox(status, false), NOW)
                .unwrap();
            let restored = order(SandboxAction::Restore).apply(&aside, NOW).unwrap();
            assert_eq!(restored.status, status);
            assert_eq!(restored.quarantine, Quarantine::default());
        }
    }

    #[test]
    fn checks_of_a_restored_sandbox_begin_anew() {
        let checked = Readiness {
            usable_at: Some(START),
            checked_at: Some(NOW),
            next_check_at: Some(END),
            failures: 5,
            unusable_sec: 1800,
            error: Some("it has no groups yet".to_owned()),
        };
        let mut aside = sandbox(Status::Quarantined, false);
        aside.quarantine.from = Some(Status::Provisioning);
        aside.readiness = checked;
        let restored = order(SandboxAction::Restore).apply(&aside, NOW).unwrap();
        assert_eq!(restored.status, Status::Provisioning);
        let expected = Readiness {
            usable_at: Some(START),
            ..Readiness::default()
        };
        assert_eq!(restored.readiness, expected);
    }

    #[test]
    fn deletion_starts_counting_its_attempts_again() {
        let mut failed = sandbox(Status::DeletionFailed, true);
        failed.maintenance.deletion_retry_count = 9;
        failed.maintenance.next_deletion_at = Some(NOW);
        let after = order(SandboxAction::Delete).apply(&failed, NOW).unwrap();
        assert_eq!(after.maintenance.deletion_retry_count, 0);
        assert_eq!(after.maintenance.next_deletion_at, None);
        assert_eq!(after.deletion_requested_at, Some(NOW));
        assert_eq!(after.released_by.as_deref(), Some("jane"));
    }

    #[test]
    fn state_in_a_record_names_the_holder_but_not_its_key() {
        assert_eq!(
            sandbox(Status::Allocated, true).audit_state(),
            json!({
                "status": "allocated", "allocated_to_track": "play", "track_name": "lab",
                "allocated_at": START.0, "expires_at": END.0
            })
        );
        assert_eq!(never_held().audit_state(), json!({ "status": "available" }));
    }
}
