//! Telemetry: logs, metrics, and traces if they are built in and configured.

mod logs;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod traces;

use std::error::Error;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

pub use self::{
    logs::{LogConfig, LogFormat, dropped_lines},
    traces::{CALLS, TRACE, join_trace, trace_headers},
};

/// The running telemetry of the process.
#[derive(Debug)]
#[must_use = "the last events and traces are lost unless it is shut down"]
pub struct Telemetry {
    /// Flushes the log when it is dropped.
    _log: WorkerGuard,
    #[cfg(feature = "otlp")]
    traces: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging, and tracing if `otlp_endpoint` is set. Must not be called on a thread of the async runtime. If
    /// the process has telemetry already, that one stays in place.
    ///
    /// # Errors
    /// The exporter of traces cannot be created.
    pub fn start(
        log: LogConfig,
        otlp_endpoint: Option<&str>,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let (writer, guard) = logs::writer();
        let registry = tracing_subscriber::registry().with(logs::layer(log, writer));
        #[cfg(not(feature = "otlp"))]
        let _ = otlp_endpoint;
        #[cfg(feature = "otlp")]
        if let Some(endpoint) = otlp_endpoint {
            let traces = otlp::provider(endpoint)?;
            let _ = registry.with(otlp::layer(&traces)).try_init();
            return Ok(Self {
                _log: guard,
                traces: Some(traces),
            });
        }
        let _ = registry.try_init();
        Ok(Self {
            _log: guard,
            #[cfg(feature = "otlp")]
            traces: None,
        })
    }

    /// Sends the remaining traces and log events. Must not be called on a thread of the async runtime.
    pub fn shut_down(self) {
        #[cfg(feature = "otlp")]
        if let Some(Err(error)) = self.traces.map(|traces| traces.shutdown()) {
            tracing::warn!(%error, "export of the last traces failed");
        }
    }
}

/// Formats an error and its sources in one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
