//! The creation of an account that refill has begun.

use std::str::FromStr;

use super::{NamePrefix, UnknownStatus};
use crate::clock::UnixSeconds;

/// The largest number of a creation: keys have ten digits.
pub const LAST_CREATION: u64 = 9_999_999_999;
/// The largest number that the name of an existing account can block. An account of that form which somebody else has
/// named must not use up all numbers.
const LAST_FOREIGN_NUMBER: u64 = 999_999_999;

/// A creation: the intention to have one more account in a pool, under a name of its own. It is written before CSP is
/// called, so that no crash and no lost answer makes a second account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Its number in the pool, from which the name follows.
    pub number: u64,
    /// The name of the account.
    pub name: String,
    /// Its state.
    pub state: CreationState,
    /// When it was intended.
    pub intended_at: UnixSeconds,
    /// When CSP was last asked to create the account. No request before that has created it.
    pub attempted_at: Option<UnixSeconds>,
    /// How often CSP was asked.
    pub attempts: u32,
    /// When the id of the account was recorded.
    pub created_at: Option<UnixSeconds>,
    /// The id of the account.
    pub external_id: Option<String>,
    /// When CSP was last asked for an account that no sync lists.
    pub looked_up_at: Option<UnixSeconds>,
    /// When a sync had its sandbox.
    pub listed_at: Option<UnixSeconds>,
}

/// The state of an open creation.
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
}

/// How a creation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreationOutcome {
    /// Its sandbox became available.
    Available,
    /// Its sandbox was quarantined before it was available.
    Quarantined,
    /// Its sandbox was deleted or is stale, before refill saw it available.
    Gone,
    /// There is no account: it is no longer wanted, or CSP does not have it.
    Dropped,
}

impl CreationState {
    /// Every state, in their order.
    pub const ALL: [Self; 4] = [Self::Intended, Self::Attempted, Self::Created, Self::Listed];

    /// Returns the name used in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Attempted => "attempted",
            Self::Created => "created",
            Self::Listed => "listed",
        }
    }
}

impl FromStr for CreationState {
    type Err = UnknownStatus;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or_else(|| UnknownStatus(name.to_owned()))
    }
}

impl CreationOutcome {
    /// Returns the name used in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Quarantined => "quarantined",
            Self::Gone => "gone",
            Self::Dropped => "dropped",
        }
    }
}

impl Creation {
    /// Returns the intention to create an account.
    #[must_use]
    pub fn intended(prefix: &NamePrefix, number: u64, now: UnixSeconds) -> Self {
        Self {
            number,
            name: format!("{}{number:06}", stem(prefix)),
            state: CreationState::Intended,
            intended_at: now,
            attempted_at: None,
            attempts: 0,
            created_at: None,
            external_id: None,
            looked_up_at: None,
            listed_at: None,
        }
    }

    /// Returns the number in the name of an account of the pool, if refill can have named it.
    #[must_use]
    pub fn number_in(prefix: &NamePrefix, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(&stem(prefix))?;
        let is_number = digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = is_number.then(|| digits.parse().ok())??;
        (number <= LAST_FOREIGN_NUMBER).then_some(number)
    }

    /// Returns whether the account counts as one that the pool is about to have, as far as the creation itself shows.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        !matches!(self.state, CreationState::Listed)
    }
}

/// Returns the common beginning of the names of a pool's creations.
fn stem(prefix: &NamePrefix) -> String {
    let prefix = prefix.as_str();
    let dash = if prefix.ends_with(['-', '_']) {
        ""
    } else {
        "-"
    };
    format!("{prefix}{dash}r")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> NamePrefix {
        NamePrefix::parse(text).unwrap()
    }

    #[test]
    fn name_has_the_prefix_one_separator_and_the_number() {
        for (pool, number, name) in [
            ("lab", 7, "lab-r000007"),
            ("lab-", 7, "lab-r000007"),
            ("lab_", 123_456, "lab_r123456"),
            ("lab", 1_234_567, "lab-r1234567"),
        ] {
            let creation = Creation::intended(&prefix(pool), number, UnixSeconds(1));
            assert_eq!(creation.name, name);
            assert_eq!(Creation::number_in(&prefix(pool), name), Some(number));
        }
    }

    #[test]
    fn name_of_another_origin_has_no_number() {
        for name in [
            "lab-0001",
            "lab-r00001",
            "lab-r00000x",
            "lab-r+00001",
            "lab-r",
            "other-r000001",
            "lab-r9999999999",
        ] {
            assert_eq!(Creation::number_in(&prefix("lab"), name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_pool_has_names_of_its_own_that_sort_into_it(
            pool in "[ -~]{0,20}[!-~]", number in 0..=LAST_FOREIGN_NUMBER,
        ) {
            let pool = prefix(&pool);
            let name = Creation::intended(&pool, number, UnixSeconds(0)).name;
            prop_assert!(name.starts_with(pool.as_str()));
            prop_assert_eq!(Creation::number_in(&pool, &name), Some(number));
        }
    }
}
