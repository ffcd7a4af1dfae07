//! What indexes showed some time ago.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use axum::body::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::Answer;

/// Answers that are kept for one query.
const KEPT: usize = 16;
/// Queries that are remembered.
const QUERIES: usize = 2000;

/// The last answers to each query of an index. A page is a query of its own, so the pages of one reading may be of
/// different moments, as those of a real index are.
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

    /// One of the answers that are no older than `staleness`.
    pub(super) fn recall(&self, query: &Bytes, staleness: Duration, at: usize) -> Option<Answer> {
        let mut memory = self.0.lock().unwrap();
        let answers = memory.get_mut(query)?;
        answers.retain(|(since, _)| since.elapsed() <= staleness);
        let at = at.checked_rem(answers.len())?;
        Some(answers[at].1.clone())
    }
}

pub(super) fn is_of_index(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.get("IndexName").is_some()
}

/// The query with smaller pages, unless it says itself how large they are.
pub(super) fn with_limit(body: &Bytes, limit: usize) -> Bytes {
    let mut query: Value = serde_json::from_slice(body).unwrap_or_default();
    let asked = query["Limit"]
        .as_u64()
        .map_or(limit, |asked| usize::try_from(asked).unwrap());
    query["Limit"] = limit.min(asked).into();
    query.to_string().into()
}
