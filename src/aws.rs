//! What the clients of AWS services have in common.

use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region};

use crate::url::is_loopback_url;

/// Idle connections that are kept: without a bound it is all that were ever open at once.
const MAX_IDLE: usize = 128;

/// Settings for a client in `region`, or of the server at `endpoint`.
pub(crate) fn settings(region: &str, endpoint: Option<&str>) -> ConfigLoader {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.to_owned()));
    // Part of User-Agent, so that CloudTrail tells who called.
    if let Ok(name) = AppName::new(env!("CARGO_PKG_NAME")) {
        loader = loader.app_name(name);
    }
    let Some(endpoint) = endpoint else {
        return loader;
    };
    loader = loader.endpoint_url(endpoint);
    if is_loopback_url(endpoint) && endpoint.starts_with("http://") {
        // The default client would ask a proxy from the environment, which leads away from this machine.
        let client = aws_smithy_http_client::Builder::new().pool_max_idle_per_host(MAX_IDLE);
        loader = loader.http_client(client.build_http());
    }
    loader
}
