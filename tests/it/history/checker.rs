//! Decides whether a history is one that a correct broker could have produced.
//!
//! Only certain facts count. One event came before another if it had ended before the other began; a call without an
//! answer may take effect at any later moment; an allocation may have ended as soon as its holder requested its release,
//! or as soon as a broker's clock may have shown that it was overdue. So a violation is a proof: it names the events that
//! contradict each other, and no missing event could explain them.

mod answers;
mod clock;
mod deletion;
mod facts;
mod holding;
mod none_left;
mod policies;
mod print;
mod quota;
mod refill;
mod replacement;
mod shortest;
mod states;
mod table;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use self::facts::Facts;
pub use self::print::printed;
use super::event::Event;

/// The configuration of the brokers, as far as the checker depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long after its end an allocation may still be released, in seconds.
    pub grace: i64,
    /// How far a broker's clock may be ahead of the history, in seconds.
    pub clock_error: i64,
    /// The maximum age of the data behind a `NoneLeft`: the lag of the index, the longest scan of it, and the 250 ms for
    /// which an empty scan may answer other requests.
    pub staleness: Duration,
    /// How long an earlier policy may still be obeyed after a later one was set, with all requests that began by then.
    pub policy_lag: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            grace: 1800,
            clock_error: 2,
            staleness: Duration::from_secs(5),
            policy_lag: Duration::from_secs(10),
        }
    }
}

/// The promises of a broker. Of two that one event breaks, the first one is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// G: a replacement leaves its caller with exactly one sandbox, the old one if it was refused.
    Replacement,
    /// A: a sandbox has at most one holder, which gets it as new once.
    OneHolder,
    /// B: a pair holds at most one sandbox.
    OneSandbox,
    /// C: `NoneLeft` means that no matching sandbox is available.
    NoneLeft,
    /// E: a sandbox that had a holder is never allocated again.
    NeverReused,
    /// F: an allocation is not retired before its end and its grace period, and an answered extension holds.
    Lease,
    /// A lab holds at most its quota.
    Quota,
    /// A retry returns the sandbox that its pair holds.
    Replay,
    /// All answers about an allocation and its account agree.
    Agreement,
    /// A sandbox passes through its states in order and leaves its holder for a reason.
    States,
    /// Answers to releases are true.
    Release,
    /// Answers to reads of a sandbox are true.
    Get,
    /// Only accounts of retired sandboxes are deleted from CSP.
    Deletion,
    /// The items of the table are consistent.
    Table,
    /// Without faults every call is answered.
    Calm,
    /// Allocations are refused as paused only while they are.
    Paused,
    /// H: an account is created once under a name.
    CreatedOnce,
    /// H: no more accounts are created than the target of their pool asks for.
    Wanted,
    /// H: every creation ends, and every account becomes a sandbox that is available or set aside.
    NotForgotten,
    /// A new sandbox is allocated only if its account is usable.
    Usable,
    /// A check sets aside only a sandbox whose account may not be usable, and it stays aside.
    SetAside,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneHolder => "A: a sandbox has at most one holder",
            Self::OneSandbox => "B: a pair holds at most one sandbox",
            Self::NoneLeft => "C: `NoneLeft` means that no matching sandbox is available",
            Self::NeverReused => "E: a used sandbox is never allocated again",
            Self::Lease => "F: an allocation is held until its last end and its grace period",
            Self::Replacement => "G: a replacement leaves its caller with exactly one sandbox",
            Self::Quota => "a lab holds at most its quota",
            Self::Replay => "a retry returns the sandbox that the pair holds",
            Self::Agreement => "all answers about an allocation agree",
            Self::States => "states follow their order",
            Self::Release => "answers to releases are true",
            Self::Get => "answers to reads of a sandbox are true",
            Self::Deletion => "only accounts of retired sandboxes are deleted",
            Self::Table => "the items of the table are consistent",
            Self::Calm => "without faults every call is answered",
            Self::Paused => "allocations are refused as paused only while they are",
            Self::CreatedOnce => "H: an account is created once under a name",
            Self::Wanted => "H: no more accounts are created than a pool's target asks for",
            Self::NotForgotten => "H: every creation ends",
            Self::Usable => "a new sandbox is allocated only if its account is usable",
            Self::SetAside => "a check sets aside only what may not be usable, and it stays aside",
        })
    }
}

/// A proof that a history is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub sentence: String,
    /// Indices of the events that contradict each other, in ascending order.
    pub events: Vec<usize>,
    /// The sandboxes or the caller concerned.
    pub about: Vec<String>,
}

impl Violation {
    fn new(
        promise: Promise,
        about: impl IntoIterator<Item = impl Into<String>>,
        events: impl IntoIterator<Item = usize>,
        sentence: String,
    ) -> Self {
        let mut events: Vec<_> = events.into_iter().collect();
        events.sort_unstable();
        events.dedup();
        Self {
            promise,
            sentence,
            events,
            about: about.into_iter().map(Into::into).collect(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            promise,
            sentence,
            events,
            ..
        } = self;
        write!(f, "broken: {promise}\n{sentence} (events {events:?})")
    }
}

impl Terms {
    /// Checks a history; returns the violation that was certain first.
    pub fn check(&self, history: &[Event]) -> Result<(), Violation> {
        let proven = |violation: &Violation| {
            let ended = violation.events.iter().map(|at| history[*at].ended);
            (ended.max(), violation.promise)
        };
        self.violations(history)
            .into_iter()
            .min_by_key(proven)
            .map_or(Ok(()), Err)
    }

    fn violations(&self, history: &[Event]) -> Vec<Violation> {
        let facts = Facts::gather(*self, history);
        let mut found = Vec::new();
        holding::check(&facts, &mut found);
        none_left::check(&facts, &mut found);
        states::check(&facts, &mut found);
        answers::check(&facts, &mut found);
        deletion::check(&facts, &mut found);
        table::check(&facts, &mut found);
        replacement::check(&facts, &mut found);
        quota::check(&facts, &mut found);
        refill::check(&facts, &mut found);
        found
    }
}

/// Checks a history with the default terms.
pub fn check(history: &[Event]) -> Result<(), Violation> {
    Terms::default().check(history)
}

/// Returns the shortest part of the history that breaks the same promise.
pub fn shortest(history: &[Event], violation: &Violation) -> Vec<Event> {
    Terms::default().shortest(history, violation)
}
