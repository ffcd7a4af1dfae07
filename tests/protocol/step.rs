//! The steps of the model.

use super::state::{CLIENTS, ClaimPrecondition, LATEST, PAIRS, SANDBOXES};

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
    /// The client asks for another sandbox in place of one that its pair has or had.
    AskReplacement { client: u8, old: u8 },
    /// `Broker::replace`: `PoolStore::get`.
    ReadOld { client: u8 },
    /// `PoolStore::replace`.
    Replace { client: u8, new: u8 },
    /// `Broker::replace`: no candidate is left.
    FindNone { client: u8 },
    /// `PoolStore::replace` of another request of the pair, or of an earlier attempt that arrives late or again.
    LateReplace { pair: u8, old: u8, new: u8, saw: u8 },
    /// `PoolStore::release` by any pair: it may be late or for a sandbox of another pair.
    Release { pair: u8, sandbox: u8 },
    /// Auto-expire: `Change::Expire`, of an allocation that was read with this end.
    Expire { sandbox: u8, saw: u8 },
    /// `PoolStore::extend` for a pair, or for an operator: to an end from another one, which was read at any earlier time.
    Extend {
        by: Option<u8>,
        sandbox: u8,
        saw: u8,
        to: u8,
    },
    /// The database removes a claim some time after its end.
    LoseClaim { pair: u8 },
    /// An operator: `SandboxAction::Release`.
    ReleaseByOperator { sandbox: u8 },
    /// An operator: `SandboxAction::Quarantine`.
    Quarantine { sandbox: u8 },
    /// An operator: `SandboxAction::Restore`. Auto-expire: `Change::EndQuarantine`.
    RestoreQuarantined { sandbox: u8 },
    /// An operator: `SandboxAction::Delete`. Auto-expire: `Change::EndQuarantine`.
    Delete { sandbox: u8 },
    /// Sync with a list of CSP from any earlier time: `Change::Insert`.
    Insert { sandbox: u8 },
    /// Sync, with checks: `Change::Insert` as `provisioning`.
    InsertToCheck { sandbox: u8 },
    /// `Change::Check`: the account is usable. `Change::Provide`: it is no longer checked.
    Provide { sandbox: u8 },
    /// `Change::Check`: the account is not usable for too long, or broken.
    QuarantineByCheck { sandbox: u8 },
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

/// A part of the protocol that is explored on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Allocations, and every job and operator that changes the pool.
    Pool,
    /// Extensions and replacements, beside allocations, releases, expiry and deletions. The other jobs and operators change
    /// no sandbox that is held but by a retirement, as a release does.
    Leases,
}

impl Part {
    /// Returns every step.
    pub fn steps(self) -> impl Iterator<Item = Step> {
        let of_sandboxes = match self {
            Self::Pool => Step::of_pool,
            Self::Leases => Step::of_leases,
        };
        (0..CLIENTS)
            .flat_map(move |client| Step::of_client(self, client))
            .chain((0..SANDBOXES).flat_map(Step::of_sandbox))
            .chain(of_sandboxes())
    }
}

impl Step {
    pub const KINDS: usize = 33;

    /// Returns the steps of a client's request.
    pub fn of_client(part: Part, client: u8) -> impl Iterator<Item = Self> {
        let claims = (0..SANDBOXES).map(move |sandbox| Self::Claim { client, sandbox });
        let replacements = (0..SANDBOXES).flat_map(move |sandbox| {
            [
                Self::AskReplacement {
                    client,
                    old: sandbox,
                },
                Self::Replace {
                    client,
                    new: sandbox,
                },
            ]
        });
        let replacements =
            replacements.chain([Self::ReadOld { client }, Self::FindNone { client }]);
        claims
            .chain([
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
            .chain(replacements.filter(move |_| part == Part::Leases))
    }

    /// Returns the steps of both parts.
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
            Self::Expire { sandbox, saw: 0 },
            Self::ReadDue { sandbox },
            Self::DeleteAccount { sandbox },
            Self::RemoveDeleted { sandbox },
        ])
    }

    fn of_pool() -> Vec<Self> {
        let of_sandbox = |sandbox| {
            [
                Self::Insert { sandbox },
                Self::MarkStale { sandbox },
                Self::Restore { sandbox },
                Self::Reinstate { sandbox },
                Self::RemoveStale { sandbox },
                Self::GiveUp { sandbox },
                Self::RetryDeletion { sandbox },
                Self::RemoveFailed { sandbox },
            ]
        };
        // Operators and checks act on one of the sandboxes only: the sandboxes are alike, and what an action breaks shows
        // on it or on another one that a request turns to.
        let sandbox = 0;
        let of_checks = [
            Self::InsertToCheck { sandbox },
            Self::Provide { sandbox },
            Self::QuarantineByCheck { sandbox },
        ];
        let of_operators = [
            Self::Extend {
                by: None,
                sandbox,
                saw: 0,
                to: 1,
            },
            Self::Expire { sandbox, saw: 1 },
            Self::ReleaseByOperator { sandbox },
            Self::Quarantine { sandbox },
            Self::RestoreQuarantined { sandbox },
            Self::Delete { sandbox },
        ];
        let of_jobs = (0..SANDBOXES).flat_map(of_sandbox);
        of_jobs.chain(of_checks).chain(of_operators).collect()
    }

    fn of_leases() -> Vec<Self> {
        let late = |pair| {
            (0..=LATEST).flat_map(move |saw| {
                [(0, 1), (1, 0)].map(|(old, new)| Self::LateReplace {
                    pair,
                    old,
                    new,
                    saw,
                })
            })
        };
        let moves = (0..LATEST).flat_map(|saw| (saw + 1..=LATEST).map(move |to| (saw, to)));
        let authors = (0..PAIRS).map(Some).chain([None]);
        let extensions = authors.flat_map(move |by| {
            moves.clone().flat_map(move |(saw, to)| {
                (0..SANDBOXES).map(move |sandbox| Self::Extend {
                    by,
                    sandbox,
                    saw,
                    to,
                })
            })
        });
        let ends = (0..SANDBOXES)
            .flat_map(|sandbox| (1..=LATEST).map(move |saw| Self::Expire { sandbox, saw }));
        (0..PAIRS)
            .flat_map(late)
            .chain((0..PAIRS).map(|pair| Self::LoseClaim { pair }))
            .chain(ends)
            .chain(extensions)
            .collect()
    }

    pub const fn kind(self) -> &'static str {
        match self {
            Self::Claim { .. } => "claim",
            Self::LateClaim { .. } => "late claim",
            Self::FindClaim { .. } => "find claim",
            Self::Resolve { .. } => "resolve",
            Self::ExpireOwn { .. } => "expire own",
            Self::Repeat { .. } => "repeat",
            Self::AskReplacement { .. } => "ask for a replacement",
            Self::ReadOld { .. } => "read old",
            Self::Replace { .. } => "replace",
            Self::FindNone { .. } => "find none",
            Self::LateReplace { .. } => "late replace",
            Self::LoseClaim { .. } => "lose claim",
            Self::Release { .. } => "release",
            Self::Expire { .. } => "expire",
            Self::ReleaseByOperator { .. } => "release by operator",
            Self::Extend { .. } => "extend",
            Self::Quarantine { .. } => "quarantine",
            Self::RestoreQuarantined { .. } => "restore quarantined",
            Self::Delete { .. } => "delete",
            Self::Insert { .. } => "insert",
            Self::InsertToCheck { .. } => "insert to check",
            Self::Provide { .. } => "provide",
            Self::QuarantineByCheck { .. } => "quarantine by check",
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
