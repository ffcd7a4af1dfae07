//! One log event a request, under one request id that the answer carries too.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use tokio::time::Instant;
use tracing::{Instrument, field::Empty};

use super::client::{self, ClientAddress};
use crate::{
    api::openapi::Actions,
    metrics::{InFlight, Metrics},
    sandbox::{CallerId, SandboxId},
    telemetry::{TRACE, join_trace},
};

/// The header that carries the request id, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over from a client, in characters.
const MAX_REQUEST_ID: usize = 128;

/// In place of the route, where there is none.
const UNKNOWN: &str = "unknown";

tokio::task_local! {
    static CURRENT: Arc<Context>;
}

/// What is known of the request that the current task serves.
#[derive(Debug)]
struct Context {
    id: HeaderValue,
    notes: Mutex<Notes>,
}

#[derive(Clone, Debug, Default)]
struct Notes {
    caller: Option<CallerId>,
    sandbox: Option<SandboxId>,
    outcome: Option<&'static str>,
}

fn note(write: impl FnOnce(&mut Notes)) {
    // Outside of a request there is nobody to tell.
    let _ = CURRENT.try_with(|context| {
        write(&mut context.notes.lock().unwrap_or_else(PoisonError::into_inner));
    });
}

/// Notes who asks.
pub fn note_caller(caller: &CallerId) {
    note(|notes| notes.caller = Some(caller.clone()));
}

/// Notes which sandbox the request is about.
pub fn note_sandbox(sandbox: &SandboxId) {
    note(|notes| notes.sandbox = Some(sandbox.clone()));
}

/// Notes how the request ended, in one word.
pub fn note_outcome(outcome: &'static str) {
    note(|notes| notes.outcome = Some(outcome));
}

/// The id of the request that the current task serves; empty outside of one.
#[must_use]
pub fn request_id() -> String {
    CURRENT
        .try_with(|context| context.id.to_str().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

/// A client's id is taken over if it can do no harm in a log.
fn is_sane(id: &HeaderValue) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id
            .as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
}

/// What the layer needs to know. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestLog {
    /// What requests are named by.
    pub actions: Actions,
    /// Where they are counted.
    pub metrics: Metrics,
    /// So many proxies tell the truth about where they come from.
    pub trusted_hops: usize,
}

/// The layer.
pub async fn log_request(
    State(RequestLog {
        actions,
        metrics,
        trusted_hops,
    }): State<RequestLog>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = client::identify(&mut request, trusted_hops);
    let _in_flight = InFlight::enter(&metrics.requests_in_flight);
    let id = request
        .headers()
        .get(X_REQUEST_ID)
        .filter(|id| is_sane(id))
        .cloned()
        .unwrap_or_else(|| {
            // Of the thread's own generator: the system's costs a call into the kernel.
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
    let context = Arc::new(Context {
        id: id.clone(),
        notes: Mutex::default(),
    });
    let mut event = Event {
        action,
        method,
        route,
        client,
        metrics,
        context: Arc::clone(&context),
        began: Instant::now(),
        status: None,
    };
    let mut response = serve(context, next.run(request))
        .instrument(span.clone())
        .await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    event.status = Some(status);
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

async fn serve(context: Arc<Context>, answer: impl Future<Output = Response>) -> Response {
    CURRENT.scope(context, answer).await
}

/// Logged when it is dropped: also when the client hangs up and the request is never answered.
struct Event {
    action: String,
    method: Method,
    route: String,
    client: ClientAddress,
    metrics: Metrics,
    context: Arc<Context>,
    began: Instant,
    status: Option<u16>,
}

impl Event {
    /// Methods that clients invent must not become series.
    fn method_label(&self) -> &'static str {
        match self.method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::OPTIONS => "OPTIONS",
            Method::HEAD => "HEAD",
            _ => "other",
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let notes = self
            .context
            .notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let outcome = notes.outcome.unwrap_or(match self.status {
            None => "client_gone",
            Some(..400) => "success",
            Some(_) => "error",
        });
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
            request_id = self.context.id.to_str().unwrap_or_default(),
            track_id = notes.caller.as_ref().map(CallerId::as_str),
            sandbox_id = notes.sandbox.as_ref().map(SandboxId::as_str),
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
    fn a_request_id_that_could_forge_log_lines_is_not_taken_over() {
        for sane in ["a", "3f2a-11", "trace:1.2_3"] {
            assert!(is_sane(&HeaderValue::from_static(sane)), "{sane}");
        }
        for not_sane in ["", "a b", "a\"b", "a,b"] {
            assert!(!is_sane(&HeaderValue::from_static(not_sane)), "{not_sane}");
        }
        assert!(!is_sane(&HeaderValue::try_from("x".repeat(129)).unwrap()));
    }

    proptest! {
        #[test]
        fn an_id_that_is_taken_over_is_one_word(value in crate::arbitrary::header_value()) {
            if is_sane(&value) {
                let text = value.to_str().unwrap();
                prop_assert!((1..=MAX_REQUEST_ID).contains(&text.len()));
                let forging = [' ', '"', '\\', '\n', '{', ','];
                prop_assert!(!text.contains(forging));
            }
        }
    }
}
