//! Which candidate is next, so that several brokers rarely try for the same one.
//!
//! A broker goes on through the candidates of a prefix from a random start, and back from there once it meets another
//! broker, which came from a start of its own. So two brokers share a pool down to its last sandboxes. Where there are
//! more, one that was met on both ways starts anew.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::Candidate;
use crate::sandbox::NamePrefix;

/// Prefixes whose walk is remembered. They come from outside.
pub(super) const MOST_WALKS: usize = 64;

/// The walks, by prefix; the empty one is that of requests without.
#[derive(Debug, Default)]
pub(super) struct Walks(HashMap<Box<str>, Walk>);

#[derive(Debug)]
pub(super) struct Walk {
    start: Arc<Candidate>,
    way: Way,
}

/// Counted: the even ones lead on from the start, the odd ones back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way(u64);

impl Way {
    const fn leads_on(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

impl Walks {
    pub(super) fn get_or_begin(
        &mut self,
        prefix: Option<&NamePrefix>,
        start: impl FnOnce() -> Arc<Candidate>,
    ) -> &Walk {
        let prefix = key(prefix);
        if self.0.len() >= MOST_WALKS && !self.0.contains_key(prefix) {
            self.0.clear();
        }
        self.0.entry(prefix.into()).or_insert_with(|| Walk {
            start: start(),
            way: Way(0),
        })
    }

    /// Another broker was met on this way. Several requests go it at once; the first one turns for all.
    pub(super) fn turn(
        &mut self,
        prefix: Option<&NamePrefix>,
        met_on: Way,
        new_start: impl FnOnce() -> Arc<Candidate>,
    ) {
        let walk = self.0.get_mut(key(prefix));
        if let Some(walk) = walk.filter(|walk| walk.way == met_on) {
            walk.way.0 += 1;
            if walk.way.leads_on() {
                walk.start = new_start();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Walk {
    pub(super) fn start(&self) -> &Candidate {
        &self.start
    }

    pub(super) const fn way(&self) -> Way {
        self.way
    }

    /// The rank of the next candidate within `matching`, which is not empty, if the start has, or would have, the rank
    /// `start`. Candidates that were taken are not there any more, so the next one is beside the start.
    pub(super) fn next(&self, start: usize, matching: &Range<usize>) -> usize {
        if self.way.leads_on() {
            if start < matching.end {
                start
            } else {
                matching.start
            }
        } else if start > matching.start {
            start - 1
        } else {
            matching.end - 1
        }
    }
}

fn key(prefix: Option<&NamePrefix>) -> &str {
    prefix.map_or("", NamePrefix::as_str)
}
