//! The CSP simulator on a port of its own.

use sandbox_broker::csp::simulator::{Simulator, SimulatorPort};
use tokio_util::sync::CancellationToken;

/// Starts a CSP simulator and returns it with its base URL. It stops with the runtime of the test.
pub async fn simulated_csp(accounts: u64) -> (Simulator, String) {
    let simulator = Simulator::new(accounts, 3);
    let address = ([127, 0, 0, 1], 0).into();
    let port = SimulatorPort::bind(address, None).await.unwrap();
    let base_url = port.csp_base_url();
    tokio::spawn(simulator.clone().serve(port, CancellationToken::new()));
    (simulator, base_url)
}
