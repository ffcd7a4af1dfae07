//! Log events, on stderr: stdout is for the output of commands.

use std::{
    io::{self, BufWriter, Write},
    sync::OnceLock,
};

use tracing::{Level, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, Registry, filter::Targets, fmt};

use super::TRACE;

/// The format of log events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    Pretty,
}

/// The configuration of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// `LOG_LEVEL`.
    pub level: tracing::Level,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// The maximum number of lines that wait to be written.
const MAX_LINES: usize = 16_384;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Returns the number of log lines dropped because their reader was too slow.
#[must_use]
pub fn dropped_lines() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Creates the writer of log lines to stderr, and the guard that flushes it when it is dropped.
///
/// The writer flushes whenever no line waits, so lines in quick succession are written together. A slow reader must not
/// stop the broker, so lines that exceed [`MAX_LINES`] are dropped and counted.
pub(super) fn writer() -> (NonBlocking, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_LINES)
        .finish(BufWriter::new(Stderr));
    // Already set if logging was started before in this process.
    let _ = DROPPED.set(writer.error_counter());
    (writer, guard)
}

/// Stderr that reports no error for output that cannot be written: the writer's thread would report it on stderr.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Creates the layer that writes log events.
pub(super) fn layer(
    config: LogConfig,
    writer: NonBlocking,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    // Events of libraries are useful only at debug level.
    let libraries = if config.level >= Level::DEBUG {
        Level::INFO
    } else {
        Level::ERROR
    };
    let filter = Targets::new()
        .with_default(libraries)
        .with_target(env!("CARGO_CRATE_NAME"), config.level)
        // Reports an unreachable collector as a warning.
        .with_target("opentelemetry", config.level.min(Level::WARN))
        .with_target(TRACE, LevelFilter::OFF);
    let layer = match config.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
        LogFormat::Pretty => fmt::layer()
            .with_target(false)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .with_writer(writer)
            .boxed(),
    };
    layer.with_filter(filter).boxed()
}
