//! A broker in the process of the test, booted as `main` boots it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sandbox_broker::{
    app::RunningBroker,
    clock::{Clock, ManualClock},
    config::{Config, Variables},
};

use super::{START, client::BrokerClient};

/// A running broker with its clock and a client.
pub struct TestBroker {
    pub running: RunningBroker,
    pub clock: Arc<ManualClock>,
    pub client: BrokerClient,
}

impl TestBroker {
    /// Boots a broker whose clock shows `START`.
    pub async fn boot(variables: Variables) -> Self {
        Self::boot_at(variables, Arc::new(ManualClock::new(START))).await
    }

    pub async fn boot_at(variables: Variables, clock: Arc<ManualClock>) -> Self {
        // No two brokers have the same seed, as in production.
        static SEED: AtomicU64 = AtomicU64::new(1);
        let config = Config::from_variables(&variables).unwrap();
        let seed = SEED.fetch_add(1, Ordering::Relaxed);
        let clock_of_broker = Arc::clone(&clock) as Arc<dyn Clock>;
        // The start of a broker is a large future, and so would be every test that boots one.
        let start = Box::pin(RunningBroker::start(&config, clock_of_broker, seed));
        let running = start.await.unwrap();
        running.app().add_first_sample().await.unwrap();
        let client = BrokerClient::new(format!("http://{}", running.address()));
        Self {
            running,
            clock,
            client,
        }
    }
}
