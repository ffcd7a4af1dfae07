//! Gates, which hold calls back until a test opens them.

use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, watch};

use super::Call;

type Matcher = Box<dyn Fn(&Call) -> bool + Send + Sync>;

#[derive(Default)]
pub(super) struct Gates(Mutex<Vec<Arc<Shut>>>);

struct Shut {
    matches: Matcher,
    /// A permit for each call that has arrived at the gate.
    arrived: Semaphore,
    is_open: watch::Sender<bool>,
}

/// A gate that holds calls back until it is opened or dropped.
pub struct Gate(Arc<Shut>);

impl Gates {
    pub(super) fn shut(&self, matches: Matcher) -> Gate {
        let shut = Arc::new(Shut {
            matches,
            arrived: Semaphore::new(0),
            is_open: watch::Sender::new(false),
        });
        let mut gates = self.0.lock().unwrap();
        gates.retain(|gate| !*gate.is_open.borrow());
        gates.push(Arc::clone(&shut));
        Gate(shut)
    }

    /// Waits at the first shut gate that matches the call.
    pub(super) async fn pass(&self, call: &Call) {
        let gate = {
            let gates = self.0.lock().unwrap();
            let mut shut = gates.iter().filter(|gate| !*gate.is_open.borrow());
            shut.find(|gate| (gate.matches)(call)).cloned()
        };
        if let Some(gate) = gate {
            let mut is_open = gate.is_open.subscribe();
            gate.arrived.add_permits(1);
            // Cannot fail: the sender lives as long as the gate.
            let _ = is_open.wait_for(|is_open| *is_open).await;
        }
    }
}

impl Gate {
    /// Waits until a call is held back, one more with each invocation.
    pub async fn wait_for_one(&self) {
        self.0.arrived.acquire().await.unwrap().forget();
    }

    pub fn open(&self) {
        self.0.is_open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}
