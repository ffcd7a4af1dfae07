//! The binary: reads arguments and settings, starts what they ask for, and says how it went.

use std::{
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::ExitCode,
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
use sandbox_broker::{
    app::{App, Running, Storage, Working},
    cli::{Cli, Command, Job, Table},
    clock::{Clock, SystemClock},
    config::{Config, Engine, Variables},
    jobs::{
        cleanup::CleanupJob,
        expiry::ExpiryJob,
        runner::{self, Report, StartFault},
        stale::{Removal, RemovalJob},
        sync::SyncJob,
    },
    metrics::Metrics,
    server,
    shutdown::Signals,
    telemetry::Telemetry,
};
use tokio::time::Instant;

/// A sixth of the CPU time of an allocation went to the system's: see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command.unwrap_or(Command::Serve)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    // Before any thread is started: the AWS SDK reads its own variables from the environment.
    load_dotenv()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads to run on")?;
    #[cfg(feature = "simulator")]
    if let Command::CspSimulator(arguments) = command {
        return runtime
            .block_on(simulate_csp(arguments))
            .map(|()| ExitCode::SUCCESS);
    }
    let config = Config::from_variables(&variables())?;
    if matches!(command, Command::CheckConfig) {
        // Whoever closed the pipe has seen enough.
        let _ = check_config(&config);
        return Ok(ExitCode::SUCCESS);
    }
    if matches!(command, Command::Healthcheck) {
        return runtime.block_on(check_health(&config));
    }
    let telemetry = Telemetry::start(&config).map_err(anyhow::Error::from_boxed)?;
    server::raise_file_limit();
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let done = runtime.block_on(async {
        match command {
            Command::Serve => serve(&config).await,
            Command::Worker => worker(&config).await,
            Command::Job(job) => run_job(&config, *job).await,
            Command::Table(table) => change_table(&config, *table).await,
            #[cfg(feature = "simulator")]
            Command::CspSimulator(_) => Ok(ExitCode::SUCCESS),
            Command::CheckConfig | Command::Healthcheck => Ok(ExitCode::SUCCESS),
        }
    });
    telemetry.shut_down();
    done
}

/// The working directory's own `.env`, and no other: one further up may be of another project.
fn load_dotenv() -> anyhow::Result<()> {
    match dotenvy::from_path(".env") {
        Err(dotenvy::Error::LineParse(..)) => {
            // Without the line: it may hold a secret.
            anyhow::bail!(
                ".env has a line that is not NAME=value; a value with spaces needs quotes"
            )
        }
        Err(error) if !error.not_found() => Err(error).context(".env cannot be read"),
        _ => Ok(()),
    }
}

/// What is not UTF-8 is kept, spoilt, so that the check of its variable refuses it.
fn variables() -> Variables {
    std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect()
}

fn check_config(config: &Config) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for setting in config.settings() {
        let note = if setting.is_default {
            "  (default)"
        } else {
            ""
        };
        writeln!(out, "{}={}{note}", setting.variable, setting.value)?;
    }
    config
        .warnings()
        .iter()
        .try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

/// How long a broker that is up may take to say so.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

async fn check_health(config: &Config) -> anyhow::Result<ExitCode> {
    let mut address = config.http.address();
    // Listening everywhere includes this machine.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let url = format!("http://{address}/healthz");
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(HEALTH_TIMEOUT)
        .build()?;
    client
        .get(&url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .with_context(|| format!("{url} does not answer as it should"))?;
    Ok(ExitCode::SUCCESS)
}

const NO_SIGNALS: &str = "cannot listen for signals";

/// Nothing was promised to anyone yet, and what was written so far stays.
fn stopped_early(signal: &str) -> ExitCode {
    tracing::info!(signal, "stopped before the start was over");
    ExitCode::SUCCESS
}

async fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    let running = tokio::select! {
        running = Running::start(config, Arc::new(SystemClock), rand::random()) => running?,
        signal = signals.next() => return Ok(stopped_early(signal)),
    };
    if config.store.engine == Engine::Embedded {
        print!("{}", banner(config, &running).await);
    }
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// How long the count of the pool may hold up what a laptop is told.
const BANNER_TIMEOUT: Duration = Duration::from_secs(2);

async fn banner(config: &Config, running: &Running) -> String {
    use sandbox_broker::config::{DEFAULT_ADMIN_TOKEN, DEFAULT_TRACK_TOKEN};
    use secrecy::ExposeSecret;

    let count = running.app().state().broker.stats();
    // The broker serves already; a pool that takes long to count must not end it.
    let pool = match tokio::time::timeout(BANNER_TIMEOUT, count).await {
        Ok(Ok(stats)) => format!(
            "{} of {} sandboxes available",
            stats.available,
            stats.total()
        ),
        Ok(Err(_)) | Err(_) => "its sandboxes could not be counted in time".to_owned(),
    };
    let base = format!("http://{}", running.address());
    let path = &config.http.base_path;
    // Only the well-known tokens of a laptop are shown.
    let shown = |tokens: &[secrecy::SecretString], default: &'static str, variable: &str| {
        let is_default = tokens.iter().any(|token| token.expose_secret() == default);
        if is_default {
            default.to_owned()
        } else {
            format!("${variable}")
        }
    };
    let track_token = shown(
        &config.auth.track_tokens,
        DEFAULT_TRACK_TOKEN,
        "BROKER_API_TOKEN",
    );
    let admin_token = shown(
        &config.auth.admin_tokens,
        DEFAULT_ADMIN_TOKEN,
        "BROKER_ADMIN_TOKEN",
    );
    format!(
        "\nSandbox Broker {version}: {pool}\n\n  \
         API          {base}{path}\n  \
         Swagger      {base}{path}/docs\n  \
         Dashboard    {base}/dashboard\n  \
         Track token  {track_token}\n  \
         Admin token  {admin_token}\n\n\
         Get a sandbox:\n\n  \
         curl -X POST {base}{path}/allocate -H \"Authorization: Bearer {track_token}\" -H \"X-Instruqt-Sandbox-ID: play-1\"\n\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

async fn worker(config: &Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    let working = tokio::select! {
        working = Working::start(config, Arc::new(SystemClock), rand::random()) => working?,
        signal = signals.next() => return Ok(stopped_early(signal)),
    };
    tracing::info!("working");
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    working.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// `EX_TEMPFAIL` of sysexits.h: nothing is wrong, try again later.
const RUNS_ELSEWHERE: u8 = 75;

async fn run_job(config: &Config, job: Job) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    let app = tokio::select! {
        app = App::start(config, Arc::new(SystemClock), rand::random()) => app?,
        signal = signals.next() => return Ok(stopped_early(signal)),
    };
    let context = Arc::clone(app.state().runner.context());
    let done = match job {
        Job::Sync { force } => run_once(&app, &mut signals, SyncJob { context, force }).await,
        Job::Cleanup { retry_failed } => {
            run_once(
                &app,
                &mut signals,
                CleanupJob {
                    context,
                    retry_failed,
                },
            )
            .await
        }
        Job::AutoExpire => run_once(&app, &mut signals, ExpiryJob { context }).await,
        Job::AutoDeleteStale { grace_period_hours } => {
            let grace = grace_period_hours.map_or(config.jobs.stale_grace, |hours| {
                Duration::from_hours(hours.into())
            });
            run_once(
                &app,
                &mut signals,
                RemovalJob {
                    context,
                    removal: Removal::StaleFor(grace),
                },
            )
            .await
        }
    };
    app.stop(Instant::now() + config.http.shutdown_timeout)
        .await;
    done
}

async fn run_once<J: runner::Job>(
    app: &App,
    signals: &mut Signals,
    job: J,
) -> anyhow::Result<ExitCode> {
    let started = match app.state().runner.start(job).await {
        Ok(started) => started,
        Err(fault @ StartFault::Running { .. }) => {
            eprintln!("{fault}");
            return Ok(ExitCode::from(RUNS_ELSEWHERE));
        }
        Err(fault) => return Err(fault.into()),
    };
    let progress = Arc::clone(&started.progress);
    let mut run = std::pin::pin!(started.finish());
    let mut look = tokio::time::interval(Duration::from_millis(500));
    let is_watched = io::stderr().is_terminal();
    let report = loop {
        tokio::select! {
            report = &mut run => break report?,
            _ = signals.next() => app.interrupt(),
            _ = look.tick(), if is_watched => {
                let so_far = progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
                eprint!("\r\x1b[K{}", serde_json::to_string(&so_far)?);
            }
        }
    };
    if is_watched {
        eprint!("\r\x1b[K");
    }
    println!("{}", serde_json::to_string(&report)?);
    Ok(if report.is_interrupted() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn change_table(config: &Config, table: Table) -> anyhow::Result<ExitCode> {
    let storage = Storage::open(config, Metrics::new()).await?;
    let name = &config.store.table.name;
    match table {
        Table::Create => {
            let creation = storage
                .store
                .create_table()
                .await
                .with_context(|| format!("table {name}"))?;
            println!(
                "{}",
                serde_json::json!({ "table": name, "result": creation })
            );
        }
        Table::Migrate => {
            let migration = storage
                .store
                .migrate(config.terms, SystemClock.now())
                .await
                .with_context(|| format!("table {name}"))?;
            println!("{}", serde_json::to_string(&migration)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "simulator")]
async fn simulate_csp(arguments: &sandbox_broker::cli::SimulatorArguments) -> anyhow::Result<()> {
    use sandbox_broker::csp::simulator::Simulator;
    use tokio_util::sync::CancellationToken;

    let simulator = match &arguments.state {
        Some(file) => Simulator::open(file, arguments.accounts, arguments.seed)?,
        None => Simulator::new(arguments.accounts, arguments.seed),
    };
    let address = (arguments.host, arguments.port).into();
    let (base_url, listener) = Simulator::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    println!(
        "CSP simulator with {} accounts\n\n  CSP_BASE_URL={base_url}",
        simulator.accounts().len()
    );
    let stop = CancellationToken::new();
    let mut signals = Signals::listen().context(NO_SIGNALS)?;
    tokio::select! {
        served = simulator.serve(listener, stop) => served?,
        _ = signals.next() => {}
    }
    Ok(())
}
