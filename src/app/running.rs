//! What `serve` and `worker` run, from start to stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::Instant};

use super::{App, StartError};
use crate::{
    clock::Clock,
    config::Config,
    http::{
        api::{metrics, router},
        server::{self, ConnectionLimits, ConnectionTimeouts},
    },
};

/// The broker, listening.
#[derive(Debug)]
pub struct Running {
    app: App,
    address: SocketAddr,
    server: server::Handle,
    metrics: Option<MetricsServer>,
    shutdown_timeout: Duration,
}

impl Running {
    /// Starts everything that `serve` runs; ready when it returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, StartError> {
        let (listener, address) = listen(config.http.address())?;
        let metrics_listener = config.http.metrics_address().map(listen).transpose()?;
        let mut app = App::start(config, clock, seed).await?;
        app.warm_up(config).await?;
        let (router, _) = router::build(app.state.clone());
        let timeouts = ConnectionTimeouts::with_idle(config.http.keep_alive);
        let limits = ConnectionLimits::of_machine(config.http.edge.trusted_hops > 0);
        let server = server::serve(listener, router, timeouts, limits, &app.state.tasks);
        let metrics = metrics_listener.map(|listener| MetricsServer::start(listener, &app));
        app.keep_up();
        if config.jobs.run_in_serve {
            app.run_jobs(config);
        }
        tracing::info!(%address, "listening");
        Ok(Self {
            app,
            address,
            server,
            metrics,
            shutdown_timeout: config.http.shutdown_timeout,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the metrics are, if not there.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.address)
    }

    /// What it is made of.
    #[must_use]
    pub const fn app(&self) -> &App {
        &self.app
    }

    /// Stops accepting, finishes what is running, and returns at the deadline at the latest.
    pub async fn stop(self) {
        let deadline = Instant::now() + self.shutdown_timeout;
        // Requests that wait for a job end with it.
        self.app.interrupt();
        self.server.stop(deadline).await;
        if let Some(metrics) = self.metrics {
            metrics.server.stop(deadline).await;
        }
        self.app.stop(deadline).await;
        tracing::info!("stopped");
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let fault = |source| StartError::Listen { address, source };
    let listener = server::listen(address).map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

/// The metrics on a port of their own.
#[derive(Debug)]
struct MetricsServer {
    address: SocketAddr,
    server: server::Handle,
}

impl MetricsServer {
    fn start((listener, address): (TcpListener, SocketAddr), app: &App) -> Self {
        let router = metrics::router(Arc::clone(&app.state.monitor));
        let timeouts = ConnectionTimeouts::with_idle(METRICS_IDLE);
        tracing::info!(%address, "serving metrics");
        Self {
            address,
            server: server::serve(
                listener,
                router,
                timeouts,
                ConnectionLimits::small(),
                &app.state.tasks,
            ),
        }
    }
}

/// Longer than the usual pause between two scrapes.
const METRICS_IDLE: Duration = Duration::from_mins(2);

/// The jobs on their intervals, without the API.
#[derive(Debug)]
pub struct Working {
    app: App,
    metrics: Option<MetricsServer>,
    shutdown_timeout: Duration,
}

impl Working {
    /// Starts everything that `worker` runs.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, StartError> {
        let metrics_listener = config.http.metrics_address().map(listen).transpose()?;
        let mut app = App::start(config, clock, seed).await?;
        let metrics = metrics_listener.map(|listener| MetricsServer::start(listener, &app));
        app.keep_up();
        app.run_jobs(config);
        Ok(Self {
            app,
            metrics,
            shutdown_timeout: config.http.shutdown_timeout,
        })
    }

    /// Lets running jobs end after the item at hand, and returns at the deadline at the latest.
    pub async fn stop(self) {
        let deadline = Instant::now() + self.shutdown_timeout;
        self.app.interrupt();
        if let Some(metrics) = self.metrics {
            metrics.server.stop(deadline).await;
        }
        self.app.stop(deadline).await;
    }
}
