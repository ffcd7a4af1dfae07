//! Breadth-first search of the reachable states, so that a broken promise comes with a shortest path to it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

use super::{model::Protocol, promise::Promise, state::State, step::Step};

/// A broken promise and a shortest path to it.
#[derive(Debug)]
pub struct Broken {
    pub promise: Promise,
    pub steps: Vec<Step>,
    last: State,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} after", self.promise)?;
        for step in &self.steps {
            writeln!(f, "  {step:?}")?;
        }
        write!(f, "from {:?}", self.last)
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

    fn write_u64(&mut self, state: u64) {
        let mixed = state.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

type BuildStateHasher = BuildHasherDefault<StateHasher>;

/// Searches all states reachable from `initial`, up to the first that breaks a promise.
pub fn explore(protocol: &Protocol, initial: State) -> Explored {
    // Each state with the index of its predecessor and the step from there.
    let mut reached: Vec<(State, usize, Option<Step>)> = vec![(initial, 0, None)];
    let mut known: HashSet<u64, BuildStateHasher> = HashSet::from_iter([initial.number()]);
    let mut answered: HashMap<u64, bool, BuildStateHasher> = HashMap::default();
    let mut taken = BTreeSet::new();
    let steps: Vec<_> = Step::all().collect();
    let mut at = 0;
    while let Some((state, ..)) = reached.get(at).copied() {
        let mut broken = protocol
            .promise_broken_in(&state, &mut answered)
            .map(|promise| (None, promise));
        for step in steps.iter().copied() {
            match protocol.take(&state, step) {
                None => {}
                Some(Err(promise)) => {
                    broken = broken.or(Some((Some(step), promise)));
                }
                Some(Ok(next)) => {
                    taken.insert(step.kind());
                    if known.insert(next.number()) {
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
                    last: state,
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

fn path_to(reached: &[(State, usize, Option<Step>)], at: usize, last: Option<Step>) -> Vec<Step> {
    let mut steps: Vec<_> = last.into_iter().collect();
    let mut at = at;
    while let (_, before, Some(step)) = reached[at] {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}
