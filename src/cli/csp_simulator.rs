//! `csp-simulator`: runs the CSP simulator until a signal.

use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::{NO_SIGNALS, SimulatorArguments, print};
use crate::{
    csp::simulator::{Settings, Simulator, SimulatorPort},
    shutdown::Signals,
};

/// Runs the simulator.
///
/// # Errors
/// If its address or state file cannot be used.
pub async fn run(arguments: &SimulatorArguments) -> anyhow::Result<()> {
    let simulator = match &arguments.state {
        Some(file) => Simulator::open(file, arguments.accounts, arguments.seed)?,
        None => Simulator::new(arguments.accounts, arguments.seed),
    };
    simulator.configure(Settings {
        listing_delay: Duration::from_secs(arguments.listing_delay_sec),
        usable_delay: Duration::from_secs(arguments.usable_delay_sec),
        max_accounts: arguments.max_accounts,
        unique_names: arguments.unique_names,
        ..Settings::default()
    });
    let address = (arguments.host, arguments.port).into();
    let port = SimulatorPort::bind(address, arguments.key.as_deref())
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    print(format_args!(
        "CSP simulator with {} accounts\n\n  CSP_BASE_URL={}\n  NIOSXAAS_BASE_URL={url}\n  Faults: {url}/simulator/faults\n  Settings: {url}/simulator/settings",
        simulator.accounts().len(),
        port.csp_base_url(),
        url = port.url(),
    ));
    let stop = CancellationToken::new();
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    tokio::select! {
        served = simulator.serve(port, stop) => served?,
        _ = signals.first() => {}
    }
    Ok(())
}
