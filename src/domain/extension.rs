//! Extensions: the end of an allocation moves to a later time.

use std::time::Duration;

use super::{Bounds, CallerId, Policy, Sandbox, SandboxId, Status, whole_hours};
use crate::clock::UnixSeconds;

/// The extension of an allocation that its holder requests.
#[derive(Clone, Copy, Debug)]
pub struct ExtensionOrder<'a> {
    /// The caller, who must be the holder.
    pub caller: &'a CallerId,
    /// The bounds of the caller's principal.
    pub bounds: &'a Bounds,
    /// The end that is wanted. It may be later than the holder's lab permits.
    pub end: UnixSeconds,
    /// The policy, whose terms of the holder's lab limit the end.
    pub policy: &'a Policy,
    /// The grace period, in which an allocation can still be extended.
    pub grace: Duration,
}

/// Why an extension changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionRefusal {
    /// The caller is neither the holder nor the last one.
    NotOwner,
    /// The sandbox is outside of the bounds of the caller's principal.
    NotAllowed,
    /// The caller was the holder, and the allocation was ended by a release, expiry, replacement or quarantine.
    Ended {
        /// The sandbox that replaced this one.
        replaced_by: Option<SandboxId>,
    },
    /// The allocation and its grace period are over.
    Overdue {
        /// When the allocation ended.
        expires_at: Option<UnixSeconds>,
    },
    /// The allocation already ends at the wanted time, or later. Contains the sandbox.
    EndsLater(Box<Sandbox>),
    /// The allocation already ends as late as its lab permits, or later.
    Limit {
        /// When it ends.
        expires_at: UnixSeconds,
        /// The longest duration that the lab permits.
        max_duration: Duration,
    },
}

impl ExtensionOrder<'_> {
    /// Returns `sandbox` as it is after the extension at `now`.
    ///
    /// # Errors
    /// [`ExtensionRefusal`] if nothing is to be written.
    pub fn apply(&self, sandbox: &Sandbox, now: UnixSeconds) -> Result<Sandbox, ExtensionRefusal> {
        if !sandbox.belongs_to(self.caller) {
            return Err(ExtensionRefusal::NotOwner);
        }
        if !self.bounds.allow_sandbox(sandbox) {
            return Err(ExtensionRefusal::NotAllowed);
        }
        match sandbox.status {
            Status::Allocated => {}
            Status::PendingDeletion | Status::DeletionFailed | Status::Quarantined => {
                let replaced_by = sandbox.lease.replaced_by.clone();
                return Err(ExtensionRefusal::Ended { replaced_by });
            }
            Status::Provisioning | Status::Available | Status::Stale => {
                return Err(ExtensionRefusal::NotOwner);
            }
        }
        let expires_at = match sandbox.expires_at {
            Some(expires_at) if !sandbox.is_overdue(now, self.grace) => expires_at,
            expires_at => return Err(ExtensionRefusal::Overdue { expires_at }),
        };
        if self.end <= expires_at {
            return Err(ExtensionRefusal::EndsLater(Box::new(sandbox.clone())));
        }
        let latest = self.policy.latest_end(sandbox).unwrap_or(expires_at);
        sandbox
            .extended(self.end.min(latest), now)
            .ok_or_else(|| ExtensionRefusal::Limit {
                expires_at,
                max_duration: self.policy.terms_of(sandbox.lab()).max_duration,
            })
    }
}

impl Sandbox {
    /// Returns the sandbox with its allocation extended to `end` at `now`; `None` if the allocation already ends then or
    /// later. Without an end the item has no valid start either, so a stated end would not count: `None`, too.
    #[must_use]
    pub fn extended(&self, end: UnixSeconds, now: UnixSeconds) -> Option<Self> {
        if self.expires_at.is_none_or(|current| end <= current) {
            return None;
        }
        let mut extended = self.clone();
        extended.expires_at = Some(end);
        extended.is_inherited = false;
        extended.lab_duration_hours = whole_hours(self.allocated_at, end);
        extended.lease.extensions = self.lease.extensions.saturating_add(1);
        extended.lease.extended_at = Some(now);
        extended.maintenance.updated_at = Some(now);
        Some(extended)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Account, Holder, IdempotencyKey, LabId, LeaseTerms};

    const START: UnixSeconds = UnixSeconds(1_774_000_000);
    const HOUR: Duration = Duration::from_hours(1);
    const GRACE: Duration = Duration::from_mins(30);

    fn sandbox(status: Status, expires_at: Option<UnixSeconds>) -> Sandbox {
        let account = Account {
            sandbox_id: SandboxId::stored("2009521"),
            name: "lab-1".to_owned(),
            external_id: "identity/accounts/1".to_owned(),
            sfdc_account_id: None,
            created_at: None,
        };
        Sandbox {
            status,
            holder: Some(Holder {
                caller: CallerId::stored("play"),
                key: IdempotencyKey::stored("key"),
                lab: Some(LabId::stored("lab")),
            }),
            allocated_at: START,
            expires_at,
            ..Sandbox::available(account)
        }
    }

    /// The policy whose labs have a maximum of `hours`.
    fn policy(hours: u32) -> Policy {
        Policy::of_environment(LeaseTerms {
            lab_duration_hours: hours,
            inherited_hours: hours,
            grace: GRACE,
        })
    }

    fn extend(
        sandbox: &Sandbox,
        span: Duration,
        maximum: u32,
        now: UnixSeconds,
    ) -> Result<Sandbox, ExtensionRefusal> {
        let order = ExtensionOrder {
            caller: &CallerId::stored("play"),
            bounds: &Bounds::default(),
            end: now + span,
            policy: &policy(maximum),
            grace: GRACE,
        };
        order.apply(sandbox, now)
    }

    #[test]
    fn end_is_the_wanted_one_at_most_that_of_the_lab_and_never_earlier_than_before() {
        let end = START + HOUR * 4;
        let held = sandbox(Status::Allocated, Some(end));
        let now = START + HOUR * 3;
        let extended = extend(&held, HOUR * 2, 8, now).unwrap();
        assert_eq!(extended.expires_at, Some(START + HOUR * 5));
        assert_eq!(extended.lab_duration_hours, 5);
        assert_eq!(
            (extended.lease.extensions, extended.lease.extended_at),
            (1, Some(now))
        );
        let extended = extend(&extended, HOUR * 9, 8, now + HOUR).unwrap();
        assert_eq!(extended.expires_at, Some(START + HOUR * 8));
        assert_eq!(
            (extended.lease.extensions, extended.lease.extended_at),
            (2, Some(now + HOUR))
        );
        for (span, maximum, refusal) in [
            (HOUR, 8, ExtensionRefusal::EndsLater(Box::new(held.clone()))),
            // Also beyond a maximum that has been lowered since.
            (HOUR, 2, ExtensionRefusal::EndsLater(Box::new(held.clone()))),
            (
                HOUR * 2,
                4,
                ExtensionRefusal::Limit {
                    expires_at: end,
                    max_duration: HOUR * 4,
                },
            ),
            (
                HOUR * 2,
                2,
                ExtensionRefusal::Limit {
                    expires_at: end,
                    max_duration: HOUR * 2,
                },
            ),
        ] {
            assert_eq!(extend(&held, span, maximum, now), Err(refusal));
        }
    }

    #[test]
    fn allocation_is_extended_until_its_grace_period_is_over() {
        let end = START + HOUR * 4;
        let held = sandbox(Status::Allocated, Some(end));
        assert!(extend(&held, HOUR, 8, end + GRACE).is_ok());
        let late = end + GRACE + Duration::from_secs(1);
        let expires_at = Some(end);
        let overdue = ExtensionRefusal::Overdue { expires_at };
        assert_eq!(extend(&held, HOUR, 8, late), Err(overdue));
        let never = sandbox(Status::Allocated, None);
        let overdue = ExtensionRefusal::Overdue { expires_at: None };
        assert_eq!(extend(&never, HOUR, 8, START), Err(overdue));
    }

    #[test]
    fn only_the_holder_extends_and_the_last_one_learns_that_the_allocation_has_ended() {
        for status in Status::ALL {
            let mut sandbox = sandbox(status, Some(START + HOUR));
            sandbox.lease.replaced_by = Some(SandboxId::stored("2009522"));
            let refusal = extend(&sandbox, HOUR * 2, 8, START).err();
            let expected = match status {
                Status::Allocated => None,
                Status::Provisioning | Status::Available | Status::Stale => {
                    Some(ExtensionRefusal::NotOwner)
                }
                _ => Some(ExtensionRefusal::Ended {
                    replaced_by: sandbox.lease.replaced_by.clone(),
                }),
            };
            assert_eq!(refusal, expected, "{status}");
            sandbox.holder.as_mut().unwrap().caller = CallerId::stored("another");
            let refusal = extend(&sandbox, HOUR * 2, 8, START);
            assert_eq!(refusal, Err(ExtensionRefusal::NotOwner), "{status}");
        }
    }

    #[test]
    fn sandbox_outside_of_the_bounds_is_not_extended() {
        let held = sandbox(Status::Allocated, Some(START + HOUR));
        let other = Bounds {
            name_prefixes: vec!["other-".to_owned()],
            ..Bounds::default()
        };
        let order = ExtensionOrder {
            caller: &CallerId::stored("play"),
            bounds: &other,
            end: START + HOUR * 2,
            policy: &policy(8),
            grace: GRACE,
        };
        let refusal = order.apply(&held, START);
        assert_eq!(refusal, Err(ExtensionRefusal::NotAllowed));
    }

    proptest! {
        /// Of any number of extensions in any order, under clocks and policies that differ, none takes anything away.
        #[test]
        fn end_and_count_only_grow(
            orders in proptest::collection::vec((0_u32..20, 1_u64..40_000, 0_u64..200_000), 1..12)
        ) {
            let mut stored = sandbox(Status::Allocated, Some(START + HOUR * 2));
            for (maximum, minutes, at) in orders {
                let span = Duration::from_mins(minutes);
                let now = START + Duration::from_secs(at);
                let before = stored.clone();
                match extend(&before, span, maximum, now) {
                    Ok(after) => {
                        prop_assert!(after.expires_at > before.expires_at);
                        prop_assert!(after.expires_at <= Some(now + span));
                        prop_assert!(after.expires_at <= Some(START + HOUR * maximum));
                        prop_assert_eq!(after.lease.extensions, before.lease.extensions + 1);
                        stored = after;
                    }
                    Err(ExtensionRefusal::EndsLater(unchanged)) => {
                        prop_assert!(unchanged.expires_at >= Some(now + span));
                    }
                    Err(ExtensionRefusal::Limit { expires_at, max_duration }) => {
                        prop_assert!(START + max_duration <= expires_at);
                    }
                    Err(refusal) => {
                        let is_overdue = matches!(refusal, ExtensionRefusal::Overdue { .. });
                        prop_assert!(is_overdue && before.is_overdue(now, GRACE));
                    }
                }
            }
        }
    }
}
