//! The rules that a call passes on its way to the server and back.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, OnceLock},
};

use axum::{body::Body, http::Response};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::{
    call::{Call, Polled, Server},
    gate::Gates,
    meter::Meter,
    mutant::Conditions,
    refusal::{cut, refusal, reset},
    script::{Dice, Fault},
    stale::Memory,
};

pub(super) struct Rules {
    server: Server,
    pub(super) calls: Mutex<BTreeMap<String, usize>>,
    pub(super) polls: Mutex<BTreeMap<Polled, usize>>,
    pub(super) in_flight: TaskTracker,
    pub(super) gates: Gates,
    pub(super) conditions: Conditions,
    pub(super) meter: OnceLock<Meter>,
    pub(super) dice: Mutex<Dice>,
    memory: Memory,
    pub(super) injected: Mutex<BTreeMap<Fault, usize>>,
}

impl Rules {
    pub(super) fn new(target: &str, seed: u64) -> Self {
        Self {
            server: Server::at(target),
            meter: OnceLock::new(),
            calls: Mutex::default(),
            polls: Mutex::default(),
            in_flight: TaskTracker::new(),
            gates: Gates::default(),
            conditions: Conditions::default(),
            dice: Mutex::new(Dice::new(seed)),
            memory: Memory::default(),
            injected: Mutex::default(),
        }
    }

    /// Returns the answer to a call, or an error where the connection is to be reset.
    pub(super) async fn answer(&self, mut call: Call) -> io::Result<Response<Body>> {
        // Beside the calls that a test is about.
        let polled = call.polled();
        self.count_call(&call, polled);
        self.gates.pass(&call).await;
        self.conditions.apply(&mut call);
        let is_index_query = call.is_index_query();
        let roll = self.dice.lock().unwrap().roll(&call, is_index_query);
        if let Some(limit) = roll.page_limit.filter(|_| is_index_query) {
            call.limit_page(limit);
        }
        match roll.fault {
            Some(Fault::DelayBefore) => {
                self.count(Fault::DelayBefore);
                sleep(roll.delay).await;
            }
            Some(Fault::DropRequest) => {
                self.count(Fault::DropRequest);
                return Err(reset());
            }
            Some(Fault::StaleRead) => {
                let answer = self.memory.recall(&call.body, roll.staleness, roll.variant);
                if let Some(answer) = answer {
                    self.count(Fault::StaleRead);
                    return Ok(answer.into());
                }
            }
            Some(fault) => {
                if let Some(refusal) = refusal(fault, &call, roll.variant) {
                    self.count(fault);
                    return Ok(refusal);
                }
            }
            None => {}
        }
        let answer = match self.meter.get().filter(|_| polled.is_none()) {
            Some(meter) => meter.send(&call, &self.server).await?,
            None => self.server.send(&call).await?,
        };
        if is_index_query && answer.status.is_success() {
            self.memory.remember(call.body, answer.clone());
        }
        match roll.fault {
            Some(Fault::DelayAfter) => {
                self.count(Fault::DelayAfter);
                sleep(roll.delay).await;
                Ok(answer.into())
            }
            Some(Fault::DropAnswer) if answer.status.is_success() => {
                self.count(Fault::DropAnswer);
                Err(reset())
            }
            Some(Fault::CutAnswer) => {
                self.count(Fault::CutAnswer);
                Ok(cut(answer))
            }
            _ => Ok(answer.into()),
        }
    }

    fn count_call(&self, call: &Call, polled: Option<Polled>) {
        if let Some(polled) = polled {
            *self.polls.lock().unwrap().entry(polled).or_default() += 1;
        } else {
            let mut calls = self.calls.lock().unwrap();
            *calls.entry(call.operation.clone()).or_default() += 1;
        }
    }

    fn count(&self, fault: Fault) {
        *self.injected.lock().unwrap().entry(fault).or_default() += 1;
    }
}
