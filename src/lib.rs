//! The Sandbox Broker leases pre-created Infoblox CSP sandbox accounts to Instruqt lab plays.
//!
//! A module uses only modules of lower layers; `docs/architecture.md` has the table, and `tests/architecture.rs`
//! enforces it.

#![warn(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "they panic if the output cannot be written; use cli::print"
)]

pub mod app;
#[cfg(test)]
mod arbitrary;
mod auth;
mod aws;
mod backoff;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod csp;
pub mod domain;
pub mod http;
mod jobs;
#[cfg(any(feature = "embedded", feature = "simulator"))]
mod private_files;
mod secrets;
mod shared;
mod shutdown;
pub mod store;
pub mod telemetry;
mod tls;
mod url;
