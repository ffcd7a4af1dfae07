//! The history of tokens by client address.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use super::CELLS;

/// Records which tokens an address has used lately, and which of them were valid. An address learns nothing from a
/// token that it repeats, so only tokens without a record count as guesses.
#[derive(Debug)]
pub(super) struct TokenHistory {
    hasher: RandomState,
    /// For each token a hash, whose last bit says whether the token was valid. 0 in an unused cell.
    cells: Box<[AtomicU64]>,
}

/// The record of a token from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenRecord {
    /// The token was valid.
    Valid,
    /// The token was not valid, or is being checked for the first time.
    Invalid,
    /// The address has not used the token, or not lately.
    Unknown,
}

/// The place of a token's record.
pub(super) struct TokenCell<'a> {
    cell: &'a AtomicU64,
    hash: u64,
}

impl TokenHistory {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Returns the place of the record of `credentials` from `address`.
    pub(super) fn cell(&self, address: impl Hash, credentials: &[u8]) -> TokenCell<'_> {
        let hash = self.hasher.hash_one((address, credentials)) & !1;
        // The remainder is smaller than the number of cells.
        let cell = &self.cells[usize::try_from((hash >> 1) % CELLS as u64).unwrap_or(0)];
        TokenCell { cell, hash }
    }
}

impl TokenCell<'_> {
    pub(super) fn read(&self) -> TokenRecord {
        match self.cell.load(Ordering::Relaxed) ^ self.hash {
            0 => TokenRecord::Invalid,
            1 => TokenRecord::Valid,
            _ => TokenRecord::Unknown,
        }
    }

    pub(super) fn write(&self, is_valid: bool) {
        self.cell
            .store(self.hash | u64::from(is_valid), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_a_token_holds_for_the_address_that_used_it() {
        let history = TokenHistory::new();
        let cell = history.cell(1, b"Bearer old");
        assert_eq!(cell.read(), TokenRecord::Unknown);
        cell.write(false);
        assert_eq!(history.cell(1, b"Bearer old").read(), TokenRecord::Invalid);
        cell.write(true);
        assert_eq!(history.cell(1, b"Bearer old").read(), TokenRecord::Valid);
        assert_eq!(history.cell(1, b"Bearer new").read(), TokenRecord::Unknown);
        assert_eq!(history.cell(2, b"Bearer old").read(), TokenRecord::Unknown);
    }
}
