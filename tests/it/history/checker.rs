//! Decides whether a history is one that a correct broker could have produced.
//!
//! Only what is certain counts. One event came before another if it had ended before the other began; an answer that
//! never came may stand for an effect at any later moment; an allocation may have ended as soon as its holder asked for
//! its release, or the brokers' clocks may have been beyond its time and grace. So a violation is a proof: it names the
//! events that contradict each other, and no event that is missing from them could explain it.

mod answers;
mod clock;
mod deletion;
mod facts;
mod holding;
mod none_left;
mod print;
mod shortest;
mod states;
mod table;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use self::facts::Facts;
pub use self::print::printed;
use super::event::Event;

/// What a checker must know of the brokers.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long after its end an allocation may still be given back, in seconds.
    pub grace: i64,
    /// How much further than the history shows a broker's clock may be, in seconds.
    pub clock_error: i64,
    /// How old what a `NoneLeft` rests on may be: the lag of the index, the longest reading of it, and the 250 ms for which
    /// an empty reading may answer others.
    pub staleness: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            grace: 1800,
            clock_error: 2,
            staleness: Duration::from_secs(5),
        }
    }
}

/// What a broker promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// A: a sandbox has at most one holder, and is new to it once.
    OneHolder,
    /// B: a pair holds at most one sandbox.
    OneSandbox,
    /// C: `NoneLeft` means that no matching sandbox is available.
    NoneLeft,
    /// E: a sandbox that had a holder is never handed out again.
    NeverAgain,
    /// A retry gets what its pair holds.
    Replay,
    /// Whatever is told of an allocation, and of the account behind it, agrees.
    Agreement,
    /// A sandbox passes through its states in order, and for a reason.
    States,
    /// What a release answers.
    Release,
    /// What a look at a sandbox answers.
    Get,
    /// CSP is only told to delete what is nobody's any more.
    Deletion,
    /// The table's items fit together.
    Table,
    /// Without faults every call has an answer.
    Calm,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneHolder => "A: a sandbox has at most one holder",
            Self::OneSandbox => "B: a pair holds at most one sandbox",
            Self::NoneLeft => "C: none left means none left",
            Self::NeverAgain => "E: a used sandbox is never handed out again",
            Self::Replay => "a retry gets the sandbox that the pair holds",
            Self::Agreement => "all that is told of an allocation agrees",
            Self::States => "states follow their order",
            Self::Release => "a release answers truly",
            Self::Get => "a look at a sandbox answers truly",
            Self::Deletion => "only what nobody holds is deleted",
            Self::Table => "the table's items fit together",
            Self::Calm => "without faults every call has an answer",
        })
    }
}

/// A proof that a history is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub sentence: String,
    /// The events that contradict each other, in the order of the history.
    pub events: Vec<usize>,
    /// The sandboxes concerned, or the caller.
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
    /// The violation that is the first to be certain.
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
        found
    }
}

/// Whether a correct broker with the default terms could have produced the history.
pub fn check(history: &[Event]) -> Result<(), Violation> {
    Terms::default().check(history)
}

/// The shortest part of the history that breaks the same promise.
pub fn shortest(history: &[Event], violation: &Violation) -> Vec<Event> {
    Terms::default().shortest(history, violation)
}
