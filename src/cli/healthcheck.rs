//! `healthcheck`: checks that the broker on this machine is up.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;

use crate::config::Config;

/// The time-out of the check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests `/healthz` of the broker that `config` describes.
///
/// # Errors
/// If it does not answer with success within `HEALTH_TIMEOUT`.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut address = config.http.address();
    // A broker that listens on all addresses listens on the loopback address.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let url = format!("http://{address}/healthz");
    let client = reqwest::Client::builder()
        .no_proxy()
        // Without TLS, certificate authorities that cannot be read are no fault.
        .tls_certs_only([])
        .timeout(HEALTH_TIMEOUT)
        .build()?;
    client
        .get(&url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .with_context(|| format!("{url} does not answer with success"))?;
    Ok(ExitCode::SUCCESS)
}
