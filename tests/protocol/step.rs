//! The steps of the model.

use super::state::{CLIENTS, ClaimPrecondition, PAIRS, SANDBOXES};

/// One atomic operation of the table, or an event at a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `PoolStore::claim`. A lost answer that the SDK repeats with the same token is the same step with a slower answer.
    Claim { client: u8, sandbox: u8 },
    /// A transaction that was sent before arrives late or again. Its request may have gone on or be lost.
    LateClaim {
        pair: u8,
        sandbox: u8,
        precondition: ClaimPrecondition,
    },
    /// `Broker::replay_or_refuse`: no candidate; `PoolStore::find_claim`.
    FindClaim { client: u8 },
    /// `Broker::resolve`: `PoolStore::get`, by a clock at which the allocation is overdue or not.
    Resolve { client: u8, is_overdue: bool },
    /// `Broker::resolve`: `PoolStore::expire`.
    ExpireOwn { client: u8 },
    /// The client repeats its request: the broker died, or the answer was lost or ignored.
    Repeat { client: u8 },
    /// `PoolStore::release` by any pair: it may be late or for a sandbox of another pair.
    Release { pair: u8, sandbox: u8 },
    /// Auto-expire: `Change::Expire`, of an allocation that was read with its first or its last end.
    Expire { sandbox: u8, saw_extended: bool },
    /// An operator: `SandboxAction::Release`.
    ReleaseByOperator { sandbox: u8 },
    /// An operator: `SandboxAction::Extend`.
    Extend { sandbox: u8 },
    /// An operator: `SandboxAction::Quarantine`.
    Quarantine { sandbox: u8 },
    /// An operator: `SandboxAction::Restore`. Auto-expire: `Change::EndQuarantine`.
    RestoreQuarantined { sandbox: u8 },
    /// An operator: `SandboxAction::Delete`. Auto-expire: `Change::EndQuarantine`.
    Delete { sandbox: u8 },
    /// Sync with a list of CSP from any earlier time: `Change::Insert`.
    Insert { sandbox: u8 },
    /// Sync: `Change::MarkStale`.
    MarkStale { sandbox: u8 },
    /// Sync: `Change::Restore`.
    Restore { sandbox: u8 },
    /// Sync: `Change::Reinstate`.
    Reinstate { sandbox: u8 },
    /// Auto-delete-stale: `Change::Remove`.
    RemoveStale { sandbox: u8 },
    /// Cleanup: `PoolStore::due_for_deletion`. It may act on the result at any later time or never.
    ReadDue { sandbox: u8 },
    /// Cleanup: `CspClient::delete_account`.
    DeleteAccount { sandbox: u8 },
    /// Cleanup: `Change::Deletion`, deleted.
    RemoveDeleted { sandbox: u8 },
    /// Cleanup: `Change::Deletion` after the last attempt.
    GiveUp { sandbox: u8 },
    /// Cleanup with `retry_failed`: `Change::RetryDeletion`.
    RetryDeletion { sandbox: u8 },
    /// Bulk-delete: `Change::Remove`.
    RemoveFailed { sandbox: u8 },
}

impl Step {
    pub const KINDS: usize = 24;

    /// Returns every step.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CLIENTS)
            .flat_map(Self::of_client)
            .chain((0..SANDBOXES).flat_map(Self::of_sandbox))
            .chain(Self::of_operators(0))
    }

    /// Returns the steps of a client's request.
    pub fn of_client(client: u8) -> impl Iterator<Item = Self> {
        let claims = (0..SANDBOXES).map(move |sandbox| Self::Claim { client, sandbox });
        claims.chain([
            Self::FindClaim { client },
            Self::Resolve {
                client,
                is_overdue: false,
            },
            Self::Resolve {
                client,
                is_overdue: true,
            },
            Self::ExpireOwn { client },
            Self::Repeat { client },
        ])
    }

    fn of_sandbox(sandbox: u8) -> impl Iterator<Item = Self> {
        let of_pair = move |pair| {
            let late = ClaimPrecondition::ALL.map(|precondition| Self::LateClaim {
                pair,
                sandbox,
                precondition,
            });
            late.into_iter().chain([Self::Release { pair, sandbox }])
        };
        (0..PAIRS).flat_map(of_pair).chain([
            Self::Expire {
                sandbox,
                saw_extended: false,
            },
            Self::Insert { sandbox },
            Self::MarkStale { sandbox },
            Self::Restore { sandbox },
            Self::Reinstate { sandbox },
            Self::RemoveStale { sandbox },
            Self::ReadDue { sandbox },
            Self::DeleteAccount { sandbox },
            Self::RemoveDeleted { sandbox },
            Self::GiveUp { sandbox },
            Self::RetryDeletion { sandbox },
            Self::RemoveFailed { sandbox },
        ])
    }

    /// Returns the steps of operators, who act on one of the sandboxes only: the sandboxes are alike, and what an action
    /// breaks shows on it or on another one that a request turns to.
    fn of_operators(sandbox: u8) -> impl Iterator<Item = Self> {
        [
            Self::Extend { sandbox },
            Self::Expire {
                sandbox,
                saw_extended: true,
            },
            Self::ReleaseByOperator { sandbox },
            Self::Quarantine { sandbox },
            Self::RestoreQuarantined { sandbox },
            Self::Delete { sandbox },
        ]
        .into_iter()
    }

    pub const fn kind(self) -> &'static str {
        match self {
            Self::Claim { .. } => "claim",
            Self::LateClaim { .. } => "late claim",
            Self::FindClaim { .. } => "find claim",
            Self::Resolve { .. } => "resolve",
            Self::ExpireOwn { .. } => "expire own",
            Self::Repeat { .. } => "repeat",
            Self::Release { .. } => "release",
            Self::Expire { .. } => "expire",
            Self::ReleaseByOperator { .. } => "release by operator",
            Self::Extend { .. } => "extend",
            Self::Quarantine { .. } => "quarantine",
            Self::RestoreQuarantined { .. } => "restore quarantined",
            Self::Delete { .. } => "delete",
            Self::Insert { .. } => "insert",
            Self::MarkStale { .. } => "mark stale",
            Self::Restore { .. } => "restore",
            Self::Reinstate { .. } => "reinstate",
            Self::RemoveStale { .. } => "remove stale",
            Self::ReadDue { .. } => "read due",
            Self::DeleteAccount { .. } => "delete account",
            Self::RemoveDeleted { .. } => "remove deleted",
            Self::GiveUp { .. } => "give up",
            Self::RetryDeletion { .. } => "retry deletion",
            Self::RemoveFailed { .. } => "remove failed",
        }
    }
}
