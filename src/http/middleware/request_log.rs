//! The request log: one event for each request. The event and the answer carry the same request id.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use tokio::time::Instant;
use tracing::{Instrument, field::Empty};

use super::client::{ClientAddress, TrustedProxies};
use crate::{
    domain::{CallerId, LabId, SandboxId},
    http::{
        headers::X_REQUEST_ID,
        request_context::{Outcome, RequestContext},
    },
    telemetry::{
        TRACE, join_trace,
        metrics::{InFlight, Metrics},
    },
};

/// The longest request id that is accepted from a client, in characters.
const MAX_REQUEST_ID: usize = 128;

/// The route that is logged for a request that matches none.
const UNKNOWN: &str = "unknown";

/// Whether a request id that a client sent is safe to log.
fn is_safe(id: &HeaderValue) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id
            .as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
}

/// The operation names by method and route.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actions(Arc<HashMap<(Method, String), String>>);

impl Actions {
    /// Returns the name of an operation; `other` if it has none.
    #[must_use]
    pub(crate) fn name(&self, method: &Method, route: &str) -> &str {
        self.0
            .get(&(method.clone(), route.to_owned()))
            .map_or("other", String::as_str)
    }
}

impl FromIterator<((Method, String), String)> for Actions {
    fn from_iter<I: IntoIterator<Item = ((Method, String), String)>>(names: I) -> Self {
        Self(Arc::new(names.into_iter().collect()))
    }
}

/// The state of the layer. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RequestLog {
    /// The names of operations.
    pub actions: Actions,
    /// The instruments that count requests.
    pub metrics: Metrics,
    /// The proxies whose `X-Forwarded-For` counts.
    pub proxies: TrustedProxies,
    /// The path of the API.
    pub base_path: Arc<str>,
}

/// The layer that logs, counts, times and traces every request.
pub(crate) async fn log_request(
    State(RequestLog {
        actions,
        metrics,
        proxies,
        base_path,
    }): State<RequestLog>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = proxies.identify(&mut request);
    let _in_flight = InFlight::enter(&metrics.requests_in_flight);
    let id = request
        .headers()
        .get(X_REQUEST_ID)
        .filter(|id| is_safe(id))
        .cloned()
        .unwrap_or_else(|| {
            // From the thread's own generator, which needs no system call.
            let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static("-"))
        });
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(UNKNOWN, MatchedPath::as_str)
        .to_owned();
    let action = match route.as_str() {
        UNKNOWN => "unknown_route".to_owned(),
        route => actions.name(request.method(), route).to_owned(),
    };
    let method = request.method().clone();
    let span = tracing::info_span!(
        target: TRACE, "request", otel.name = format!("{method} {route}"), otel.kind = "server",
        http.route = route, request_id = id.to_str().unwrap_or_default(), http.response.status_code = Empty
    );
    join_trace(&span, request.headers());
    let context = Arc::new(RequestContext::new(id.clone(), base_path));
    let mut event = Event {
        action,
        method,
        route,
        client,
        metrics,
        context: Arc::clone(&context),
        began: Instant::now(),
        status: None,
        outcome: None,
    };
    let mut response = context
        .scope(next.run(request))
        .instrument(span.clone())
        .await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    event.status = Some(status);
    event.outcome = response.extensions().get().copied();
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

/// The log event of a request. It is logged when dropped, and so also when the client disconnects before the answer.
struct Event {
    action: String,
    method: Method,
    route: String,
    client: ClientAddress,
    metrics: Metrics,
    context: Arc<RequestContext>,
    began: Instant,
    status: Option<u16>,
    outcome: Option<Outcome>,
}

impl Event {
    /// The method as a label. Unusual methods share one, so that clients cannot create series.
    fn method_label(&self) -> &'static str {
        match self.method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::OPTIONS => "OPTIONS",
            Method::HEAD => "HEAD",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "other",
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let notes = self.context.notes();
        let outcome = match (self.outcome, self.status) {
            (Some(Outcome(outcome)), _) => outcome,
            (None, None) => "client_gone",
            (None, Some(..400)) => "success",
            (None, Some(_)) => "error",
        };
        let took = self.began.elapsed();
        let status = self
            .status
            .map_or_else(|| "client_gone".to_owned(), |status| status.to_string());
        self.metrics
            .request_latency
            .with_label_values(&[self.method_label(), &self.route, &status])
            .observe(took.as_secs_f64());
        let latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            request_id = self.context.id(),
            principal = notes.principal.as_deref(),
            track_id = notes.caller.as_ref().map(CallerId::as_str),
            lab = notes.lab.as_ref().map(LabId::as_str),
            sandbox_id = notes.sandbox.as_ref().map(SandboxId::as_str),
            duration_minutes = notes.duration_minutes,
            replaced_id = notes.replaced.as_ref().map(SandboxId::as_str),
            action = self.action,
            outcome,
            status = self.status,
            latency_ms,
            method = self.method.as_str(),
            client = %self.client.0,
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn request_id_that_could_forge_log_lines_is_unsafe() {
        for safe in ["a", "3f2a-11", "trace:1.2_3"] {
            assert!(is_safe(&HeaderValue::from_static(safe)), "{safe}");
        }
        for not_safe in ["", "a b", "a\"b", "a,b"] {
            assert!(!is_safe(&HeaderValue::from_static(not_safe)), "{not_safe}");
        }
        assert!(!is_safe(&HeaderValue::try_from("x".repeat(129)).unwrap()));
    }

    proptest! {
        #[test]
        fn safe_id_is_one_word(value in crate::arbitrary::header_value()) {
            if is_safe(&value) {
                let text = value.to_str().unwrap();
                prop_assert!((1..=MAX_REQUEST_ID).contains(&text.len()));
                let forging = [' ', '"', '\\', '\n', '{', ','];
                prop_assert!(!text.contains(forging));
            }
        }
    }
}
