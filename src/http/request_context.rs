//! The context of the request that the current task serves: its id, the path of the API, and notes for its log event.

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use axum::http::HeaderValue;

use super::base_path;
use crate::{
    clock::UnixSeconds,
    domain::{CallerId, LabId, SandboxId},
    shared::lock,
};

tokio::task_local! {
    static CURRENT: Arc<RequestContext>;
}

/// The context of one request.
#[derive(Debug)]
pub(super) struct RequestContext {
    id: HeaderValue,
    base_path: Arc<str>,
    notes: Mutex<Notes>,
}

/// Fields that handlers add to the log event of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// The principal of the request.
    pub principal: Option<Arc<str>>,
    /// The caller that the request names.
    pub caller: Option<CallerId>,
    /// The lab that the request names.
    pub lab: Option<LabId>,
    /// The sandbox of the request.
    pub sandbox: Option<SandboxId>,
    /// The duration of the allocation that the request made, in minutes.
    pub duration_minutes: Option<i64>,
    /// The sandbox that the request was to replace.
    pub replaced: Option<SandboxId>,
}

/// The outcome of a request as one word: an extension of the response, read by the request log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome(pub &'static str);

impl RequestContext {
    /// Creates the context of a request with this id, to an API under `base_path`.
    #[must_use]
    pub(super) fn new(id: HeaderValue, base_path: Arc<str>) -> Self {
        Self {
            id,
            base_path,
            notes: Mutex::default(),
        }
    }

    /// The request id; empty if it is not text.
    #[must_use]
    pub(super) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// The notes taken so far.
    #[must_use]
    pub(super) fn notes(&self) -> Notes {
        lock(&self.notes).clone()
    }

    /// Runs `request` with this as the current context.
    pub(super) async fn scope<F: Future>(self: Arc<Self>, request: F) -> F::Output {
        CURRENT.scope(self, request).await
    }
}

fn note(write: impl FnOnce(&mut Notes)) {
    // Outside of a request there is no log event to add to.
    let _ = CURRENT.try_with(|context| write(&mut lock(&context.notes)));
}

/// Adds the principal to the log event of the current request.
pub(super) fn note_principal(name: &Arc<str>) {
    note(|notes| notes.principal = Some(Arc::clone(name)));
}

/// Adds the caller to the log event of the current request.
pub(super) fn note_caller(caller: &CallerId) {
    note(|notes| notes.caller = Some(caller.clone()));
}

/// Adds the lab to the log event of the current request.
pub(super) fn note_lab(lab: &LabId) {
    note(|notes| notes.lab = Some(lab.clone()));
}

/// Adds the sandbox to the log event of the current request.
pub(super) fn note_sandbox(sandbox: &SandboxId) {
    note(|notes| notes.sandbox = Some(sandbox.clone()));
}

/// Adds the duration of a new allocation to the log event of the current request.
pub(super) fn note_duration(start: UnixSeconds, end: UnixSeconds) {
    note(|notes| notes.duration_minutes = Some(end.0.saturating_sub(start.0) / 60));
}

/// Adds the sandbox that it was to replace to the log event of the current request.
pub(super) fn note_replaced(sandbox: &SandboxId) {
    note(|notes| notes.replaced = Some(sandbox.clone()));
}

/// The id of the current request; empty outside of a request.
#[must_use]
pub(super) fn request_id() -> String {
    CURRENT
        .try_with(|context| context.id().to_owned())
        .unwrap_or_default()
}

/// Replaces the placeholder of [`base_path`] by the path of the API that serves the current request.
#[must_use]
pub(super) fn fill_base_path(text: &str) -> String {
    CURRENT
        .try_with(|context| base_path::fill(text, &context.base_path))
        .unwrap_or_else(|_| base_path::fill(text, ""))
}
