//! The composition root: builds the parts of the broker from the configuration, and starts and stops them.

mod csp_endpoint;
mod running;
mod tables;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use thiserror::Error;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::csp_endpoint::CspEndpoint;
pub use self::running::{RunningBroker, RunningWorker};
#[cfg(feature = "embedded")]
use crate::store::{
    Engine,
    embedded::{EmbeddedEngine, EmbeddedError},
};
use crate::{
    auth::{Authenticator, load_balancer::LoadBalancer, named_tokens::NamedTokens},
    backoff::Backoff,
    broker::{
        Broker, Readiness, RefusalLog,
        candidates::CandidateIndex,
        pauses::PauseWatch,
        policy::PolicyWatch,
        quota::{LabsHeldCount, Quotas},
        refresher::CandidateRefresher,
    },
    clock::Clock,
    config::Config,
    csp::{CspError, CspMode, throttle::Breaker},
    http::{ApiContext, AppState},
    jobs::{
        JobContext, JobError,
        csp_state::SharedCspState,
        pool_monitor::PoolMonitor,
        runner::{JobStartError, Runner},
        schedule,
        sync::SyncJob,
    },
    secrets::{CredentialTargets, SecretError, SecretsRefresher},
    shared::Shared,
    store::{PoolStore, SCHEMA_VERSION, StoreError},
    telemetry::metrics::Metrics,
    tls::{NoAuthorities, check_authorities},
};

/// The reason why a command cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address is in use, or not an address of this machine.
    #[error(
        "cannot listen on {address}, the address of {variables}; stop the process that uses it, or change {variables}"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The variables that determine it.
        variables: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// A service is reached over TLS, but there are no certificate authorities.
    #[error(transparent)]
    NoAuthorities(#[from] NoAuthorities),
    /// The embedded engine cannot start.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database cannot be used.
    #[error("the table {table} cannot be used")]
    Store {
        /// The table's name.
        table: String,
        /// The cause.
        source: StoreError,
    },
    /// A table differs from the schema that the broker requires.
    #[error("the table {table} or its companion cannot be used: {}", differences.join("; "))]
    Tables {
        /// The table's name.
        table: String,
        /// The differences, and the remedy of each.
        differences: Vec<String>,
    },
    /// The table was written by a newer broker.
    #[error(
        "the table {table} has schema version {found}; this broker knows up to {SCHEMA_VERSION}, so upgrade it"
    )]
    NewerSchema {
        /// The table's name.
        table: String,
        /// Its schema version.
        found: u32,
    },
    /// Brokers of an earlier build may be using the table.
    #[error(
        "the table {table} has the layout of an earlier build of this broker, whose brokers must not run beside this one; \
         stop all of them and their jobs, and then run `sandbox-broker table migrate`"
    )]
    EarlierLayout {
        /// The table's name.
        table: String,
    },
    /// A secret cannot be used.
    #[error("a secret cannot be used")]
    Secret(#[from] SecretError),
    /// The simulator cannot start.
    #[error("the CSP simulator cannot start")]
    Simulator(#[source] std::io::Error),
    /// The client that fetches the public keys of the load balancer cannot be created.
    #[error("TLS cannot be initialized")]
    LoadBalancer(#[source] reqwest::Error),
    /// The CSP client cannot be created.
    #[error(transparent)]
    Csp(#[from] CspError),
    /// The first sync with the simulator failed.
    #[error("the first sync with the CSP simulator failed")]
    FirstSync(#[source] JobError),
    /// The first sync with the simulator could not be started.
    #[error("the first sync with the CSP simulator could not be started")]
    FirstSyncStart(#[source] JobStartError),
}

/// The parts of the broker without its servers. Background tasks end with [`stop`](Self::stop).
#[derive(Debug)]
pub struct App {
    state: AppState,
    refresher: CandidateRefresher,
    secrets: Option<SecretsRefresher>,
    targets: CredentialTargets,
    stop: CancellationToken,
    #[cfg(feature = "embedded")]
    engine: Option<EmbeddedEngine>,
}

/// The database, with its engine if that is in this process.
#[derive(Debug)]
pub struct Storage {
    /// The pool.
    pub store: PoolStore,
    #[cfg(feature = "embedded")]
    engine: Option<EmbeddedEngine>,
}

impl Storage {
    /// Opens the database of `config`. On the embedded engine the tables are created if they do not exist.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: &Config, metrics: Metrics) -> Result<Self, StartError> {
        #[cfg(feature = "embedded")]
        if config.store.engine == Engine::Embedded {
            let engine = EmbeddedEngine::start(&config.store.data_dir)?;
            let store = PoolStore::embedded(&config.store, &engine, metrics).await;
            store
                .create_tables()
                .await
                .map_err(|source| unusable(config, source))?;
            // This process has the lock of the directory, so the holders of leases are dead.
            store
                .break_leases()
                .await
                .map_err(|source| unusable(config, source))?;
            return Ok(Self {
                store,
                engine: Some(engine),
            });
        }
        check_authorities(config.store.endpoint.as_deref().unwrap_or("AWS"))?;
        Ok(Self {
            store: PoolStore::connect(&config.store, config.store.endpoint.as_deref(), metrics)
                .await,
            #[cfg(feature = "embedded")]
            engine: None,
        })
    }
}

/// Checks that there are certificate authorities for the services besides the database that are reached over TLS.
fn check_services(config: &Config) -> Result<(), NoAuthorities> {
    if config.secrets.is_used() {
        check_authorities(config.secrets.endpoint.as_deref().unwrap_or("AWS"))?;
    }
    if let Some(load_balancer) = &config.load_balancer {
        check_authorities(&load_balancer.keys_url)?;
    }
    if config.csp.mode == CspMode::Live {
        check_authorities(&config.csp.base_url)?;
        if let Some(niosxaas) = &config.niosxaas {
            check_authorities(&niosxaas.base_url)?;
        }
    }
    Ok(())
}

/// Creates the verification of sign-ins at the load balancer, if it is on.
fn load_balancer(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Option<Arc<LoadBalancer>>, StartError> {
    let Some(settings) = config.load_balancer.clone() else {
        return Ok(None);
    };
    let load_balancer = LoadBalancer::new(settings, Arc::clone(clock), metrics.clone());
    let load_balancer = load_balancer.map_err(StartError::LoadBalancer)?;
    Ok(Some(Arc::new(load_balancer)))
}

fn unusable(config: &Config, source: StoreError) -> StartError {
    StartError::Store {
        table: config.store.table.name.clone(),
        source,
    }
}

/// Returns the credentials that are known at the start. Named tokens and those in Secrets Manager are not read yet.
fn credentials(
    config: &Config,
    csp_endpoint: &CspEndpoint,
    secrets: &SecretsRefresher,
    store: &PoolStore,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> CredentialTargets {
    let named = NamedTokens::new(store.clone(), Arc::clone(clock), metrics.clone());
    let auth = Authenticator::new(
        &config.auth,
        secrets.refresh_request(),
        named,
        Arc::clone(clock),
    );
    CredentialTargets {
        auth,
        csp_token: Shared::new(csp_endpoint.token.clone()),
        csp_user: Shared::new(csp_endpoint.user.clone()),
    }
}

impl App {
    /// Opens the database, migrates its table if necessary, reads the secrets, and builds the parts. `seed` determines
    /// random choices of candidates and pauses.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, StartError> {
        check_services(config)?;
        let metrics = Metrics::new();
        let storage = Storage::open(config, metrics.clone()).await?;
        let store = storage.store.clone();
        Box::pin(tables::prepare(config, &store, &*clock)).await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let csp_endpoint = CspEndpoint::open(config, &tasks, &stop).await?;
        let secrets = SecretsRefresher::new(
            &config.secrets,
            &config.store.region,
            Arc::clone(&clock),
            metrics.clone(),
        )
        .await;
        let targets = credentials(config, &csp_endpoint, &secrets, &store, &clock, &metrics);
        secrets.refresh(&targets).await?;
        let candidates = CandidateIndex::new(config.allocation.index_capacity, seed);
        let refresher = CandidateRefresher::new(store.clone(), candidates, tasks.clone());
        let backoff =
            |stream: u64| Backoff::new(config.allocation.backoff, seed.wrapping_add(stream));
        let (pauses, policy) = tokio::join!(
            PauseWatch::open(store.clone(), Arc::clone(&clock), backoff(3)),
            PolicyWatch::open(store.clone(), Arc::clone(&clock), config.terms),
        );
        let pauses = pauses.map_err(|source| unusable(config, source))?;
        // In every process: a run that is stopped may be the only task of its process.
        tasks.spawn(pauses.clone().run(stop.clone()));
        tasks.spawn(policy.clone().run(stop.clone()));
        let held = LabsHeldCount::new(store.clone(), tasks.clone());
        let timeout = config.allocation.timeout;
        let quotas = Quotas::new(store.clone(), held.clone(), tasks.clone(), timeout, seed);
        let broker = Broker::new(
            store.clone(),
            refresher.clone(),
            pauses.clone(),
            policy.clone(),
            quotas,
            config.terms,
            config.allocation,
            backoff(1),
            Arc::clone(&clock),
            metrics.clone(),
        );
        let context = Arc::new(JobContext {
            store: store.clone(),
            csp: csp_endpoint.client(config, &targets, &metrics)?,
            csp_breaker: Breaker::new("csp", config.jobs.breaker, Arc::clone(&clock)),
            pace: Mutex::default(),
            check_sessions: csp_endpoint.check_sessions(config, &targets, &metrics)?,
            csp_state: SharedCspState::default(),
            niosxaas: csp_endpoint.niosxaas(config, &targets, &metrics)?,
            niosxaas_breaker: Breaker::new("niosxaas", config.jobs.breaker, Arc::clone(&clock)),
            refresher: refresher.clone(),
            pauses,
            policy,
            labs_held: held,
            terms: config.terms,
            sync: config.sync,
            jobs: config.jobs,
            backoff: backoff(2),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
        });
        let monitor = PoolMonitor::new(Arc::clone(&context), metrics.clone(), tasks.clone());
        let owner = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        let runner = Runner::new(context, tasks.clone(), stop.clone(), &owner);
        let state = AppState::from(ApiContext {
            broker: Arc::new(broker),
            refusals: Arc::new(RefusalLog::new(
                store.clone(),
                Arc::clone(&clock),
                metrics.clone(),
            )),
            runner,
            auth: targets.auth.clone(),
            load_balancer: load_balancer(config, &clock, &metrics)?,
            readiness: Arc::new(Readiness::new(
                store.clone(),
                config.store.engine,
                Arc::clone(&clock),
            )),
            clock,
            tasks,
            base_path: config.http.base_path.as_str().into(),
            edge: Arc::new(config.http.edge.clone()),
            serves_metrics: config.http.metrics_port.is_none(),
            csp_mode: config.csp.mode,
            metrics,
            monitor: Arc::new(monitor),
        });
        Ok(Self {
            state,
            refresher,
            secrets: Some(secrets),
            targets,
            stop,
            #[cfg(feature = "embedded")]
            engine: storage.engine,
        })
    }

    /// Reads the first candidates. With the simulator it runs a sync first, so that a new pool is not empty.
    async fn warm_up(&self, config: &Config) -> Result<(), StartError> {
        if config.csp.mode == CspMode::Simulated {
            let job = SyncJob { force: false };
            match self.state.runner.start(job).await {
                Ok(run) => drop(run.finish().await.map_err(StartError::FirstSync)?),
                // Another broker on the same tables fills the pool.
                Err(JobStartError::Running { .. }) => {}
                Err(fault) => return Err(StartError::FirstSyncStart(fault)),
            }
        }
        // One page suffices for the start: a request without a candidate continues the scan.
        let first_page = self.refresher.warm_up().await;
        first_page.map_err(|source| unusable(config, source))
    }

    /// Returns the state of the API.
    #[must_use]
    pub const fn state(&self) -> &AppState {
        &self.state
    }

    /// Starts the refresher of secrets, the monitor of the pool and the audit of refused requests, which run until
    /// [`stop`](Self::stop).
    fn start_background_tasks(&mut self) {
        let tasks = &self.state.tasks;
        if let Some(secrets) = self.secrets.take() {
            tasks.spawn(secrets.run(self.targets.clone(), self.stop.clone()));
        }
        tasks.spawn(Arc::clone(&self.state.monitor).run(self.stop.clone()));
        tasks.spawn(Arc::clone(&self.state.refusals).run(self.stop.clone()));
    }

    /// Adds the first sample of the pool, in a task: to count a large pool takes longer than the start may.
    pub fn add_first_sample(&self) -> JoinHandle<()> {
        let (monitor, stop) = (Arc::clone(&self.state.monitor), self.stop.clone());
        self.state.tasks.spawn(async move {
            stop.run_until_cancelled(monitor.add_first_sample()).await;
        })
    }

    /// Reads the named tokens, and starts to keep them up to date until [`stop`](Self::stop). If they cannot be read now,
    /// the tokens of the environment are valid nevertheless.
    async fn start_named_tokens(&self) {
        let named = self.targets.auth.named().clone();
        named.refresh().await;
        self.state.tasks.spawn(named.run(self.stop.clone()));
    }

    /// Starts the schedule of the jobs, which runs until [`stop`](Self::stop).
    pub fn run_jobs(&self, config: &Config) {
        let (runner, jobs, stop) = (self.state.runner.clone(), config.jobs, self.stop.clone());
        self.state
            .tasks
            .spawn(async move { Box::pin(schedule::run(&runner, &jobs, &stop)).await });
    }

    /// Whether [`interrupt`](Self::interrupt) was called.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Interrupts running jobs: they end after the current item. Does not wait for them.
    pub fn interrupt(&self) {
        self.stop.cancel();
    }

    /// Stops the background tasks, and waits for all tasks, at most until `deadline`.
    pub async fn stop(self, deadline: Instant) {
        self.stop.cancel();
        self.state.tasks.close();
        let (tasks, refusals) = tokio::join!(
            tokio::time::timeout_at(deadline, self.state.tasks.wait()),
            tokio::time::timeout_at(deadline, self.state.refusals.write_pending()),
        );
        if refusals.is_err() {
            tracing::warn!("stopped before every refused request was recorded in the audit");
        }
        if tasks.is_err() {
            tracing::warn!(
                tasks = self.state.tasks.len(),
                "stopped before every task was done"
            );
        }
        let monitor = &self.state.monitor;
        // A failure is logged, and a time-out loses a minute of the chart.
        let _ = tokio::time::timeout_at(deadline, monitor.add_last_flow()).await;
        #[cfg(feature = "embedded")]
        if let Some(engine) = self.engine {
            // Joins the thread of the engine, which would block a thread of this runtime.
            let _ = tokio::task::spawn_blocking(|| engine.stop()).await;
        }
    }
}
