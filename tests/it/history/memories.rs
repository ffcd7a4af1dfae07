//! The memory of the callers of an epoch.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Mutex,
};

use rand::{RngExt, rngs::SmallRng};

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
    /// The key that it was allocated under.
    pub(super) key: String,
}

/// A caller and a key.
pub(super) type Pair = (String, String);

impl Memories {
    pub(super) fn remember(&self, caller: usize, sandbox: &str, key: &str) {
        let mut all = self.sandboxes.lock().unwrap();
        all.resize(CALLERS, VecDeque::new());
        let mine = &mut all[caller];
        if !mine.iter().any(|known| known.sandbox == sandbox) {
            mine.push_back(Remembered {
                sandbox: sandbox.to_owned(),
                key: key.to_owned(),
            });
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
