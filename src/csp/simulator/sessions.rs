//! Sessions of the operator and of the users of accounts: sign in, and switch to an account.

use std::{collections::HashMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    AccountUser, Inner, SimulatedAccount, Simulator,
    answer::{Body, error},
};

/// How long the token of a session is valid.
const LIFETIME: Duration = Duration::from_hours(1);

#[derive(Debug)]
struct Session {
    /// The e-mail address of the user of an account who has signed in; `None` for the operator.
    user_email: Option<String>,
    /// The resource id of the account to which the session has switched.
    account: Option<String>,
    /// When it was opened by the simulator's time, in milliseconds since 1970.
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
    fn open_session(&mut self, user_email: Option<String>, account: Option<String>) -> String {
        let opened_ms = self.accounts.now_ms();
        let sessions = &mut self.sessions.0;
        sessions.retain(|_, session| session.is_valid(opened_ms));
        let token = Uuid::new_v4().to_string();
        let session = Session {
            user_email,
            account,
            opened_ms,
        };
        sessions.insert(token.clone(), session);
        token
    }

    fn session(&self, headers: &HeaderMap) -> Option<&Session> {
        let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let session = self.sessions.0.get(authorization.strip_prefix("Bearer ")?);
        session
            .filter(|session| session.is_valid(self.accounts.now_ms()))
            .filter(|session| self.still_has_user(session))
    }

    fn still_has_user(&self, session: &Session) -> bool {
        let email = session.user_email.as_deref();
        email.is_none_or(|email| self.users_with_email(email).next().is_some())
    }

    /// Returns the existing account that a request concerns: the one to which its session has switched, or that of its API key.
    pub(super) fn account_of_request(&self, headers: &HeaderMap) -> Option<&SimulatedAccount> {
        let account = match self.session(headers) {
            Some(session) => session.account.as_deref(),
            None => self.account_of_api_key(headers),
        };
        self.accounts.find(account?)
    }

    /// Returns the user of `account` whose session a request has; `None` for a session of the operator.
    pub(super) fn user_of_session(
        &self,
        headers: &HeaderMap,
        account: &SimulatedAccount,
    ) -> Option<&AccountUser> {
        let email = self.session(headers)?.user_email.as_deref()?;
        self.users_with_email(email)
            .find(|user| user.account_id == account.id)
    }

    /// Returns whether these credentials are valid. A user of an account has only its own password.
    fn accepts(&self, credentials: &Credentials) -> bool {
        let mut users = self.users_with_email(&credentials.email).peekable();
        let password = credentials.password.expose_secret();
        if users.peek().is_none() {
            return self.settings.accepts(&credentials.email, password);
        }
        users
            .filter_map(|user| self.passwords.get(&user.id))
            .any(|known| known.expose_secret() == password)
    }
}

impl Simulator {
    /// Ends every session, as if all tokens had expired.
    pub fn end_sessions(&self) {
        self.lock().sessions.0.clear();
    }
}

/// The answer to a request without a valid API key and without a session that has switched to an existing account.
pub(super) fn unauthorized() -> Response {
    error(
        StatusCode::UNAUTHORIZED,
        "sign in and switch to an account first",
    )
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    email: String,
    password: SecretString,
}

pub(super) async fn sign_in(
    State(simulator): State<Simulator>,
    Body(credentials): Body<Credentials>,
) -> Response {
    let mut inner = simulator.lock();
    if !inner.accepts(&credentials) {
        return error(StatusCode::UNAUTHORIZED, "wrong e-mail address or password");
    }
    let is_user = inner.users_with_email(&credentials.email).next().is_some();
    let user_email = is_user.then_some(credentials.email);
    Json(json!({ "jwt": inner.open_session(user_email, None) })).into_response()
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
    let Some(user_email) = inner
        .session(&headers)
        .map(|session| session.user_email.clone())
    else {
        return error(StatusCode::UNAUTHORIZED, "sign in first");
    };
    if inner.accounts.find(&switch.id).is_none() {
        return error(StatusCode::NOT_FOUND, "no such account");
    }
    let is_admitted = user_email.as_deref().is_none_or(|email| {
        let mut accounts = inner.users_with_email(email);
        accounts.any(|user| user.account_id == switch.id)
    });
    if !is_admitted {
        return error(StatusCode::FORBIDDEN, "the user is not one of this account");
    }
    let token = inner.open_session(user_email, Some(switch.id));
    (inner.success(), Json(json!({ "jwt": token }))).into_response()
}
