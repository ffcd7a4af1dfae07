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
use uuid::Uuid;

use super::super::api::openapi::Actions;
use crate::sandbox::{CallerId, SandboxId};

/// The header that carries the request id, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over from a client, in characters.
const MAX_REQUEST_ID: usize = 128;

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

/// The layer.
pub async fn log_request(State(actions): State<Actions>, request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(X_REQUEST_ID)
        .filter(|id| is_sane(id))
        .cloned()
        .unwrap_or_else(|| {
            HeaderValue::try_from(Uuid::new_v4().to_string())
                .unwrap_or(HeaderValue::from_static("-"))
        });
    let action = action(&actions, &request);
    let method = request.method().clone();
    let context = Arc::new(Context {
        id: id.clone(),
        notes: Mutex::default(),
    });
    let mut event = Event {
        action,
        method,
        context: Arc::clone(&context),
        began: Instant::now(),
        status: None,
    };
    let mut response = serve(context, next.run(request)).await;
    event.status = Some(response.status().as_u16());
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

async fn serve(context: Arc<Context>, answer: impl Future<Output = Response>) -> Response {
    CURRENT.scope(context, answer).await
}

fn action(actions: &Actions, request: &Request) -> String {
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str);
    path.map_or_else(
        || "unknown_route".to_owned(),
        |path| actions.name(request.method(), path).to_owned(),
    )
}

/// Logged when it is dropped: also when the client hangs up and the request is never answered.
struct Event {
    action: String,
    method: Method,
    context: Arc<Context>,
    began: Instant,
    status: Option<u16>,
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
        let latency_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            request_id = self.context.id.to_str().unwrap_or_default(),
            track_id = notes.caller.as_ref().map(CallerId::as_str),
            sandbox_id = notes.sandbox.as_ref().map(SandboxId::as_str),
            action = self.action,
            outcome,
            status = self.status,
            latency_ms,
            method = self.method.as_str(),
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
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
}
