//! The state that all handlers share.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::EdgeConfig;
use crate::{
    auth::{Authenticator, load_balancer::LoadBalancer},
    broker::{Broker, Readiness, RefusalLog},
    clock::Clock,
    csp::CspMode,
    jobs::{pool_monitor::PoolMonitor, runner::Runner},
    telemetry::metrics::Metrics,
};

/// A shared [`ApiContext`]. Cheap to clone: every request clones it.
#[derive(Clone, Debug)]
pub struct AppState(Arc<ApiContext>);

impl From<ApiContext> for AppState {
    fn from(context: ApiContext) -> Self {
        Self(Arc::new(context))
    }
}

impl std::ops::Deref for AppState {
    type Target = ApiContext;

    fn deref(&self) -> &ApiContext {
        &self.0
    }
}

/// The parts of the broker that handlers and middleware use.
#[derive(Debug)]
pub struct ApiContext {
    /// The use cases.
    pub broker: Arc<Broker>,
    /// The audit of refused requests.
    pub refusals: Arc<RefusalLog>,
    /// Starts jobs.
    pub runner: Runner,
    /// The valid tokens.
    pub auth: Authenticator,
    /// Sign-in at the load balancer, if it is on.
    pub load_balancer: Option<Arc<LoadBalancer>>,
    /// The check of the database.
    pub readiness: Arc<Readiness>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The tasks that shutdown waits for.
    pub tasks: TaskTracker,
    /// The path of the API, without a slash at the end; empty for the root.
    pub base_path: Arc<str>,
    /// The limits of admission.
    pub edge: Arc<EdgeConfig>,
    /// Whether the API's own port serves the metrics.
    pub serves_metrics: bool,
    /// Whether the accounts are those of a simulated CSP.
    pub csp_mode: CspMode,
    /// Every instrument.
    pub metrics: Metrics,
    /// The state of the pool.
    pub monitor: Arc<PoolMonitor>,
}
