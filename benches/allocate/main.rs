//! What the broker costs on top of its database: in one run, on one engine, the bare SDK makes the transaction that
//! allocates, and the broker is asked for sandboxes over HTTP.
//!
//! Every part is a process of its own, so that CPU time and memory can be told apart: the engine, the broker, the bare
//! SDK (this binary again) and `wrk`, which asks the broker. Everything is on loopback, and it all ends by itself.
//!
//! ```sh
//! cargo bench --bench allocate                                  # everything
//! cargo bench --bench allocate -- --engine stub --connections 100
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "what is measured ends with its process, so it may spawn as it likes"
)]
#![allow(unreachable_pub, reason = "nobody depends on this crate")]

mod bare;
mod broker;
mod burst;
mod engine;
mod process;
mod report;
mod start;
mod steady;
mod stub;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use self::engine::EngineKind;

/// The broker's own: what the bare SDK allocates costs the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the broker against the bare SDK. Needs `wrk`; DynamoDB Local needs Java 17 and npm.
#[derive(Debug, Parser)]
struct Options {
    /// Only these engines.
    #[arg(long = "engine", value_enum)]
    engines: Vec<EngineKind>,
    /// Only with so many connections.
    #[arg(long)]
    connections: Vec<usize>,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often each pair is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these parts.
    #[arg(long = "part", value_enum)]
    parts: Vec<Part>,
    /// Another build of the broker, for a comparison.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_sandbox-broker"))]
    broker: PathBuf,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// What this process is in the tree; the benchmark itself if absent.
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// So many connections, each with one request at a time.
    Steady,
    /// A class of 1,000 in the same moment, on two brokers.
    Burst,
    /// From the start of the process to its first answer.
    Start,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Role {
    /// The embedded engine, in memory.
    Engine,
    /// An engine that does nothing but what an allocation needs, and that after a set time.
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
    }
    Ok(())
}
