//! Settings that the clients of all AWS services share.

use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region};

use crate::url::is_loopback_url;

/// Idle connections kept per host. The client's own default is unbounded: every connection ever opened stays open.
const MAX_IDLE: usize = 128;

/// Returns the settings of a client in `region`, which calls `endpoint` instead of AWS if there is one.
pub(crate) fn settings(region: &str, endpoint: Option<&str>) -> ConfigLoader {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.to_owned()));
    // Part of the User-Agent header, by which CloudTrail identifies the broker's calls.
    if let Ok(name) = AppName::new(env!("CARGO_PKG_NAME")) {
        loader = loader.app_name(name);
    }
    let Some(endpoint) = endpoint else {
        return loader;
    };
    loader = loader.endpoint_url(endpoint);
    if is_loopback_url(endpoint) && endpoint.starts_with("http://") {
        // The default client uses a proxy named in the environment, which cannot reach a loopback address of this
        // machine.
        let client = aws_smithy_http_client::Builder::new().pool_max_idle_per_host(MAX_IDLE);
        loader = loader.http_client(client.build_http());
    }
    loader
}
