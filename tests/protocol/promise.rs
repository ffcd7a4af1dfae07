//! What must hold, and what it rests on.

use std::fmt;

/// What breaks if a condition is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    NeverAgain,
    OneSandbox,
    ClaimPoints,
    HoldsWhatItIsTold,
    HolderIsNotRefused,
    HolderKeeps,
    NothingHeldIsDeleted,
    Answers,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverAgain => "A, E: a sandbox that had a holder is given to somebody",
            Self::OneSandbox => "B: a pair holds two sandboxes",
            Self::ClaimPoints => "the holder's claim points elsewhere",
            Self::HoldsWhatItIsTold => "a client is told of a sandbox that it does not hold",
            Self::HolderIsNotRefused => "a client is told that none is left while it holds one",
            Self::HolderKeeps => "a holder loses its sandbox without release or expiry",
            Self::NothingHeldIsDeleted => "a sandbox that somebody holds or may get is deleted",
            Self::Answers => "a client that runs alone gets no answer",
        })
    }
}

/// What the protocol rests on, one thing each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `PoolStore::claim`: the sandbox must be available.
    ClaimOnlyWhatIsAvailable,
    /// `PoolStore::claim`, `ClaimPrecondition::New`: there is no claim.
    ClaimMustBeNew,
    /// `PoolStore::claim`, `ClaimPrecondition::Leftover`: the claim is the one that was read.
    LeftoverMustBeTheSame,
    /// `PoolStore::claim`: both writes or neither.
    BothOrNeither,
    /// `Broker::resolve`: a claim only points; the sandbox says whether it is held.
    ResolveReadsTheSandbox,
    /// `Broker::resolve`: what is overdue is expired before another is claimed.
    ExpireBeforeAnother,
    /// `Broker::replay_or_refuse`: a pair that holds a sandbox gets it though none is left.
    ReplayBeforeRefusing,
    /// `PoolStore::release`: only the holder.
    ReleaseOnlyByTheHolder,
    /// `Change::Insert`: not over an item.
    InsertOnlyWhatIsAbsent,
    /// `Change::Insert`: not over a tombstone.
    InsertOnlyWithoutTombstone,
    /// `Change::MarkStale`: only what is available.
    StaleOnlyWhatIsAvailable,
    /// `Change::Restore`: only what is stale.
    RestoreOnlyWhatIsStale,
    /// `Change::Restore`: only what never had a holder.
    RestoreOnlyWhatWasNeverHeld,
    /// `Change::Remove` of a stale sandbox: only while it is stale.
    RemoveOnlyWhatIsStale,
    /// `Change::Remove` of a stale sandbox: with a tombstone if it had a holder.
    TombstoneForUsedAndStale,
    /// `Change::Deletion`: with a tombstone.
    TombstoneForDeleted,
    /// `Change::Remove` of a failed sandbox: with a tombstone.
    TombstoneForFailed,
    /// `PoolStore::due_for_deletion`: only what is on its way out.
    DeleteOnlyWhatIsPending,
    /// `Change::Reinstate`: back in line for its deletion, not into the pool.
    ReinstateForDeletion,
    /// `Change::RetryDeletion`: only what failed.
    RetryOnlyWhatFailed,
    /// `Broker::allocate`: a claim that was not what the guard says is looked at, and the guard follows it.
    GuardFollowsTheClaim,
}

impl Condition {
    pub const ALL: [Self; 21] = [
        Self::ClaimOnlyWhatIsAvailable,
        Self::ClaimMustBeNew,
        Self::LeftoverMustBeTheSame,
        Self::BothOrNeither,
        Self::ResolveReadsTheSandbox,
        Self::ExpireBeforeAnother,
        Self::ReplayBeforeRefusing,
        Self::ReleaseOnlyByTheHolder,
        Self::InsertOnlyWhatIsAbsent,
        Self::InsertOnlyWithoutTombstone,
        Self::StaleOnlyWhatIsAvailable,
        Self::RestoreOnlyWhatIsStale,
        Self::RestoreOnlyWhatWasNeverHeld,
        Self::RemoveOnlyWhatIsStale,
        Self::TombstoneForUsedAndStale,
        Self::TombstoneForDeleted,
        Self::TombstoneForFailed,
        Self::DeleteOnlyWhatIsPending,
        Self::ReinstateForDeletion,
        Self::RetryOnlyWhatFailed,
        Self::GuardFollowsTheClaim,
    ];
}
