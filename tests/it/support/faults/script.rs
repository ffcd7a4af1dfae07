//! Which fault a call meets.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use super::Call;

/// What may go wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// The call arrives late.
    DelayBefore,
    /// The answer arrives late.
    DelayAfter,
    /// The connection is reset, and the call never arrives.
    DropRequest,
    /// The call takes effect, and the connection is reset before the answer.
    DropAnswer,
    /// The connection is reset in the middle of the answer.
    CutAnswer,
    /// `ProvisionedThroughputExceededException`.
    Throughput,
    /// `ThrottlingException`.
    Throttling,
    /// 500 `InternalServerError`.
    ServerError,
    /// A write is refused because a transaction is on one of its items.
    Conflict,
    /// A transaction is cancelled because one of its items is throttled.
    ThrottledItem,
    /// A query of an index is answered as it was some time ago.
    StaleRead,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::DelayBefore,
        Self::DelayAfter,
        Self::DropRequest,
        Self::DropAnswer,
        Self::CutAnswer,
        Self::Throughput,
        Self::Throttling,
        Self::ServerError,
        Self::Conflict,
        Self::ThrottledItem,
        Self::StaleRead,
    ];

    fn concerns(self, call: &Call, is_index: bool) -> bool {
        match self {
            Self::Conflict => call.is_write(),
            Self::ThrottledItem => call.operation == "TransactWriteItems",
            Self::StaleRead => is_index,
            _ => true,
        }
    }
}

/// How probable each fault is for a call that can meet it, and how bad it is.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub probabilities: BTreeMap<Fault, f64>,
    pub longest_delay: Duration,
    /// The oldest that an answer of an index may be.
    pub staleness: Duration,
    /// The most items on a page of an index, so that a reading has several pages.
    pub page_limit: Option<usize>,
}

impl Script {
    /// Every fault with the same probability, but stale reads, which are a habit of indexes and no accident.
    pub fn of(probability: f64) -> Self {
        let mut probabilities: BTreeMap<_, _> = Fault::ALL
            .into_iter()
            .map(|fault| (fault, probability))
            .collect();
        probabilities.insert(Fault::StaleRead, 0.4);
        Self {
            probabilities,
            longest_delay: Duration::from_millis(40),
            staleness: Duration::from_millis(400),
            page_limit: Some(12),
        }
    }
}

/// What becomes of one call.
pub(super) struct Roll {
    pub(super) fault: Option<Fault>,
    pub(super) delay: Duration,
    pub(super) staleness: Duration,
    pub(super) page_limit: Option<usize>,
    /// Which one, where a fault has several ways to happen.
    pub(super) at: usize,
}

pub(super) struct Dice {
    rng: SmallRng,
    script: Script,
    once: Vec<(&'static str, Fault)>,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            script: Script::default(),
            once: Vec::new(),
        }
    }

    pub(super) fn play(&mut self, script: Script) {
        self.script = script;
    }

    pub(super) fn inject_once(&mut self, operation: &'static str, fault: Fault) {
        self.once.push((operation, fault));
    }

    pub(super) fn roll(&mut self, call: &Call, is_index: bool) -> Roll {
        let Self { rng, script, once } = self;
        let ordered = once
            .iter()
            .position(|(operation, _)| *operation == call.operation);
        let mut fault = ordered.map(|at| once.remove(at).1);
        for (candidate, probability) in &script.probabilities {
            if fault.is_none()
                && candidate.concerns(call, is_index)
                && rng.random_bool(*probability)
            {
                fault = Some(*candidate);
            }
        }
        let delay = u64::try_from(script.longest_delay.as_millis()).unwrap();
        Roll {
            fault,
            delay: Duration::from_millis(rng.random_range(delay / 2..=delay)),
            staleness: script.staleness,
            page_limit: script.page_limit,
            at: rng.random_range(0..usize::MAX),
        }
    }
}
