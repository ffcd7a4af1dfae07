//! A broker in this process that can be killed.

use std::sync::Arc;

use sandbox_broker::{clock::ManualClock, config::Variables};
use tokio::runtime::{Builder, Runtime};

use crate::support::{BrokerClient, TestBroker};

/// A broker on a runtime of its own.
pub(super) struct MortalBroker {
    runtime: Runtime,
    broker: TestBroker,
}

impl MortalBroker {
    pub(super) async fn boot(variables: Variables, clock: Arc<ManualClock>) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let broker = runtime.spawn(TestBroker::boot_at(variables, clock));
        let broker = broker.await.unwrap();
        Self { runtime, broker }
    }

    pub(super) fn client(&self) -> BrokerClient {
        self.broker.client.clone()
    }

    /// Ends every task of the broker where it waits, as `kill -9` does: nothing is finished, released or answered.
    pub(super) fn kill(self) {
        self.runtime.shutdown_background();
        drop(self.broker);
    }
}
