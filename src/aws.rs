//! What the clients of AWS services have in common.

use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::config::is_loopback_url;

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
    loader.endpoint_url(endpoint)
}

/// An HTTP client that keeps so many idle connections at the most: by default it keeps all that it ever opened at
/// once, and it opens more than it has calls under way.
pub(crate) fn http_client(endpoint: Option<&str>, max_idle: usize) -> SharedHttpClient {
    let builder = Builder::new().pool_max_idle_per_host(max_idle);
    match endpoint {
        // With TLS it would ask a proxy from the environment, which leads away from this machine.
        Some(endpoint) if is_loopback_url(endpoint) && endpoint.starts_with("http://") => {
            builder.build_http()
        }
        _ => builder
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build_https(),
    }
}
