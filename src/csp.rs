//! Infoblox CSP: the client, and a simulator that speaks the same protocol.

mod client;
pub mod niosxaas;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod throttle;

pub use self::client::{AccountList, CspClient, CspError};
