//! Sessions of users: sign in, and switch to an account.

use std::{collections::HashMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    Inner, SimulatedAccount, Simulator,
    answer::{Body, error},
};

/// How long the token of a session is valid.
const LIFETIME: Duration = Duration::from_hours(1);

#[derive(Debug)]
struct Session {
    /// The resource id of the account to which the session has switched.
    account: Option<String>,
    /// By the simulator's time, in milliseconds.
    opened_ms: i64,
}

impl Session {
    fn is_valid(&self, now_ms: i64) -> bool {
        u128::try_from(now_ms.saturating_sub(self.opened_ms)).unwrap_or(0) < LIFETIME.as_millis()
    }
}

/// The open sessions by token.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<String, Session>);

impl Inner {
    /// Opens a session, and removes the expired ones. Returns its token.
    fn open_session(&mut self, account: Option<String>) -> String {
        let opened_ms = self.accounts.now_ms();
        let sessions = &mut self.sessions.0;
        sessions.retain(|_, session| session.is_valid(opened_ms));
        let token = Uuid::new_v4().to_string();
        sessions.insert(token.clone(), Session { account, opened_ms });
        token
    }

    fn session(&self, headers: &HeaderMap) -> Option<&Session> {
        let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let session = self.sessions.0.get(authorization.strip_prefix("Bearer ")?);
        session.filter(|session| session.is_valid(self.accounts.now_ms()))
    }

    /// Returns the existing account to which the session of a request has switched.
    pub(super) fn account_of_session(&self, headers: &HeaderMap) -> Option<&SimulatedAccount> {
        self.accounts
            .find(self.session(headers)?.account.as_deref()?)
    }
}

impl Simulator {
    /// Ends every session, as if all tokens had expired.
    pub fn end_sessions(&self) {
        self.lock().sessions.0.clear();
    }
}

/// The answer to a request without a session that has switched to an existing account.
pub(super) fn unauthorized() -> Response {
    error(
        StatusCode::UNAUTHORIZED,
        "sign in and switch to an account first",
    )
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    email: String,
    password: String,
}

pub(super) async fn sign_in(
    State(simulator): State<Simulator>,
    Body(credentials): Body<Credentials>,
) -> Response {
    let mut inner = simulator.lock();
    if !inner
        .settings
        .accepts(&credentials.email, &credentials.password)
    {
        return error(StatusCode::UNAUTHORIZED, "wrong e-mail address or password");
    }
    Json(json!({ "jwt": inner.open_session(None) })).into_response()
}

#[derive(Deserialize)]
pub(super) struct Switch {
    id: String,
}

/// Switches to an account, also to one that is not usable yet.
pub(super) async fn switch(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Body(switch): Body<Switch>,
) -> Response {
    let mut inner = simulator.lock();
    if inner.session(&headers).is_none() {
        return error(StatusCode::UNAUTHORIZED, "sign in first");
    }
    if inner.accounts.find(&switch.id).is_none() {
        return error(StatusCode::NOT_FOUND, "no such account");
    }
    let token = inner.open_session(Some(switch.id));
    (inner.success(), Json(json!({ "jwt": token }))).into_response()
}
