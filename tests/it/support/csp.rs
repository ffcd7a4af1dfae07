//! The CSP simulator on a port of its own.

use sandbox_broker::csp::simulator::Simulator;
use tokio_util::sync::CancellationToken;

/// Starts a CSP simulator and returns it with its base URL. It stops with the runtime of the test.
pub async fn simulated_csp(accounts: u64) -> (Simulator, String) {
    let simulator = Simulator::new(accounts, 3);
    let (base_url, listener) = Simulator::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    tokio::spawn(simulator.clone().serve(listener, CancellationToken::new()));
    (simulator, base_url)
}
