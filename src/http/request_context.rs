//! What is known of the request that the current task serves: its id, and notes for its log event.

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use axum::http::HeaderValue;

use crate::{
    domain::{CallerId, SandboxId},
    shared::lock,
};

tokio::task_local! {
    static CURRENT: Arc<RequestContext>;
}

/// The context of one request.
#[derive(Debug)]
pub(super) struct RequestContext {
    id: HeaderValue,
    notes: Mutex<Notes>,
}

/// What handlers add to the log event of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// The caller that the request names.
    pub caller: Option<CallerId>,
    /// The sandbox that the request is about.
    pub sandbox: Option<SandboxId>,
}

/// How a request ended, in one word: an extension of the response, read by the request log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome(pub &'static str);

impl RequestContext {
    /// A context under a request id.
    #[must_use]
    pub(super) fn new(id: HeaderValue) -> Self {
        Self {
            id,
            notes: Mutex::default(),
        }
    }

    /// The request id; empty if it is not text.
    #[must_use]
    pub(super) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// What has been noted so far.
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

/// Notes the caller for the log event of the current request.
pub(super) fn note_caller(caller: &CallerId) {
    note(|notes| notes.caller = Some(caller.clone()));
}

/// Notes the sandbox for the log event of the current request.
pub(super) fn note_sandbox(sandbox: &SandboxId) {
    note(|notes| notes.sandbox = Some(sandbox.clone()));
}

/// The id of the current request; empty outside of one.
#[must_use]
pub(super) fn request_id() -> String {
    CURRENT
        .try_with(|context| context.id().to_owned())
        .unwrap_or_default()
}
