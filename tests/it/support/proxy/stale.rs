//! Earlier answers and smaller pages of indexes, with which they lag.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use axum::body::Bytes;
use tokio::time::Instant;

use super::call::{Answer, Call};

/// Answers kept per query.
const KEPT: usize = 16;
/// Queries of which answers are kept.
const QUERIES: usize = 2000;

/// The last answers to each query of an index. A page is a query of its own, so the pages of one scan may show different
/// moments, as those of a real index may.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<Bytes, VecDeque<(Instant, Answer)>>>);

impl Memory {
    pub(super) fn remember(&self, query: Bytes, answer: Answer) {
        let mut memory = self.0.lock().unwrap();
        if memory.len() >= QUERIES {
            memory.clear();
        }
        let answers = memory.entry(query).or_default();
        answers.push_back((Instant::now(), answer));
        if answers.len() > KEPT {
            answers.pop_front();
        }
    }

    /// Returns one of the answers that are no older than `staleness`.
    pub(super) fn recall(
        &self,
        query: &Bytes,
        staleness: Duration,
        variant: usize,
    ) -> Option<Answer> {
        let mut memory = self.0.lock().unwrap();
        let answers = memory.get_mut(query)?;
        answers.retain(|(since, _)| since.elapsed() <= staleness);
        let at = variant.checked_rem(answers.len())?;
        Some(answers[at].1.clone())
    }
}

impl Call {
    /// Reduces the page size of a query to at most `limit` items.
    pub(super) fn limit_page(&mut self, limit: usize) {
        let mut query = self.json();
        let requested = query["Limit"]
            .as_u64()
            .map_or(limit, |limit| usize::try_from(limit).unwrap());
        query["Limit"] = limit.min(requested).into();
        self.body = query.to_string().into();
    }
}
