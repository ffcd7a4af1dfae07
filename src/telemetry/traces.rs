//! Propagation of traces to and from other services.

use axum::http::HeaderMap;
use tracing::Span;

/// The target of all spans. Logs exclude it, so spans are recorded only if traces are exported.
pub const TRACE: &str = "span";

/// The target of the `TRACE` event that each call of an AWS API emits.
pub const CALLS: &str = concat!(env!("CARGO_CRATE_NAME"), "::calls");

/// Makes `span` part of the trace that the `traceparent` header of a request names.
pub fn join_trace(span: &Span, headers: &HeaderMap) {
    #[cfg(feature = "otlp")]
    super::otlp::join(span, headers);
    #[cfg(not(feature = "otlp"))]
    let _ = (span, headers);
}

/// Returns the headers that make a called service part of the current trace.
#[must_use]
pub fn trace_headers() -> HeaderMap {
    #[cfg(feature = "otlp")]
    return super::otlp::headers();
    #[cfg(not(feature = "otlp"))]
    HeaderMap::new()
}
