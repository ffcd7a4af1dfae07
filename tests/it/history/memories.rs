//! The memory of the callers of an epoch.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Mutex,
};

use rand::{RngExt, rngs::SmallRng};

use super::event::Grant;

/// Number of callers.
pub(super) const CALLERS: usize = 24;
/// Number of sandboxes that a caller remembers.
const REMEMBERED: usize = 6;

/// The sandboxes and unanswered calls that callers remember.
#[derive(Default)]
pub(super) struct Memories {
    sandboxes: Mutex<Vec<VecDeque<Remembered>>>,
    /// Pairs with an unanswered allocate request.
    pub(super) unknown: Mutex<BTreeSet<Pair>>,
    /// Callers and sandboxes of unanswered releases.
    pub(super) unreleased: Mutex<BTreeSet<(String, String)>>,
    /// Callers, keys and sandboxes of unanswered replacements.
    pub(super) unreplaced: Mutex<BTreeSet<(String, String, String)>>,
}

/// A sandbox that a caller has received.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) sandbox: String,
    /// Start and end of its allocation, as the first answer showed them.
    pub(super) allocated_at: i64,
    pub(super) expires_at: i64,
    /// The key that it was allocated under.
    pub(super) key: String,
}

impl Remembered {
    pub(super) fn new(grant: &Grant, key: &str) -> Self {
        Self {
            sandbox: grant.sandbox.clone(),
            allocated_at: grant.allocated_at,
            expires_at: grant.expires_at,
            key: key.to_owned(),
        }
    }
}

/// A caller and a key.
pub(super) type Pair = (String, String);

impl Memories {
    pub(super) fn remember(&self, caller: usize, grant: &Grant, key: &str) {
        let mut all = self.sandboxes.lock().unwrap();
        all.resize(CALLERS, VecDeque::new());
        let mine = &mut all[caller];
        if !mine.iter().any(|known| known.sandbox == grant.sandbox) {
            mine.push_back(Remembered::new(grant, key));
        }
        if mine.len() > REMEMBERED {
            mine.pop_front();
        }
    }

    /// Returns a random sandbox that the caller remembers.
    pub(super) fn some_of(&self, caller: usize, rng: &mut SmallRng) -> Option<Remembered> {
        let all = self.sandboxes.lock().unwrap();
        let mine = all.get(caller)?;
        let at = rng.random_range(0..mine.len().max(1));
        mine.get(at).cloned()
    }

    /// Returns the sandbox that the caller received last, which it is likely to hold, or any other that it remembers.
    pub(super) fn likely_held_by(&self, caller: usize, rng: &mut SmallRng) -> Option<Remembered> {
        if rng.random_bool(0.3) {
            return self.some_of(caller, rng);
        }
        self.sandboxes.lock().unwrap().get(caller)?.back().cloned()
    }
}
