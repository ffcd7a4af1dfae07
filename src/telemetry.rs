//! Log events, on stderr: stdout is for what a command answers. And traces, where they are built in and wanted.

pub mod metrics;

use std::{
    error::Error,
    io::{self, BufWriter},
    sync::OnceLock,
};

use axum::http::HeaderMap;
use tracing::{Level, Span, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer, Registry, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

/// How log events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// `LOG_LEVEL`.
    pub level: tracing::Level,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// The target of spans. They are no log events; nobody takes them unless traces are exported.
pub const TRACE: &str = "span";

/// Lines that wait to be written.
const MAX_LINES: usize = 16_384;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines of the log were dropped because nobody read them.
#[must_use]
pub fn dropped_lines() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

/// What still has to be sent when the process ends.
#[derive(Debug)]
#[must_use = "the last events and traces are lost unless it is shut down"]
pub struct Telemetry {
    _log: WorkerGuard,
    #[cfg(feature = "otlp")]
    traces: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging, and tracing if there is somewhere to send traces to. Not to be called on a thread of the
    /// runtime. A second call in one process does nothing.
    ///
    /// # Errors
    /// If traces cannot be sent to where they should.
    pub fn start(
        log: LogConfig,
        otlp_endpoint: Option<&str>,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        // The writer flushes when nothing waits, so lines that come fast are written together.
        // A log that nobody reads must not stop the broker: what does not fit is dropped, and counted.
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(MAX_LINES)
            .finish(BufWriter::new(io::stderr()));
        let _ = DROPPED.set(writer.error_counter());
        let registry = tracing_subscriber::registry().with(log_layer(log, writer));
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

    /// Sends what is left. Not to be called on a thread of the runtime.
    pub fn shut_down(self) {
        #[cfg(feature = "otlp")]
        if let Some(Err(error)) = self.traces.map(|traces| traces.shutdown()) {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

fn log_layer(config: LogConfig, writer: NonBlocking) -> Box<dyn Layer<Registry> + Send + Sync> {
    // The libraries' own events help at debug level only.
    let libraries = if config.level >= Level::DEBUG {
        Level::INFO
    } else {
        Level::ERROR
    };
    let filter = Targets::new()
        .with_default(libraries)
        .with_target(env!("CARGO_CRATE_NAME"), config.level)
        // A collector that cannot be reached is told as a warning.
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

/// Makes a span part of the trace that a request's `traceparent` header names.
pub fn join_trace(span: &Span, headers: &HeaderMap) {
    #[cfg(feature = "otlp")]
    otlp::join(span, headers);
    #[cfg(not(feature = "otlp"))]
    let _ = (span, headers);
}

/// The headers that make what is called part of the current trace.
#[must_use]
pub fn trace_headers() -> HeaderMap {
    #[cfg(feature = "otlp")]
    return otlp::headers();
    #[cfg(not(feature = "otlp"))]
    HeaderMap::new()
}

/// An error and what it came from, in one line.
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

#[cfg(feature = "otlp")]
mod otlp {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use opentelemetry::{
        propagation::{Extractor, Injector, TextMapPropagator},
        trace::TracerProvider,
    };
    use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
    use opentelemetry_sdk::{
        Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider,
    };
    use tracing::{Level, Span, Subscriber};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

    use super::TRACE;
    use crate::url::is_loopback_url;

    type Fault = Box<dyn std::error::Error + Send + Sync>;

    /// Collectors take traces under this path of their endpoint.
    const PATH: &str = "/v1/traces";

    pub(super) fn provider(endpoint: &str) -> Result<SdkTracerProvider, Fault> {
        let client = reqwest::blocking::Client::builder();
        // A proxy from the environment leads away from this machine.
        let client = if is_loopback_url(endpoint) {
            client.no_proxy()
        } else {
            client
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.build()?)
            .with_endpoint(format!("{endpoint}{PATH}"))
            .build()?;
        let resource = Resource::builder().with_attribute(opentelemetry::KeyValue::new(
            "service.version",
            env!("CARGO_PKG_VERSION"),
        ));
        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before.
        let resource = if std::env::var_os("OTEL_SERVICE_NAME").is_some() {
            resource
        } else {
            resource.with_service_name(env!("CARGO_PKG_NAME"))
        };
        Ok(SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build())
    }

    pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
            .with_filter(Targets::new().with_target(TRACE, Level::INFO))
    }

    struct In<'a>(&'a HeaderMap);

    impl Extractor for In<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key).and_then(|value| value.to_str().ok())
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(HeaderName::as_str).collect()
        }
    }

    struct Out(HeaderMap);

    impl Injector for Out {
        fn set(&mut self, key: &str, value: String) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value))
            {
                self.0.insert(name, value);
            }
        }
    }

    pub(super) fn join(span: &Span, headers: &HeaderMap) {
        let parent = TraceContextPropagator::new().extract(&In(headers));
        // Fails if nobody takes spans.
        let _ = span.set_parent(parent);
    }

    pub(super) fn headers() -> HeaderMap {
        let mut out = Out(HeaderMap::new());
        TraceContextPropagator::new().inject_context(&Span::current().context(), &mut out);
        out.0
    }
}
