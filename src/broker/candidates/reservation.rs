//! A candidate taken out of the index by one request.

use std::sync::Arc;

use super::{CandidateIndex, ring::Attempt};
use crate::domain::Candidate;

/// A candidate that no other request of this process can reserve meanwhile. If it is dropped without an outcome (a
/// request cancelled during its write), the candidate stays out of the index until a scan returns it again.
#[derive(Debug)]
pub struct Reservation<'a> {
    pub(super) index: &'a CandidateIndex,
    pub(super) candidate: Arc<Candidate>,
    pub(super) attempt: Attempt,
    pub(super) outcome: Option<Outcome>,
}

/// How the attempt to allocate a reserved candidate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request has allocated the sandbox.
    Consumed,
    /// The sandbox has, or had, another holder.
    TakenByOther,
    /// The sandbox is not available as the index has it, but may become available again.
    Stale,
    /// Another transaction is changing the sandbox: the candidate returns to the index for a later attempt.
    Contended,
    /// The attempt ended for a reason other than the sandbox: the candidate returns to the index.
    Unused,
}

impl Reservation<'_> {
    /// The candidate.
    #[must_use]
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Ends the reservation.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.index.end_reservation(self);
    }
}
