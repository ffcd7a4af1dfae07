//! Integration tests: the broker is booted as `main` boots it, on the embedded engine or on the DynamoDB server at
//! `BROKER_TEST_DYNAMODB_ENDPOINT`.
#![allow(
    clippy::disallowed_methods,
    reason = "tasks of a test end with its runtime"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic fails the test, also in its helpers"
)]
#![allow(missing_docs, unreachable_pub, reason = "no crate depends on this one")]

mod action_races;
mod actions;
mod admin;
mod allocation;
mod audit;
mod beside_fastapi;
mod capacity;
mod capacity_expiry;
mod capacity_refill;
mod check;
mod class;
mod cleanup;
mod clocks;
mod commands;
mod contract;
mod dashboard;
mod day;
mod edge;
mod extension;
mod faults;
mod forecast;
mod history;
mod hostile;
mod http;
mod inherited;
mod isolation;
mod job_state;
mod jobs;
mod lab_terms;
mod leaks;
mod lease;
mod metrics;
mod migration;
mod operate;
mod outage;
mod pauses;
mod policy;
mod pools;
mod processes;
mod quarantine;
mod quota;
mod reads;
mod refill;
mod refill_trials;
mod refresher;
mod release;
mod replacement;
mod roles;
mod secrets;
mod shutdown;
mod simulator;
mod single_sign_on;
mod support;
mod sync;
mod tables;
mod terms;
mod timeouts;
mod together;
mod tokens;
#[cfg(feature = "otlp")]
mod traces;
mod unreadable;
