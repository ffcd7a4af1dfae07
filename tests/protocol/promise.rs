//! The promises of the protocol and the conditions that they rest on.

use std::fmt;

/// The promises, one of which breaks if a condition is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    NeverReused,
    UsableBeforeAllocated,
    OneSandbox,
    ClaimPoints,
    HoldsTheReturned,
    HolderIsNotRefused,
    HolderKeeps,
    ExtensionHolds,
    OthersDoNotExtend,
    ReplacesOnlyTheHeld,
    LeavesExactlyOne,
    RefusedKeepsTheOld,
    AtMostTheMaximum,
    Quota,
    CreatedOnce,
    NoMoreThanTheTarget,
    NotForgotten,
    NothingHeldIsDeleted,
    Answers,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverReused => "A, E: a sandbox that had a holder is allocated again",
            Self::UsableBeforeAllocated => {
                "a new sandbox is allocated before its account was found usable"
            }
            Self::OneSandbox => "B: a pair holds two sandboxes",
            Self::ClaimPoints => "a holder's claim points elsewhere",
            Self::HoldsTheReturned => "a client gets a sandbox that its pair does not hold",
            Self::HolderIsNotRefused => "a client is refused while its pair holds a sandbox",
            Self::HolderKeeps => "a holder loses its sandbox without release, expiry or quarantine",
            Self::ExtensionHolds => "F: an allocation expires before an end that was answered",
            Self::OthersDoNotExtend => "F: another pair moves the end of an allocation",
            Self::ReplacesOnlyTheHeld => "G: a pair that holds nothing gets a replacement",
            Self::LeavesExactlyOne => {
                "G: a replacement leaves its pair without exactly one sandbox"
            }
            Self::RefusedKeepsTheOld => {
                "G: a refused replacement leaves its pair without the old one"
            }
            Self::AtMostTheMaximum => "G: more replacements than the lab allows",
            Self::Quota => "a lab holds more than its quota",
            Self::CreatedOnce => "H: an account is created twice under one name",
            Self::NoMoreThanTheTarget => "H: more accounts or open creations than the target",
            Self::NotForgotten => "H: a creation never ends, or a pool is never full",
            Self::NothingHeldIsDeleted => {
                "a held, available or quarantined sandbox is deleted from CSP"
            }
            Self::Answers => "a client that runs alone gets no answer",
        })
    }
}

/// The conditions that the promises rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `PoolStore::claim`: the sandbox must be available.
    ClaimOnlyAvailable,
    /// `PoolStore::claim`, `ClaimPrecondition::New`: there is no claim.
    ClaimMustBeNew,
    /// `PoolStore::claim`, `ClaimPrecondition::Leftover`: the claim is the one that was read.
    LeftoverMustBeTheSame,
    /// `PoolStore::claim`: both writes or neither.
    BothOrNeither,
    /// `Broker::resolve`: a claim only points; the sandbox says whether it is held.
    ResolveReadsTheSandbox,
    /// `Broker::resolve`: an overdue allocation is expired before another sandbox is claimed.
    ExpireBeforeAnother,
    /// `Broker::replay_or_refuse`: a pair that holds a sandbox gets it although none is available.
    ReplayBeforeRefusing,
    /// `PoolStore::release`: only by the holder.
    ReleaseOnlyByTheHolder,
    /// `Change::Insert`: no existing item is overwritten.
    InsertOnlyAbsent,
    /// `Change::Insert`: there is no tombstone.
    InsertOnlyWithoutTombstone,
    /// `Change::MarkStale`: only sandboxes that wait for a holder.
    MarkStaleOnlyWaiting,
    /// `Change::Restore`: only stale sandboxes.
    RestoreOnlyStale,
    /// `Change::Restore`: only sandboxes that never had a holder.
    RestoreOnlyNeverHeld,
    /// `Change::Remove` of a stale sandbox: only while it is stale.
    RemoveOnlyStale,
    /// `Change::Remove` of a stale sandbox: with a tombstone if it had a holder.
    TombstoneForUsedAndStale,
    /// `Change::Deletion`: with a tombstone.
    TombstoneForDeleted,
    /// `Change::Remove` of a failed sandbox: with a tombstone.
    TombstoneForFailed,
    /// `PoolStore::due_for_deletion`: only sandboxes in `pending_deletion`.
    DeleteOnlyPending,
    /// `Change::Reinstate`: to `pending_deletion`, not to `available`.
    ReinstateForDeletion,
    /// `Change::RetryDeletion`: only sandboxes in `deletion_failed`.
    RetryOnlyFailed,
    /// `Broker::allocate`: after a failed precondition, the next one is the claim that was found.
    PreconditionFollowsTheClaim,
    /// `PoolStore::expire`, `Change::Expire`: only with the end that was read.
    ExpireOnlyWithTheSameEnd,
    /// `Broker::held`: after an expiry that found the allocation changed, the sandbox is read again.
    ReadAgainAfterRefusedExpiry,
    /// `SandboxAction::Quarantine`: no sandbox that is being deleted.
    QuarantineNothingBeingDeleted,
    /// `SandboxAction::Restore`: only sandboxes in quarantine.
    RestoreOnlyQuarantined,
    /// `SandboxAction::Restore`: only sandboxes that never had a holder.
    RestoreQuarantinedOnlyNeverHeld,
    /// `SandboxAction::Delete`: no sandbox that is held.
    DeleteNothingHeld,
    /// `Change::Check`, `Change::Provide`: only a sandbox in `provisioning` becomes available.
    ProvideOnlyProvisioning,
    /// `Change::Check`: only a sandbox that waits for a holder is quarantined.
    QuarantineByCheckOnlyWaiting,
    /// `Change::Restore`: to `provisioning` if no check has found the account usable.
    RestoreToTheCheck,
    /// `SandboxAction::Restore`, `Change::EndQuarantine`: likewise.
    RestoreQuarantinedToTheCheck,
    /// `PoolStore::extend`: only while it is allocated.
    ExtendOnlyAllocated,
    /// `PoolStore::extend`: only by the holder, or by an operator.
    ExtendOnlyByTheHolder,
    /// `PoolStore::extend`: only from the end that was read.
    ExtendOnlyFromTheSameEnd,
    /// `PoolStore::extend`: the claim ends later, too.
    ExtendTheClaim,
    /// `PoolStore::extend`: the claim keeps the number of replacements.
    ExtensionKeepsTheCount,
    /// `PoolStore::replace`: the pair still holds the old one.
    ReplaceOnlyTheHeld,
    /// `PoolStore::replace`: the old one still has the end that was read, before which the new one does not end.
    ReplaceOnlyWithTheSameEnd,
    /// `PoolStore::replace`: the new one is available.
    ReplaceByAnAvailable,
    /// `PoolStore::replace`: all three writes or none.
    ReplaceAllOrNothing,
    /// `PoolStore::replace`: below the lab's maximum.
    ReplaceBelowTheMaximum,
    /// `Broker::replay_or`: the claim is read again, because a replacement may have moved it on.
    ReadClaimAgainBeforeRefusing,
    /// `Broker::replace`: without a candidate, the old one is read again before the request is refused.
    ReadAgainBeforeRefusing,
    /// `PoolStore::claim`: a slot of the quota that no allocation has taken.
    SlotMustBeNew,
    /// `PoolStore::claim`: a slot whose allocation is over, as it was read.
    SlotMustBeTheSame,
    /// `Broker::allocate`: the allocation of a leftover slot was read and is over.
    SlotIsReadAsOver,
    /// `PoolStore::claim`: only a slot with a permitted number.
    SlotBelowThePermitted,
    /// `PoolStore::claim`: sandbox and slot or neither.
    SlotWithTheAllocation,
    /// `PoolStore::replace`: the slot moves on to the new one.
    SlotMovesOn,
    /// `permitted`: allocations in slots above a lowered quota count.
    CountHigherSlots,
    /// `permitted`: allocations without a slot count.
    CountWithoutSlot,
    /// `PoolStore::intend`, `PoolStore::step`: only while the run holds its lease.
    FenceOfRefill,
    /// `PoolStore::intend`: no existing creation is overwritten.
    IntendOnlyNew,
    /// `Refill::request`: the attempt is written before the request is sent.
    AttemptBeforeTheRequest,
    /// `CreationStep::Attempt`: only from the state that was read.
    AttemptOnlyAsRead,
    /// `Refill::request`: no request is sent long after the write of its attempt.
    SendInTime,
    /// `Refill::run_passes`: an account is looked for only after the settle time.
    SettleBeforeFinding,
    /// `Refill::create`: an account is looked for before each attempt.
    FindBeforeCreatingAgain,
    /// `CspError::may_have_created`: only a refusal proves that nothing was created.
    OnlyARefusalProves,
    /// `PolicyInForce::read_pools`: the creations are read before the sandboxes.
    CreationsBeforeSandboxes,
    /// `PoolStore::refill_items`: the creations are read consistently.
    ReadCreationsConsistently,
    /// `Refill::run_passes`: which creations have an account is known before any is attempted again.
    ResolveBeforeCounting,
    /// `RefillPlan::new`: a creation that has an account counts until its sandbox does.
    CountCreated,
    /// `PoolStore::each_sandbox`: the sandboxes are read consistently.
    ReadSandboxesConsistently,
    /// `ListedCreations::adopt`: the id of an account is noted before its sandbox is inserted.
    AdoptBeforeInsert,
    /// `ListedCreations::record`: a creation is marked as listed after its sandbox was inserted.
    ListedAfterInsert,
    /// `Refill::look_up`: a creation whose account is gone is dropped.
    DropTheGone,
}

impl Condition {
    /// The conditions that each promise about the pool rests on.
    pub const OF_POOL: [Self; 31] = [
        Self::ClaimOnlyAvailable,
        Self::ClaimMustBeNew,
        Self::LeftoverMustBeTheSame,
        Self::BothOrNeither,
        Self::ResolveReadsTheSandbox,
        Self::ExpireBeforeAnother,
        Self::ReplayBeforeRefusing,
        Self::ReleaseOnlyByTheHolder,
        Self::InsertOnlyAbsent,
        Self::InsertOnlyWithoutTombstone,
        Self::MarkStaleOnlyWaiting,
        Self::RestoreOnlyStale,
        Self::RestoreOnlyNeverHeld,
        Self::RemoveOnlyStale,
        Self::TombstoneForUsedAndStale,
        Self::TombstoneForDeleted,
        Self::TombstoneForFailed,
        Self::DeleteOnlyPending,
        Self::ReinstateForDeletion,
        Self::RetryOnlyFailed,
        Self::PreconditionFollowsTheClaim,
        Self::ExpireOnlyWithTheSameEnd,
        Self::ReadAgainAfterRefusedExpiry,
        Self::QuarantineNothingBeingDeleted,
        Self::RestoreOnlyQuarantined,
        Self::RestoreQuarantinedOnlyNeverHeld,
        Self::DeleteNothingHeld,
        Self::ProvideOnlyProvisioning,
        Self::QuarantineByCheckOnlyWaiting,
        Self::RestoreToTheCheck,
        Self::RestoreQuarantinedToTheCheck,
    ];

    /// Those of extensions and replacements.
    pub const OF_LEASES: [Self; 12] = [
        Self::ExtendOnlyAllocated,
        Self::ExtendOnlyByTheHolder,
        Self::ExtendOnlyFromTheSameEnd,
        Self::ExtendTheClaim,
        Self::ExtensionKeepsTheCount,
        Self::ReplaceOnlyTheHeld,
        Self::ReplaceOnlyWithTheSameEnd,
        Self::ReplaceByAnAvailable,
        Self::ReplaceAllOrNothing,
        Self::ReplaceBelowTheMaximum,
        Self::ReadClaimAgainBeforeRefusing,
        Self::ReadAgainBeforeRefusing,
    ];

    /// Those of quotas.
    pub const OF_QUOTAS: [Self; 8] = [
        Self::SlotMustBeNew,
        Self::SlotMustBeTheSame,
        Self::SlotIsReadAsOver,
        Self::SlotBelowThePermitted,
        Self::SlotWithTheAllocation,
        Self::SlotMovesOn,
        Self::CountHigherSlots,
        Self::CountWithoutSlot,
    ];

    /// Those of refill.
    pub const OF_REFILL: [Self; 16] = [
        Self::FenceOfRefill,
        Self::IntendOnlyNew,
        Self::AttemptBeforeTheRequest,
        Self::AttemptOnlyAsRead,
        Self::SendInTime,
        Self::SettleBeforeFinding,
        Self::FindBeforeCreatingAgain,
        Self::OnlyARefusalProves,
        Self::CreationsBeforeSandboxes,
        Self::ReadCreationsConsistently,
        Self::ResolveBeforeCounting,
        Self::CountCreated,
        Self::ReadSandboxesConsistently,
        Self::AdoptBeforeInsert,
        Self::ListedAfterInsert,
        Self::DropTheGone,
    ];
}
