//! Infoblox CSP: the client, and a simulator that speaks the same protocol.

mod client;
pub mod niosxaas;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod throttle;

pub use self::client::{AccountList, CspClient, CspError};

use std::time::Duration;

use secrecy::SecretString;

/// Which CSP the pool is kept in step with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CspMode {
    /// The simulator in this process.
    Simulated,
    /// The one at `CSP_BASE_URL`.
    Live,
}

/// Which CSP, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct CspConfig {
    /// `CSP_MODE`.
    pub mode: CspMode,
    /// `CSP_BASE_URL`, without a slash at the end.
    pub base_url: String,
    /// `CSP_API_TOKEN`.
    pub token: Option<SecretString>,
    /// `CSP_TIMEOUT_CONNECT_SEC`.
    pub connect_timeout: Duration,
    /// `CSP_TIMEOUT_READ_SEC`: the longest silence within an answer.
    pub read_timeout: Duration,
    /// `SIMULATOR_ACCOUNTS`: how many accounts the simulator in this process begins with.
    pub simulated_accounts: usize,
}
