//! Sandboxes that have, or had, a holder.

use std::{collections::HashSet, mem};

use crate::domain::SandboxId;

/// Ids that never become available again, although a secondary index of the table that lags behind may go on returning
/// them. Bounded: two generations of at most `limit` ids, of which the older one is dropped as a whole.
#[derive(Debug, Default)]
pub(super) struct ConsumedIds {
    recent: HashSet<SandboxId>,
    older: HashSet<SandboxId>,
}

impl ConsumedIds {
    pub(super) fn insert(&mut self, id: SandboxId, limit: usize) {
        if self.recent.len() >= limit {
            self.older = mem::take(&mut self.recent);
        }
        self.recent.insert(id);
    }

    pub(super) fn remove(&mut self, id: &SandboxId) {
        self.recent.remove(id);
        self.older.remove(id);
    }

    pub(super) fn contains(&self, id: &SandboxId) -> bool {
        self.recent.contains(id) || self.older.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_retained_ids_is_bounded() {
        let mut consumed = ConsumedIds::default();
        for n in 0..1000 {
            consumed.insert(SandboxId::parse(n.to_string()).unwrap(), 10);
        }
        assert!(consumed.recent.len() + consumed.older.len() <= 20);
        assert!(consumed.contains(&SandboxId::parse("999").unwrap()));
    }
}
