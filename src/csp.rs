//! Infoblox CSP: the client, and a simulator with the same API.

mod account_list;
mod client;
mod creation;
mod error;
mod http;
mod json;
mod list;
pub mod niosxaas;
pub mod session;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod throttle;

pub use self::{
    account_list::AccountList,
    client::CspClient,
    creation::{CreatedAccount, NewAccount},
    error::{Credentials, CspError},
    http::uuid_of,
};

use std::time::Duration;

use secrecy::SecretString;

/// The CSP that the broker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CspMode {
    /// The simulator in this process.
    Simulated,
    /// The CSP at `CSP_BASE_URL`.
    Live,
}

impl CspMode {
    /// Returns the value of `CSP_MODE`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Live => "live",
        }
    }
}

/// Whether a token is the one in the examples of the FastAPI service, with which that service called no CSP.
pub(crate) fn is_placeholder(token: &str) -> bool {
    token == "your_csp_token_here"
}

/// The configuration of the CSP client.
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
    /// `CSP_TIMEOUT_READ_SEC`: the longest wait for the next part of an answer.
    pub read_timeout: Duration,
    /// `SIMULATOR_ACCOUNTS`: the number of accounts with which the simulator starts.
    pub simulated_accounts: usize,
}
