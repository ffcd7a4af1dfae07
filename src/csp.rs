//! Infoblox CSP: the client, and a simulator that speaks the same protocol.

mod client;
#[cfg(feature = "simulator")]
pub mod simulator;

pub use self::client::{AccountList, CspClient, CspError};
