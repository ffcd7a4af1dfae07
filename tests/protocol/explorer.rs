//! Breadth-first search of the reachable states, so that a broken promise comes with a shortest path to it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::{self, Debug},
    hash::{BuildHasherDefault, Hasher},
};

use super::promise::Promise;

/// A part of the broker's behaviour whose states can be explored.
pub trait Model {
    type State: Copy + Debug;
    type Step: Copy + Debug;

    fn steps(&self) -> Vec<Self::Step>;

    /// Returns the state after a step or the promise that the step breaks; `None` if the step is impossible or changes
    /// nothing.
    fn take(&self, before: &Self::State, step: Self::Step) -> Option<Result<Self::State, Promise>>;

    /// Returns the promise that a state breaks by itself. `answered` caches which requests get an answer if they run alone.
    fn promise_broken_in(&self, state: &Self::State, answered: &mut Answered) -> Option<Promise>;

    /// Encodes a state as a number that is unique to it.
    fn number(state: &Self::State) -> u128;

    fn kind(step: Self::Step) -> &'static str;
}

/// A broken promise and a shortest path to it.
#[derive(Debug)]
pub struct Broken {
    pub promise: Promise,
    pub steps: Vec<String>,
    last: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} after", self.promise)?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        write!(f, "from {}", self.last)
    }
}

/// The result of a search.
#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    /// The kinds of steps taken at least once.
    pub taken: BTreeSet<&'static str>,
    pub broken: Option<Broken>,
}

/// A hasher for states, which are numbers already.
#[derive(Default)]
pub struct StateHasher(u64);

impl Hasher for StateHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("states are hashed as numbers");
    }

    fn write_u128(&mut self, state: u128) {
        let mixed = state.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the upper half is folded in"
        )]
        let folded = (mixed ^ (mixed >> 64)) as u64;
        self.0 = folded;
    }
}

type BuildStateHasher = BuildHasherDefault<StateHasher>;

/// Which requests get an answer if they run alone.
pub type Answered = HashMap<u128, bool, BuildStateHasher>;

/// Searches all states reachable from `initial`, up to the first that breaks a promise.
pub fn explore<M: Model>(model: &M, initial: M::State) -> Explored {
    // Each state with the index of its predecessor and the step from there.
    let mut reached: Vec<(M::State, usize, Option<M::Step>)> = vec![(initial, 0, None)];
    let mut known: HashSet<u128, BuildStateHasher> = HashSet::from_iter([M::number(&initial)]);
    let mut answered = Answered::default();
    let mut taken = BTreeSet::new();
    let steps = model.steps();
    let mut at = 0;
    while let Some((state, ..)) = reached.get(at).copied() {
        let mut broken = model
            .promise_broken_in(&state, &mut answered)
            .map(|promise| (None, promise));
        for step in steps.iter().copied() {
            match model.take(&state, step) {
                None => {}
                Some(Err(promise)) => {
                    broken = broken.or(Some((Some(step), promise)));
                }
                Some(Ok(next)) => {
                    taken.insert(M::kind(step));
                    if known.insert(M::number(&next)) {
                        reached.push((next, at, Some(step)));
                    }
                }
            }
        }
        if let Some((step, promise)) = broken {
            return Explored {
                states: reached.len(),
                taken,
                broken: Some(Broken {
                    promise,
                    steps: path_to(&reached, at, step),
                    last: format!("{state:?}"),
                }),
            };
        }
        at += 1;
    }
    Explored {
        states: reached.len(),
        taken,
        broken: None,
    }
}

fn path_to<State, Step: Copy + Debug>(
    reached: &[(State, usize, Option<Step>)],
    at: usize,
    last: Option<Step>,
) -> Vec<String> {
    let mut steps: Vec<_> = last.into_iter().collect();
    let mut at = at;
    while let (_, before, Some(step)) = &reached[at] {
        steps.push(*step);
        at = *before;
    }
    steps.iter().rev().map(|step| format!("{step:?}")).collect()
}
