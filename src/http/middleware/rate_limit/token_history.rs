//! The history of wrong tokens by client address.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use super::CELLS;

/// Records which wrong tokens an address has used lately. An address learns nothing from a token that it repeats, so only
/// tokens without a record count as guesses.
#[derive(Debug)]
pub(super) struct TokenHistory {
    hasher: RandomState,
    /// The hashes of tokens; 0 in an unused cell.
    cells: Box<[AtomicU64]>,
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
        let hash = self.hasher.hash_one((address, credentials));
        // The remainder is smaller than the number of cells.
        let cell = &self.cells[usize::try_from(hash % CELLS as u64).unwrap_or(0)];
        TokenCell { cell, hash }
    }
}

impl TokenCell<'_> {
    pub(super) fn is_recorded(&self) -> bool {
        self.cell.load(Ordering::Relaxed) == self.hash
    }

    pub(super) fn record(&self) {
        self.cell.store(self.hash, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_a_token_holds_for_the_address_that_used_it() {
        let history = TokenHistory::new();
        assert!(!history.cell(1, b"Bearer old").is_recorded());
        history.cell(1, b"Bearer old").record();
        assert!(history.cell(1, b"Bearer old").is_recorded());
        assert!(!history.cell(1, b"Bearer new").is_recorded());
        assert!(!history.cell(2, b"Bearer old").is_recorded());
    }
}
