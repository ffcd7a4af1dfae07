//! A sandbox: its account, its holder, and the attributes that jobs maintain.

use std::time::Duration;

use super::{CallerId, IdempotencyKey, LabId, Lease, SandboxId, Status, Transition};
use crate::clock::UnixSeconds;

/// The account behind a sandbox, as CSP describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `csp_id`, which is also the sandbox's id.
    pub sandbox_id: SandboxId,
    /// The account's name.
    pub name: String,
    /// CSP's resource id, `identity/accounts/<uuid>`.
    pub external_id: String,
    /// The id of the Salesforce account, if CSP lists one.
    pub sfdc_account_id: Option<String>,
    /// Creation of the account in CSP.
    pub created_at: Option<UnixSeconds>,
}

/// Returns the part of an external id that identifies the account: the last one. CSP may list an account with or without
/// `identity/accounts/`.
#[must_use]
pub fn account_key(external_id: &str) -> &str {
    external_id.rsplit('/').next().unwrap_or_default()
}

/// The current or last holder of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The play that allocated the sandbox.
    pub caller: CallerId,
    /// The idempotency key of the allocation.
    pub key: IdempotencyKey,
    /// The lab of the play.
    pub lab: Option<LabId>,
}

/// One sandbox, as stored in the pool's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its CSP account.
    pub account: Account,
    /// When sync inserted it; `None` if an earlier version or another service did.
    pub inserted_at: Option<UnixSeconds>,
    /// Its status.
    pub status: Status,
    /// Its holder, or its last holder once the allocation is retired. An allocated sandbox whose item names no caller
    /// has none; it can only expire.
    pub holder: Option<Holder>,
    /// Start of the allocation; 0 if the sandbox was never allocated.
    pub allocated_at: UnixSeconds,
    /// End of the allocation, without the grace period; `None` if the sandbox was never allocated.
    pub expires_at: Option<UnixSeconds>,
    /// Whether the allocation is inherited: made by the FastAPI service. Its end is computed from the configured
    /// duration.
    pub is_inherited: bool,
    /// Duration of the allocation, in hours.
    pub lab_duration_hours: u32,
    /// Time of the release or expiry.
    pub deletion_requested_at: Option<UnixSeconds>,
    /// The name of the principal or job that released or deleted it, if the item says so.
    pub released_by: Option<String>,
    /// The name prefix of the allocation, and its extensions, replacement and quota slot.
    pub lease: Lease,
    /// The checks of its account.
    pub readiness: Readiness,
    /// Its current quarantine, or the one that ended with its deletion.
    pub quarantine: Quarantine,
    /// Attributes that jobs maintain.
    pub maintenance: Maintenance,
}

/// The results of the checks of an account. Without any attribute if it was never checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// When the account was first found usable.
    pub usable_at: Option<UnixSeconds>,
    /// The last check that CSP answered.
    pub checked_at: Option<UnixSeconds>,
    /// The earliest time of the next check; `None` means immediately.
    pub next_check_at: Option<UnixSeconds>,
    /// The number of answers in a row that the account is broken.
    pub failures: u32,
    /// For how many seconds the account has been observed as not usable yet.
    pub unusable_sec: u32,
    /// The last answer that the account is broken, or not usable yet.
    pub error: Option<String>,
}

/// The quarantine of a sandbox, as an operator or a check set it. Without any attribute in a sandbox that is not in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    /// The name of the operator.
    pub by: Option<String>,
    /// When it began.
    pub at: Option<UnixSeconds>,
    /// The reason that the operator gave.
    pub reason: Option<String>,
    /// When auto-expire ends it; `None` if only an operator does.
    pub until: Option<UnixSeconds>,
    /// The status that the sandbox left, and to which it returns: `allocated` if it had a holder, and so never returns;
    /// else `available`, or `stale` if CSP does not list it, which sync keeps up to date.
    pub from: Option<Status>,
}

/// Attributes of a sandbox that jobs maintain, for their next run and for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Failed attempts to delete it from CSP.
    pub deletion_retry_count: u32,
    /// Earliest time of the next deletion attempt; `None` means immediately.
    pub next_deletion_at: Option<UnixSeconds>,
    /// The error of the last deletion attempt.
    pub deletion_error: Option<String>,
    /// Last write by the sync job.
    pub last_synced: Option<UnixSeconds>,
    /// Last write by any component.
    pub updated_at: Option<UnixSeconds>,
    /// Time when its NIOSXaaS services were deleted.
    pub niosxaas_cleaned_at: Option<UnixSeconds>,
    /// The reason why its NIOSXaaS services were skipped.
    pub niosxaas_cleanup_skipped: Option<String>,
    /// The reason why its NIOSXaaS services could not be deleted.
    pub niosxaas_cleanup_failed_reason: Option<String>,
}

impl Sandbox {
    /// Returns the sandbox's id.
    #[must_use]
    pub const fn id(&self) -> &SandboxId {
        &self.account.sandbox_id
    }

    /// Returns whether the sandbox has, or had, a holder, as far as its item says. One that was set aside while it was
    /// `allocated` had one, even if the item names nobody.
    #[must_use]
    pub const fn was_held(&self) -> bool {
        self.expires_at.is_some()
            || self.holder.is_some()
            || matches!(self.quarantine.from, Some(Status::Allocated))
    }

    /// Returns the transition that ends its quarantine when its time is over: a sandbox that never had a holder returns
    /// to the pool, any other is deleted.
    #[must_use]
    pub const fn quarantine_end(&self) -> Transition {
        if self.was_held() {
            Transition::Delete {
                from: Status::Quarantined,
            }
        } else {
            Transition::restore_quarantined(self.quarantine.from)
        }
    }

    /// Returns whether `caller` is the current or last holder.
    #[must_use]
    pub fn belongs_to(&self, caller: &CallerId) -> bool {
        self.holder
            .as_ref()
            .is_some_and(|holder| &holder.caller == caller)
    }

    /// Returns whether the pair of `caller` and `key` is the current or last holder.
    #[must_use]
    pub fn is_held_by(&self, caller: &CallerId, key: &IdempotencyKey) -> bool {
        self.holder
            .as_ref()
            .is_some_and(|holder| &holder.caller == caller && &holder.key == key)
    }

    /// Returns the lab of its current or last holder.
    #[must_use]
    pub fn lab(&self) -> Option<&LabId> {
        self.holder.as_ref()?.lab.as_ref()
    }

    /// Returns whether the allocation and its grace period are over at `now`. A sandbox that was never allocated counts
    /// as overdue.
    #[must_use]
    pub fn is_overdue(&self, now: UnixSeconds, grace: Duration) -> bool {
        self.expires_at
            .is_none_or(|expires_at| now > expires_at + grace)
    }
}

#[cfg(test)]
impl Sandbox {
    /// Returns a sandbox for tests, which is available and was never held.
    pub(crate) fn available(account: Account) -> Self {
        Self {
            account,
            inserted_at: None,
            status: Status::Available,
            holder: None,
            allocated_at: UnixSeconds(0),
            expires_at: None,
            is_inherited: false,
            lab_duration_hours: 4,
            deletion_requested_at: None,
            released_by: None,
            lease: Lease::default(),
            readiness: Readiness::default(),
            quarantine: Quarantine::default(),
            maintenance: Maintenance::default(),
        }
    }
}
