//! Sandbox Broker leases pre-created Infoblox CSP sandbox accounts to Instruqt lab plays.
//!
//! # Where things are
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`], [`config`], [`telemetry`], [`shutdown`] | what `main` needs before and around the broker |
//! | [`app`], [`server`] | puts the parts together, listens, stops |
//! | [`api`], [`middleware`] | HTTP: extract, call a use case, map its answer |
//! | [`broker`] | the use cases: allocate, release, get, list |
//! | [`jobs`] | what keeps the pool in step with CSP |
//! | [`supply`], [`candidates`], [`backoff`] | which sandbox to try next, and when |
//! | [`store`] | DynamoDB, or what speaks its API; every conditional write |
//! | [`csp`] | the CSP client, and a simulator of CSP |
//! | [`secrets`] | tokens and credentials that Secrets Manager keeps, and their rotation |
//! | [`metrics`], [`watch`] | every instrument; how the pool is, now and in its samples |
//! | `dashboard/` | the operators' page, which knows what the admin API tells it |
//! | [`sandbox`], [`clock`] | the words of the domain |
//!
//! Dependencies run one way: `api` and `jobs` to `broker`, to `supply`, `store` and `csp`, to `sandbox` and `clock`.
//!
//! # The life of an allocation
//!
//! 1. `POST /v1/allocate` arrives; the extractors check the token and read who asks, under which key.
//! 2. [`broker::Broker::allocate`] takes a candidate from the index, out of memory, where other brokers are not
//!    likely to take theirs.
//! 3. [`store::Slot::claim`] makes one transaction: the sandbox leaves `available`, and a claim points the
//!    (caller, key) pair at it. Both or neither; this is where races are decided.
//! 4. A retry finds the claim, reads the sandbox, and gets it again.
//! 5. `mark-for-deletion` moves the sandbox to `pending_deletion`, in one conditional write. It never comes back.

pub mod api;
pub mod app;
#[cfg(test)]
mod arbitrary;
mod aws;
pub mod backoff;
pub mod broker;
pub mod candidates;
pub mod cli;
pub mod clock;
pub mod config;
pub mod csp;
pub mod jobs;
pub mod metrics;
pub mod middleware;
pub mod sandbox;
pub mod secrets;
pub mod server;
pub mod shutdown;
pub mod store;
pub mod supply;
pub mod telemetry;
pub mod watch;
