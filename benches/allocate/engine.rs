//! The engines, each in a process of its own.

use std::{fmt, path::Path, process::Command};

use anyhow::Result;
use sandbox_broker::store::embedded::EmbeddedEngine;

use crate::{
    engine_server,
    process::{Server, role, wait_for_parent},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    /// The embedded engine, in memory.
    Embedded,
    /// Amazon's DynamoDB Local, in memory.
    DynamodbLocal,
    /// The stub without latency.
    Stub,
    /// The stub with the latency of DynamoDB.
    Stub5ms,
}

impl EngineKind {
    pub const ALL: [Self; 4] = [
        Self::Embedded,
        Self::DynamodbLocal,
        Self::Stub,
        Self::Stub5ms,
    ];

    /// Whether it is a database with real tables.
    pub const fn keeps_tables(self) -> bool {
        matches!(self, Self::Embedded | Self::DynamodbLocal)
    }

    /// An upper bound of its allocations per second, which determines the size of tables.
    pub const fn max_per_second(self) -> usize {
        match self {
            Self::Embedded => 5_000,
            Self::DynamodbLocal => 2_500,
            Self::Stub | Self::Stub5ms => 30_000,
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "Embedded engine, in memory",
            Self::DynamodbLocal => "DynamoDB Local, in memory",
            Self::Stub => "Stub engine, no latency",
            Self::Stub5ms => "Stub engine, 5 ms latency",
        })
    }
}

pub struct Engine {
    pub kind: EngineKind,
    server: Server,
}

impl Engine {
    pub fn start(kind: EngineKind) -> Result<Self> {
        let mut command = match kind {
            EngineKind::Embedded => role("engine")?,
            EngineKind::Stub | EngineKind::Stub5ms => role("stub")?,
            EngineKind::DynamodbLocal => {
                let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
                let mut command = Command::new(scripts.join("with-dynamodb-local"));
                // The script's default is for short runs.
                command.env("JVM_OPTIONS", "-Xmx2g");
                command.args(["sh", "-c", "echo $BROKER_TEST_DYNAMODB_ENDPOINT; cat"]);
                command
            }
        };
        match kind {
            EngineKind::Stub => drop(command.args(["--latency-ms", "0"])),
            EngineKind::Stub5ms => drop(command.args(["--latency-ms", "5"])),
            EngineKind::Embedded | EngineKind::DynamodbLocal => {}
        }
        Ok(Self {
            kind,
            server: Server::start(&mut command)?,
        })
    }

    pub fn endpoint(&self) -> &str {
        &self.server.endpoint
    }
}

/// The entry point of the embedded engine's process.
pub fn serve_embedded() -> Result<()> {
    let engine = EmbeddedEngine::in_memory()?;
    println!("{}", engine_server::serve(engine.client())?);
    wait_for_parent()
}
