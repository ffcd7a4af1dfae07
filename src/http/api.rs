//! The HTTP API. Handlers extract, call a use case or a job, and map the result.
//!
//! A module has the handlers of one concern and a function `routes`; [`router`] merges them.

mod actions;
mod admin;
mod allocations;
mod audit;
mod error_responses;
mod extension;
mod extract;
mod forecast;
mod header_docs;
mod health;
mod jobs;
mod leaks;
mod me;
pub(crate) mod metrics;
mod minutes;
mod niosxaas;
mod openapi;
mod overview;
mod paging;
mod pauses;
mod policy;
mod replacement;
pub(crate) mod router;
mod run_response;
mod runs;
mod sandboxes;
mod timeline;
mod tokens;
