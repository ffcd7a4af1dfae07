//! A proxy between an AWS SDK and its server that records calls and injects faults.
//!
//! Every rule is off at first, and all of them combine: calls are counted, held back, their conditions weakened, and their
//! capacity units metered; a script, or a single order, decides which fault a call meets.

mod call;
mod connections;
mod gate;
pub mod meter;
mod mutant;
mod refusal;
mod rules;
mod script;
mod stale;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use self::{
    call::{Call, Polled},
    gate::Gate,
    mutant::{Condition, Mutant},
    script::{Fault, Script},
};
use self::{
    connections::Listener,
    meter::{Consumption, Meter},
    rules::Rules,
};

/// The seed where a test does not depend on which fault meets which call.
const SEED: u64 = 1;

/// The proxy. It accepts no more connections once it is dropped.
pub struct Proxy {
    listener: Listener,
    rules: Arc<Rules>,
}

impl Proxy {
    /// Starts a proxy to the server at `target`.
    pub async fn to(target: &str) -> Self {
        Self::with_seed(target, SEED).await
    }

    /// Starts a proxy whose faults and delays are drawn from `seed`.
    pub async fn with_seed(target: &str, seed: u64) -> Self {
        let rules = Arc::new(Rules::new(target, seed));
        let listener = Listener::open(Arc::clone(&rules)).await;
        Self { listener, rules }
    }

    pub fn endpoint(&self) -> String {
        self.listener.endpoint()
    }

    /// Refuses connections from now on. Calls in flight are answered first.
    pub async fn switch_off(&mut self) {
        self.listener.close().await;
    }

    /// Accepts connections again, on the same port.
    pub fn switch_on(&mut self) {
        self.listener.reopen(Arc::clone(&self.rules));
    }

    /// Injects faults by `script` from now on.
    pub fn play(&self, script: Script) {
        self.rules.dice.lock().unwrap().play(script);
    }

    /// Injects no more faults.
    pub fn calm(&self) {
        self.rules.dice.lock().unwrap().calm();
    }

    /// Injects `fault` into the next call of the operation. It overrides the script.
    pub fn inject_once(&self, operation: &'static str, fault: Fault) {
        self.inject_after(0, operation, fault);
    }

    /// Injects `fault` into a call of the operation after so many others of it. Further orders count from there.
    pub fn inject_after(&self, calls: usize, operation: &'static str, fault: Fault) {
        let mut dice = self.rules.dice.lock().unwrap();
        dice.inject_after(calls, operation, fault);
    }

    /// Replaces the mutant that weakens the conditions of writes.
    pub fn weaken(&self, mutant: Option<Mutant>) {
        self.rules.conditions.weaken(mutant);
    }

    /// Returns the conditional writes seen so far.
    pub fn conditions(&self) -> Vec<Condition> {
        self.rules.conditions.seen()
    }

    /// Holds back the calls that match until the gate is opened or dropped.
    pub fn hold(&self, matches: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Gate {
        self.rules.gates.shut(Box::new(matches))
    }

    /// Holds back the calls of one operation until the gate is opened or dropped.
    pub fn hold_operation(&self, operation: &'static str) -> Gate {
        self.hold(move |call| call.operation == operation)
    }

    /// Returns the number of injected faults by kind.
    pub fn injected(&self) -> BTreeMap<Fault, usize> {
        self.rules.injected.lock().unwrap().clone()
    }

    /// Returns the number of calls by operation, without reads of what every process polls, and resets it.
    pub fn take_calls(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.rules.calls.lock().unwrap())
    }

    /// Returns the number of reads of what every process polls, and resets it.
    pub fn take_polls(&self, polled: Polled) -> usize {
        let mut polls = self.rules.polls.lock().unwrap();
        polls.remove(&polled).unwrap_or(0)
    }

    /// Counts the capacity units since the last invocation, or from now on if this is the first one.
    pub async fn take_consumption(&self) -> Consumption {
        self.rules.meter.get_or_init(Meter::default).take().await
    }

    /// Waits until no call has been in flight for 40 ms.
    pub async fn until_quiet(&self) {
        let mut quiet = 0;
        while quiet < 20 {
            let is_quiet = self.rules.in_flight.is_empty();
            quiet = if is_quiet { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
