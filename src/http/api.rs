//! The HTTP API. Handlers extract, call a use case and map its answer.

pub(crate) mod admin;
pub(crate) mod allocations;
mod error_responses;
pub(crate) mod extract;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod metrics;
pub(crate) mod niosxaas;
pub(crate) mod openapi;
pub(crate) mod overview;
pub(crate) mod router;
pub(crate) mod sandboxes;
