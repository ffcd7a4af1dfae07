//! The cost of the broker on top of its database: in one run, on one engine, the bare SDK executes the allocating
//! transaction, and `wrk` requests allocations from the broker over HTTP.
//!
//! Every part is a process of its own, so that CPU time and memory can be attributed: the engine, the broker, the bare
//! SDK (this binary in another role) and `wrk`. All processes use loopback only and end by themselves.
//!
//! ```sh
//! cargo bench --bench allocate                                  # everything
//! cargo bench --bench allocate -- --engine stub --connections 100
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "tasks end with the process of the benchmark"
)]
#![allow(unreachable_pub, reason = "no crate depends on a benchmark")]

mod bare;
mod broker;
mod burst;
mod engine;
#[path = "../../tests/it/support/engine_server.rs"]
mod engine_server;
mod outcome;
mod process;
mod report;
mod sandbox;
mod start;
mod steady;
mod storm;
mod stub;
mod student;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use self::engine::EngineKind;

/// The broker's allocator, so that memory allocations cost the bare SDK the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A retry storm takes a second or less, and varies most.
const STORMS: usize = 15;

/// Measures the broker against the bare SDK. Needs `wrk`; DynamoDB Local needs Java 17 and npm.
#[derive(Debug, Parser)]
struct Options {
    /// Only these engines.
    #[arg(long = "engine", value_enum)]
    engines: Vec<EngineKind>,
    /// Only these numbers of connections.
    #[arg(long)]
    connections: Vec<usize>,
    /// Duration of each measurement, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often bare SDK and broker are measured; the report shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these parts.
    #[arg(long = "part", value_enum)]
    parts: Vec<Part>,
    /// The broker binary to measure, to compare builds.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_sandbox-broker"))]
    broker: PathBuf,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// The role of a child process; absent in the benchmark itself.
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A number of connections with one request at a time each.
    Steady,
    /// A class of 1,000 concurrent requests on two brokers.
    Burst,
    /// Callers that send the same request to two brokers at the same time.
    Storm,
    /// The time from the start of the process to its first answer.
    Start,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Role {
    /// The embedded engine, in memory.
    Engine,
    /// A stub of DynamoDB with a set latency.
    Stub {
        #[arg(long)]
        latency_ms: u64,
    },
    /// The bare SDK.
    Bare(bare::Load),
}

fn main() -> Result<()> {
    let options = Options::parse();
    match options.role {
        Some(Role::Engine) => engine::serve_embedded(),
        Some(Role::Stub { latency_ms }) => stub::serve(latency_ms),
        Some(Role::Bare(load)) => bare::run(&load),
        None => tokio::runtime::Runtime::new()?.block_on(measure(&options)),
    }
}

async fn measure(options: &Options) -> Result<()> {
    let engines = if options.engines.is_empty() {
        EngineKind::ALL.to_vec()
    } else {
        options.engines.clone()
    };
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    report::head()?;
    for kind in engines {
        let engine = engine::Engine::start(kind)?;
        println!("\n## {kind}\n");
        if wanted(Part::Start) && kind.keeps_tables() {
            start::measure(&engine, &options.broker).await?;
        }
        if wanted(Part::Steady) {
            let connections = if options.connections.is_empty() {
                &[1, 16, 100, 500, 1000][..]
            } else {
                &options.connections
            };
            steady::measure(
                &engine,
                &options.broker,
                connections,
                options.seconds,
                options.rounds,
            )
            .await?;
        }
        if wanted(Part::Burst) {
            burst::measure(&engine, &options.broker, options.rounds).await?;
        }
        if wanted(Part::Storm) && kind.keeps_tables() {
            storm::measure(&engine, &options.broker, STORMS).await?;
        }
    }
    Ok(())
}
