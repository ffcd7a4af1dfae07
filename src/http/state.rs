//! What all handlers share.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::EdgeConfig;
use crate::{
    auth::Authenticator,
    broker::{Broker, Readiness},
    clock::Clock,
    jobs::{pool_monitor::PoolMonitor, runner::Runner},
    telemetry::metrics::Metrics,
};

/// What handlers share. Cheap to clone: every request does.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Parts>);

impl From<Parts> for AppState {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts that handlers use.
#[derive(Debug)]
pub struct Parts {
    /// The use cases.
    pub broker: Arc<Broker>,
    /// Starts jobs.
    pub runner: Runner,
    /// The valid tokens.
    pub auth: Authenticator,
    /// The check of the database.
    pub readiness: Arc<Readiness>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where tasks are spawned that shutdown waits for.
    pub tasks: TaskTracker,
    /// The path of the API, without a slash at the end.
    pub base_path: Arc<str>,
    /// What is let in.
    pub edge: Arc<EdgeConfig>,
    /// Whether the metrics are on the API's own port.
    pub serves_metrics: bool,
    /// Every instrument.
    pub metrics: Metrics,
    /// How the pool is.
    pub monitor: Arc<PoolMonitor>,
}
