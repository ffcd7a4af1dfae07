//! `csp-simulator`: runs the CSP simulator until a signal.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::{NO_SIGNALS, SimulatorArguments, print};
use crate::{csp::simulator::Simulator, shutdown::Signals};

/// Runs the simulator.
///
/// # Errors
/// If its address or state file cannot be used.
pub async fn run(arguments: &SimulatorArguments) -> anyhow::Result<()> {
    let simulator = match &arguments.state {
        Some(file) => Simulator::open(file, arguments.accounts, arguments.seed)?,
        None => Simulator::new(arguments.accounts, arguments.seed),
    };
    let address = (arguments.host, arguments.port).into();
    let (base_url, listener) = Simulator::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    print(format_args!(
        "CSP simulator with {} accounts\n\n  CSP_BASE_URL={base_url}",
        simulator.accounts().len()
    ));
    let stop = CancellationToken::new();
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    tokio::select! {
        served = simulator.serve(listener, stop) => served?,
        _ = signals.first() => {}
    }
    Ok(())
}
