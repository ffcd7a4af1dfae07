//! The creation of an account that refill has begun.

use crate::clock::UnixSeconds;

/// A creation: the intention to have one more account in a pool, under a name of its own. It is written before CSP is
/// called, so that no crash and no lost answer makes a second account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Its number in the pool, from which the name follows.
    pub number: u64,
    /// The name of the account.
    pub name: String,
    /// How far it is.
    pub state: CreationState,
    /// When it was intended.
    pub intended_at: UnixSeconds,
    /// When CSP was first asked to create the account.
    pub attempted_at: Option<UnixSeconds>,
    /// How often CSP was asked.
    pub attempts: u32,
    /// When the id of the account was noted.
    pub created_at: Option<UnixSeconds>,
    /// The id of the account.
    pub external_id: Option<String>,
    /// When a sync had its sandbox.
    pub listed_at: Option<UnixSeconds>,
    /// When its sandbox became available.
    pub available_at: Option<UnixSeconds>,
}

/// The state of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreationState {
    /// Nothing was created: CSP was not asked, or has refused.
    Intended,
    /// CSP was asked. Without an answer, the account may exist.
    Attempted,
    /// The account exists.
    Created,
    /// The pool has its sandbox.
    Listed,
    /// Given up: there is no account.
    Dropped,
}

impl CreationState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Intended,
        Self::Attempted,
        Self::Created,
        Self::Listed,
        Self::Dropped,
    ];

    /// Returns the name used in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Attempted => "attempted",
            Self::Created => "created",
            Self::Listed => "listed",
            Self::Dropped => "dropped",
        }
    }
}
