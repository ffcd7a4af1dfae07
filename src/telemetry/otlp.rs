//! Export of traces over OTLP.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::TRACE;
use crate::{
    tls::{check_authorities, is_plain},
    url::is_loopback_url,
};

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The path of a collector's endpoint that accepts traces.
const PATH: &str = "/v1/traces";

/// Creates a provider that exports traces to the collector at `endpoint`.
pub(super) fn provider(endpoint: &str) -> Result<SdkTracerProvider, Fault> {
    let client = reqwest::blocking::Client::builder();
    // Without TLS, certificate authorities that cannot be read are no fault.
    let client = if is_plain(endpoint) {
        client.tls_certs_only([])
    } else {
        check_authorities(endpoint)?;
        client
    };
    // A proxy named in the environment cannot reach a loopback address of this machine.
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
    // OTEL_SERVICE_NAME takes precedence over the default name.
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

/// Creates the layer that records spans with the target [`TRACE`].
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        .with_filter(Targets::new().with_target(TRACE, Level::INFO))
}

/// Reads trace context from headers.
struct In<'a>(&'a HeaderMap);

impl Extractor for In<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Writes trace context to headers.
struct Out(HeaderMap);

impl Injector for Out {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// Makes `span` a child of the span that the `traceparent` header names.
pub(super) fn join(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&In(headers));
    // Fails if no layer records the span.
    let _ = span.set_parent(parent);
}

/// Returns the headers that carry the current trace context.
pub(super) fn headers() -> HeaderMap {
    let mut out = Out(HeaderMap::new());
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut out);
    out.0
}
