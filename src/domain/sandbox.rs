//! A sandbox: the account behind it, its holder, and what the jobs record on it.

use std::time::Duration;

use super::{CallerId, IdempotencyKey, LabId, SandboxId, Status, lab_duration};
use crate::clock::UnixSeconds;

/// The account behind a sandbox, as CSP describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `csp_id`.
    pub sandbox_id: SandboxId,
    /// The account's name.
    pub name: String,
    /// CSP's resource id, `identity/accounts/<uuid>`.
    pub external_id: String,
    /// The Salesforce account, where CSP knows one.
    pub sfdc_account_id: Option<String>,
    /// When CSP created it.
    pub created_at: Option<UnixSeconds>,
}

/// Who holds, or last held, a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The play.
    pub caller: CallerId,
    /// The key it asked with.
    pub key: IdempotencyKey,
    /// Its lab.
    pub lab: Option<LabId>,
}

/// One sandbox as the table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The account.
    pub account: Account,
    /// Its state.
    pub status: Status,
    /// Its holder, kept after the sandbox is given back.
    pub holder: Option<Holder>,
    /// When it was allocated; 0 if it never was.
    pub allocated_at: UnixSeconds,
    /// How long its allocation lasts, in hours.
    pub lab_duration_hours: u32,
    /// When it was given back or expired.
    pub deletion_requested_at: Option<UnixSeconds>,
    /// What the jobs note on it.
    pub maintenance: Maintenance,
}

/// What the jobs note on a sandbox, for the next run and for admins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Attempts to delete it from CSP that failed.
    pub deletion_retry_count: u32,
    /// When the next attempt is due; at once if absent.
    pub next_deletion_at: Option<UnixSeconds>,
    /// Why the last attempt failed.
    pub deletion_error: Option<String>,
    /// When a sync last wrote it.
    pub last_synced: Option<UnixSeconds>,
    /// When anything last wrote it.
    pub updated_at: Option<UnixSeconds>,
    /// When its NIOSXaaS services were deleted.
    pub niosxaas_cleaned_at: Option<UnixSeconds>,
    /// Why its NIOSXaaS services were left alone.
    pub niosxaas_cleanup_skipped: Option<String>,
    /// Why its NIOSXaaS services could not be deleted.
    pub niosxaas_cleanup_failed_reason: Option<String>,
}

impl Sandbox {
    /// The sandbox's id.
    #[must_use]
    pub const fn id(&self) -> &SandboxId {
        &self.account.sandbox_id
    }

    /// When the allocation ends; `None` for a sandbox that never had one.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        (self.allocated_at.0 > 0).then(|| self.allocated_at + lab_duration(self.lab_duration_hours))
    }

    /// Whether `caller` is the holder, or was the last one.
    #[must_use]
    pub fn belongs_to(&self, caller: &CallerId) -> bool {
        self.holder
            .as_ref()
            .is_some_and(|holder| &holder.caller == caller)
    }

    /// Whether it was given to this pair, and to no other since.
    #[must_use]
    pub fn is_held_by(&self, caller: &CallerId, key: &IdempotencyKey) -> bool {
        self.holder
            .as_ref()
            .is_some_and(|holder| &holder.caller == caller && &holder.key == key)
    }

    /// Whether the allocation and its grace period are over at `now`.
    #[must_use]
    pub fn is_overdue(&self, now: UnixSeconds, grace: Duration) -> bool {
        self.expires_at()
            .is_none_or(|expires_at| now > expires_at + grace)
    }
}
