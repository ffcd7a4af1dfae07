//! The changes of releases, operators and jobs to one sandbox, each with the condition of its write.

use super::{
    promise::Condition,
    protocol::Protocol,
    state::{Item, Sandbox},
    step::Step,
};

impl Protocol {
    /// Returns the sandbox after the step; `None` if the condition of the step does not hold.
    pub fn changed(&self, of: Sandbox, step: Step) -> Option<Sandbox> {
        match step {
            Step::Release { pair, .. } => self.released(of, pair),
            Step::Expire { saw, .. } => self.expired(of, saw),
            Step::ReleaseByOperator { .. }
            | Step::Quarantine { .. }
            | Step::RestoreQuarantined { .. }
            | Step::Delete { .. } => self.acted(of, step),
            Step::InsertToCheck { .. } | Step::Provide { .. } | Step::QuarantineByCheck { .. } => {
                self.checked(of, step)
            }
            Step::Insert { .. }
            | Step::MarkStale { .. }
            | Step::Restore { .. }
            | Step::Reinstate { .. } => self.synced(of, step),
            Step::RemoveStale { .. } | Step::RemoveDeleted { .. } | Step::RemoveFailed { .. } => {
                self.removed(of, step)
            }
            _ => self.cleaned(of, step),
        }
    }

    /// Returns whether a condition holds or is left out. An absent item is never updated.
    pub fn allows(&self, of: Sandbox, holds: bool, condition: Condition) -> bool {
        holds || (of.item != Item::Absent && !self.has(condition))
    }

    fn released(&self, of: Sandbox, pair: u8) -> Option<Sandbox> {
        let Item::Allocated(holder) = of.item else {
            return None;
        };
        self.allows(of, holder == pair, Condition::ReleaseOnlyByTheHolder)
            .then_some(with(of, Item::Pending))
    }

    /// Returns the sandbox after an expiry by a run that has read its allocation with this end.
    pub fn expired(&self, of: Sandbox, saw: u8) -> Option<Sandbox> {
        let is_possible = saw <= of.end;
        let has_same_end = saw == of.end;
        let is_allowed = self.allows(of, has_same_end, Condition::ExpireOnlyWithTheSameEnd);
        let is_allocated = matches!(of.item, Item::Allocated(_));
        (is_allocated && is_possible && is_allowed).then_some(with(of, Item::Pending))
    }

    /// Returns the sandbox after an action of an operator.
    fn acted(&self, of: Sandbox, step: Step) -> Option<Sandbox> {
        let is_held = matches!(of.item, Item::Allocated(_));
        let is_being_deleted = matches!(of.item, Item::Pending | Item::Failed);
        let is_quarantined = matches!(of.item, Item::Quarantined | Item::UsedAndQuarantined);
        let (item, is_allowed) = match step {
            Step::ReleaseByOperator { .. } => (Item::Pending, is_held),
            Step::Quarantine { .. } => {
                let condition = Condition::QuarantineNothingBeingDeleted;
                let is_allowed = self.allows(of, !is_being_deleted, condition);
                (quarantined(of), is_allowed && !is_quarantined)
            }
            Step::RestoreQuarantined { .. } => {
                let condition = Condition::RestoreQuarantinedOnlyNeverHeld;
                let was_never_held = self.allows(of, !of.had_holder, condition);
                let condition = Condition::RestoreOnlyQuarantined;
                let is_allowed = self.allows(of, is_quarantined, condition);
                let is_checked = !self.has(Condition::RestoreQuarantinedToTheCheck);
                (waiting(of, is_checked), is_allowed && was_never_held)
            }
            _ => {
                let is_allowed = self.allows(of, !is_held, Condition::DeleteNothingHeld);
                (Item::Pending, is_allowed && of.item != Item::Pending)
            }
        };
        (is_allowed && of.item != Item::Absent).then_some(with(of, item))
    }

    /// Returns the sandbox after a step of the checks.
    fn checked(&self, of: Sandbox, step: Step) -> Option<Sandbox> {
        let is_provisioning = of.item == Item::Provisioning;
        match step {
            Step::InsertToCheck { .. } => {
                let inserted = self.synced(of, Step::Insert { sandbox: 0 })?;
                Some(Sandbox {
                    item: Item::Provisioning,
                    is_unchecked: true,
                    ..inserted
                })
            }
            Step::Provide { .. } => {
                let condition = Condition::ProvideOnlyProvisioning;
                let is_allowed = self.allows(of, is_provisioning, condition);
                is_allowed.then_some(Sandbox {
                    is_unchecked: false,
                    ..with(of, Item::Available)
                })
            }
            _ => {
                let is_waiting = is_provisioning || of.item == Item::Available;
                let condition = Condition::QuarantineByCheckOnlyWaiting;
                let is_allowed = self.allows(of, is_waiting, condition);
                is_allowed.then_some(with(of, quarantined(of)))
            }
        }
    }

    fn synced(&self, of: Sandbox, step: Step) -> Option<Sandbox> {
        let (item, is_allowed) = match step {
            Step::Insert { .. } => {
                let is_new = !of.has_tombstone || !self.has(Condition::InsertOnlyWithoutTombstone);
                let is_absent = of.item == Item::Absent;
                let is_allowed = self.allows(of, is_absent, Condition::InsertOnlyAbsent);
                (Item::Available, is_new && is_allowed)
            }
            Step::MarkStale { .. } => {
                let is_waiting = matches!(of.item, Item::Provisioning | Item::Available);
                let condition = Condition::MarkStaleOnlyWaiting;
                (Item::Stale, self.allows(of, is_waiting, condition))
            }
            Step::Restore { .. } if of.item == Item::UsedAndStale => {
                let condition = Condition::RestoreOnlyNeverHeld;
                (Item::Available, self.allows(of, false, condition))
            }
            Step::Restore { .. } => {
                let is_stale = of.item == Item::Stale;
                let condition = Condition::RestoreOnlyStale;
                let is_checked = !self.has(Condition::RestoreToTheCheck);
                let is_allowed = self.allows(of, is_stale, condition);
                (waiting(of, is_checked), is_allowed)
            }
            _ => return self.reinstated(of),
        };
        is_allowed.then_some(with(of, item))
    }

    fn reinstated(&self, of: Sandbox) -> Option<Sandbox> {
        let item = if self.has(Condition::ReinstateForDeletion) {
            Item::Pending
        } else {
            Item::Available
        };
        (of.item == Item::Absent && of.has_tombstone).then_some(Sandbox {
            has_tombstone: false,
            ..with(of, item)
        })
    }

    fn removed(&self, of: Sandbox, step: Step) -> Option<Sandbox> {
        let (is_allowed, leaves_tombstone) = match (step, of.item) {
            (Step::RemoveDeleted { .. }, Item::Pending) => {
                (of.is_due, self.has(Condition::TombstoneForDeleted))
            }
            (Step::RemoveFailed { .. }, Item::Failed) => {
                (true, self.has(Condition::TombstoneForFailed))
            }
            (Step::RemoveStale { .. }, Item::UsedAndStale) => {
                (true, self.has(Condition::TombstoneForUsedAndStale))
            }
            (Step::RemoveStale { .. }, item) => {
                let is_stale = item == Item::Stale;
                let condition = Condition::RemoveOnlyStale;
                (self.allows(of, is_stale, condition), false)
            }
            _ => return None,
        };
        is_allowed.then_some(Sandbox {
            has_tombstone: of.has_tombstone || leaves_tombstone,
            ..with(of, Item::Absent)
        })
    }

    fn cleaned(&self, of: Sandbox, step: Step) -> Option<Sandbox> {
        let is_pending = of.item == Item::Pending;
        match step {
            Step::ReadDue { .. } => {
                let condition = Condition::DeleteOnlyPending;
                let is_due = self.allows(of, is_pending, condition);
                is_due.then_some(Sandbox { is_due, ..of })
            }
            Step::DeleteAccount { .. } => of.is_due.then_some(of),
            Step::GiveUp { .. } => (is_pending && of.is_due).then_some(with(of, Item::Failed)),
            Step::RetryDeletion { .. } => {
                let has_failed = of.item == Item::Failed;
                let condition = Condition::RetryOnlyFailed;
                let is_allowed = self.allows(of, has_failed, condition);
                is_allowed.then_some(with(of, Item::Pending))
            }
            _ => None,
        }
    }
}

/// Returns the status of a sandbox that waits for a holder again: it is checked first unless it was, or is taken to be.
fn waiting(of: Sandbox, is_checked: bool) -> Item {
    if of.is_unchecked && !is_checked {
        Item::Provisioning
    } else {
        Item::Available
    }
}

fn quarantined(of: Sandbox) -> Item {
    if of.had_holder {
        Item::UsedAndQuarantined
    } else {
        Item::Quarantined
    }
}

fn with(of: Sandbox, item: Item) -> Sandbox {
    Sandbox { item, ..of }
}
