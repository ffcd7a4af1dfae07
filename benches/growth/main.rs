//! The growth of times and memory with the pool: a broker process on tables of 1,000, 20,000 and more sandboxes.
//!
//! ```sh
//! scripts/measure-growth                                        # everything, with DynamoDB Local
//! cargo bench --bench growth -- --engine embedded 1000 20000    # one engine, some sizes
//! ```
//!
//! All processes use loopback only and end by themselves; the CSP is a stub in this process.

#![allow(
    clippy::disallowed_methods,
    reason = "tasks end with the process of the benchmark"
)]
#![allow(unreachable_pub, reason = "no crate depends on a benchmark")]

mod broker;
mod csp;
mod load;
mod measure;
mod report;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::{Parser, ValueEnum};

use self::{measure::Pool, report::Report};

/// Measures the broker on pools of several sizes.
#[derive(Debug, Parser)]
struct Options {
    /// Only these engines.
    #[arg(long = "engine", value_enum)]
    engines: Vec<EngineKind>,
    /// The sizes of the pools, in sandboxes.
    sizes: Vec<usize>,
    /// The broker binary to measure, to compare builds.
    #[arg(long)]
    broker: Option<PathBuf>,
    /// The time, in minutes, after which no further size is begun.
    #[arg(long, default_value_t = 14)]
    minutes: u64,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineKind {
    /// The embedded engine, on disk.
    Embedded,
    /// The engine at `BROKER_TEST_DYNAMODB_ENDPOINT`.
    Dynamodb,
}

impl EngineKind {
    const fn title(self) -> &'static str {
        match self {
            Self::Embedded => "Embedded engine, on disk, in the broker's process",
            Self::Dynamodb => "DynamoDB Local, in memory",
        }
    }

    fn sizes(self, wanted: &[usize]) -> Vec<usize> {
        let most = match self {
            Self::Embedded => usize::MAX,
            // The table is in the memory of one Java process.
            Self::Dynamodb => 100_000,
        };
        let all: &[usize] = if wanted.is_empty() {
            &[1_000, 20_000, 100_000, 1_000_000]
        } else {
            wanted
        };
        all.iter().copied().filter(|size| *size <= most).collect()
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    tokio::runtime::Runtime::new()?.block_on(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(options.minutes * 60);
    let endpoint = std::env::var("BROKER_TEST_DYNAMODB_ENDPOINT").ok();
    let engines = if options.engines.is_empty() {
        vec![EngineKind::Embedded, EngineKind::Dynamodb]
    } else {
        options.engines.clone()
    };
    let broker = options
        .broker
        .clone()
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_sandbox-broker").into());
    report::head()?;
    for engine in engines {
        let endpoint = match (engine, &endpoint) {
            (EngineKind::Embedded, _) => None,
            (EngineKind::Dynamodb, Some(endpoint)) => Some(endpoint.as_str()),
            (EngineKind::Dynamodb, None) => continue,
        };
        let mut report = Report::default();
        let sizes = engine.sizes(&options.sizes);
        if let Some(smallest) = sizes.first() {
            // Not reported: an engine that has just started is slow at any size.
            measure(*smallest, endpoint, &broker, &mut Report::default()).await?;
        }
        for size in sizes {
            if Instant::now() > deadline {
                eprintln!("the time limit is reached before {size} sandboxes");
                break;
            }
            eprintln!("{size} sandboxes, {engine:?}");
            // The sizes measured so far are still printed.
            if let Err(error) = measure(size, endpoint, &broker, &mut report).await {
                eprintln!("{error:#}");
                break;
            }
        }
        report.print(engine.title());
    }
    Ok(())
}

async fn measure(
    size: usize,
    endpoint: Option<&str>,
    broker: &Path,
    report: &mut Report,
) -> Result<()> {
    let pool = Pool::open(size, endpoint, broker).await?;
    report.add(size, pool.measure().await?);
    Ok(())
}
