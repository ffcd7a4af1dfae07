//! Shared parts of the integration tests.

mod alone;
pub mod audit;
mod broker;
mod calls;
mod client;
mod csp;
mod engine;
mod engine_server;
pub mod fastapi;
mod load_balancer;
mod outcome;
mod pool;
mod process;
pub mod proxy;
pub mod signer;
mod terminal;

pub use self::{
    alone::run_alone,
    broker::TestBroker,
    client::{Answer, BrokerClient, warning_codes},
    csp::simulated_csp,
    load_balancer::{KeyAnswer, LoadBalancer, person},
    outcome::Outcome,
    pool::{Pool, account, assert_each_has_one, key},
    process::{BINARY, BrokerProcess, Signal, command, laptop, unignore_signals},
    proxy::Proxy,
    terminal::Terminal,
};

use sandbox_broker::clock::UnixSeconds;

pub const TRACK: &str = "test-track-token";
pub const ADMIN: &str = "test-admin-token";
/// The initial time of the tests' clocks, on 2036-11-19: engines remove items by their own clock, so no time to live of a
/// test may be over.
pub const START: UnixSeconds = UnixSeconds(2_110_705_600);
