//! HTTP: the server, the middleware, the API and the files of the dashboard.

pub(crate) mod api;
mod base_path;
mod dashboard;
pub(crate) mod error;
mod headers;
pub(crate) mod middleware;
mod network;
mod request_context;
pub mod server;
mod state;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use self::middleware::{cors::Cors, rate_limit::Quota};
pub use self::state::{ApiContext, AppState};

/// The address, the path and the limits of the API.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `HOST`.
    pub host: IpAddr,
    /// `PORT`; 0 takes any free one.
    pub port: u16,
    /// `API_BASE_PATH`: begins with a slash and ends without one; empty for the root.
    pub base_path: String,
    /// `METRICS_PORT`: the port of the metrics, if it is not the API's; 0 takes any free one.
    pub metrics_port: Option<u16>,
    /// `KEEP_ALIVE_SEC`: how long a connection may be idle.
    pub keep_alive: Duration,
    /// `SHUTDOWN_DELAY_SEC`: how long the broker still accepts requests after SIGTERM, while `/readyz` is 503.
    pub shutdown_delay: Duration,
    /// `SHUTDOWN_TIMEOUT_SEC`: how long running requests may continue after that.
    pub shutdown_timeout: Duration,
    /// The limits of admission.
    pub edge: EdgeConfig,
}

impl HttpConfig {
    /// The address to listen on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The address of the metrics, if they have a port of their own.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_port
            .map(|port| SocketAddr::new(self.host, port))
    }
}

/// The limits of admission.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// `TRUSTED_PROXY_HOPS`: the number of trusted proxies that each append an address to `X-Forwarded-For`.
    pub trusted_hops: usize,
    /// `RATE_LIMIT_PER_SEC` and `RATE_LIMIT_BURST`.
    pub per_caller: Quota,
    /// `RATE_LIMIT_ADDRESS_PER_SEC` and `RATE_LIMIT_ADDRESS_BURST`.
    pub per_address: Quota,
    /// `MAX_IN_FLIGHT`: the largest number of requests in progress.
    pub max_in_flight: usize,
    /// `CORS_ALLOWED_ORIGINS`.
    pub cors: Cors,
}
