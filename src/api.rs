//! The HTTP API. Handlers extract, call a use case and map its answer.

pub mod admin;
pub mod allocations;
mod dashboard;
pub mod error;
pub mod extract;
pub mod health;
pub mod jobs;
pub mod metrics;
pub mod niosxaas;
pub mod openapi;
pub mod overview;
pub mod router;
pub mod sandboxes;
