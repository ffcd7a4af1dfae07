//! The broker from the outside: booted as `main` boots it, on the embedded engine, or on the server at
//! `BROKER_TEST_DYNAMODB_ENDPOINT`.
#![allow(
    clippy::disallowed_methods,
    reason = "tests end with their runtime, so they may spawn as they like"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, in its helpers too"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody depends on this crate")]

mod admin;
mod allocation;
mod cleanup;
mod contract;
mod dashboard;
mod edge;
mod faults;
mod history;
mod hostile;
mod http;
mod jobs;
mod metrics;
mod migration;
mod outage;
mod processes;
mod refresher;
mod release;
mod secrets;
mod support;
mod sync;
mod together;
#[cfg(feature = "otlp")]
mod traces;
