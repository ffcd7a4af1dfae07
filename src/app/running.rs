//! The running processes of `serve` and `worker`, from start to stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use super::{App, StartError};
use crate::{
    clock::Clock,
    config::Config,
    http::{
        api::{metrics, router},
        server::{self, ConnectionLimits, ConnectionTimeouts},
    },
};

/// How long a connection to the metrics may be idle: longer than the usual interval of scrapes.
const METRICS_IDLE: Duration = Duration::from_mins(2);

/// A running broker.
#[derive(Debug)]
pub struct RunningBroker {
    app: App,
    address: SocketAddr,
    server: server::ServerHandle,
    metrics: Option<MetricsServer>,
    shutdown_delay: Duration,
    shutdown_timeout: Duration,
}

impl RunningBroker {
    /// Starts all parts of `serve`. The broker accepts requests when this returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, StartError> {
        let (listener, address) = listen(config.http.address(), "HOST and PORT")?;
        let metrics_listener = listen_for_metrics(config)?;
        let mut app = App::start(config, clock, seed).await?;
        let (warm_up, ()) = tokio::join!(app.warm_up(config), app.start_named_tokens());
        warm_up?;
        let router = router::build(app.state.clone());
        let timeouts = ConnectionTimeouts::with_idle(config.http.keep_alive);
        let limits = ConnectionLimits::of_machine(config.http.edge.trusted_hops > 0);
        let server = server::serve(listener, router, timeouts, limits, &app.state.tasks);
        let metrics = metrics_listener.map(|listener| MetricsServer::start(listener, &app));
        app.start_background_tasks();
        if config.jobs.run_in_serve {
            app.run_jobs(config);
        }
        tracing::info!(%address, "listening");
        Ok(Self {
            app,
            address,
            server,
            metrics,
            shutdown_delay: config.http.shutdown_delay,
            shutdown_timeout: config.http.shutdown_timeout,
        })
    }

    /// Returns the address of the API.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of the metrics, if they have a port of their own.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.address)
    }

    /// Returns the parts of the broker.
    #[must_use]
    pub const fn app(&self) -> &App {
        &self.app
    }

    /// Reports that the broker is not ready, and serves for the shutdown delay, so that load balancers notice. Then
    /// stops accepting, and finishes running requests and the current items of jobs, within the shutdown time-out.
    pub async fn stop(self) {
        self.app.state.readiness.announce_stop();
        sleep(self.shutdown_delay).await;
        let deadline = Instant::now() + self.shutdown_timeout;
        // Requests that wait for a job end with the job.
        self.app.interrupt();
        tokio::join!(
            self.server.stop(deadline),
            MetricsServer::stop(self.metrics, deadline)
        );
        self.app.stop(deadline).await;
        tracing::info!("stopped");
    }
}

fn listen(
    address: SocketAddr,
    variables: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let fault = |source| StartError::Listen {
        address,
        variables,
        source,
    };
    let listener = server::listen(address).map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

fn listen_for_metrics(config: &Config) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let address = config.http.metrics_address();
    address
        .map(|address| listen(address, "HOST and METRICS_PORT"))
        .transpose()
}

/// The server of the metrics on a port of their own.
#[derive(Debug)]
struct MetricsServer {
    address: SocketAddr,
    server: server::ServerHandle,
}

impl MetricsServer {
    fn start((listener, address): (TcpListener, SocketAddr), app: &App) -> Self {
        let router = metrics::router(Arc::clone(&app.state.monitor));
        let timeouts = ConnectionTimeouts::with_idle(METRICS_IDLE);
        tracing::info!(%address, "serving metrics on METRICS_PORT, and on no other port");
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

    async fn stop(metrics: Option<Self>, deadline: Instant) {
        if let Some(metrics) = metrics {
            metrics.server.stop(deadline).await;
        }
    }
}

/// A running worker: the jobs on their intervals, without the API.
#[derive(Debug)]
pub struct RunningWorker {
    app: App,
    metrics: Option<MetricsServer>,
    shutdown_timeout: Duration,
}

impl RunningWorker {
    /// Starts all parts of `worker`.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, StartError> {
        let metrics_listener = listen_for_metrics(config)?;
        let mut app = App::start(config, clock, seed).await?;
        let metrics = metrics_listener.map(|listener| MetricsServer::start(listener, &app));
        app.start_background_tasks();
        app.run_jobs(config);
        Ok(Self {
            app,
            metrics,
            shutdown_timeout: config.http.shutdown_timeout,
        })
    }

    /// Interrupts running jobs, which finish the current item, and stops within the shutdown time-out.
    pub async fn stop(self) {
        let deadline = Instant::now() + self.shutdown_timeout;
        self.app.interrupt();
        MetricsServer::stop(self.metrics, deadline).await;
        self.app.stop(deadline).await;
    }
}
