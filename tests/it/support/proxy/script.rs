//! Faults, and the script that decides which call meets which one.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use super::call::Call;

/// A fault of network, server or index.
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
    /// A write is refused because a transaction is in progress on one of its items.
    Conflict,
    /// A transaction is cancelled because one of its items is throttled.
    ThrottledItem,
    /// A query of an index gets an earlier answer.
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

    /// Returns whether the call can meet the fault.
    fn concerns(self, call: &Call, is_index_query: bool) -> bool {
        match self {
            Self::Conflict => call.is_write(),
            Self::ThrottledItem => call.operation == "TransactWriteItems",
            Self::StaleRead => is_index_query,
            _ => true,
        }
    }
}

/// How probable each fault is for a call that can meet it, and how severe.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub probabilities: BTreeMap<Fault, f64>,
    pub longest_delay: Duration,
    /// The maximum age of a stale answer.
    pub staleness: Duration,
    /// The maximum number of items on a page of an index, so that a scan has several pages.
    pub page_limit: Option<usize>,
}

impl Script {
    /// Every fault with the same probability, except stale reads: indexes lag all the time, so those are frequent.
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

/// The result of the draw for one call.
pub(super) struct Roll {
    pub(super) fault: Option<Fault>,
    pub(super) delay: Duration,
    pub(super) staleness: Duration,
    pub(super) page_limit: Option<usize>,
    /// Selects one of the ways in which a fault can happen.
    pub(super) variant: usize,
}

/// Draws the faults of calls.
pub(super) struct Dice {
    rng: SmallRng,
    script: Script,
    /// Faults for a call of an operation after some others of it. They override the script.
    once: Vec<(&'static str, Fault, usize)>,
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

    pub(super) fn calm(&mut self) {
        self.script = Script::default();
        self.once.clear();
    }

    pub(super) fn inject_after(&mut self, calls: usize, operation: &'static str, fault: Fault) {
        self.once.push((operation, fault, calls));
    }

    pub(super) fn roll(&mut self, call: &Call, is_index_query: bool) -> Roll {
        let Self { rng, script, once } = self;
        let mut orders = once.iter_mut().enumerate();
        let ordered = orders
            .find(|(_, (operation, ..))| *operation == call.operation)
            .filter(|_| call.polled().is_none());
        let ordered = match ordered {
            Some((at, (_, _, 0))) => Some(at),
            Some((_, (_, _, calls))) => {
                *calls -= 1;
                None
            }
            None => None,
        };
        let mut fault = ordered.map(|at| once.remove(at).1);
        for (candidate, probability) in &script.probabilities {
            if fault.is_none()
                && candidate.concerns(call, is_index_query)
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
            variant: rng.random_range(0..usize::MAX),
        }
    }
}
