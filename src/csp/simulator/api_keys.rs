//! The simulated API for the API keys of the users of an account.
//!
//! A key belongs to the user who creates it. The sources of the calls and the error are public clients of Infoblox:
//! `POST /v2/current_api_keys` and `DELETE /v2/api_keys/<uuid>` are in the PowerShell module ibPS, and labs have found that
//! `expires_at` is required.

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Inner, Simulator,
    answer::{Body, error, list},
    sessions::unauthorized,
};

const ID_PREFIX: &str = "identity/apikeys/";

/// An API key. Keys are not saved.
#[derive(Debug)]
pub(super) struct ApiKey {
    id: String,
    name: String,
    /// When the key ends by the simulator's time, in milliseconds since 1970.
    expires_ms: i64,
    /// The same time, as it was requested.
    expires_at: String,
    /// The resource id of the user; `None` for the operator.
    user_id: Option<String>,
    account_id: String,
    key: SecretString,
}

impl ApiKey {
    /// Returns whether the key is that of a user, by its resource id.
    pub(super) fn belongs_to(&self, user_id: &str) -> bool {
        self.user_id.as_deref() == Some(user_id)
    }

    /// Returns the attributes without the key itself, which CSP shows only once.
    fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "expires_at": self.expires_at,
            "user_id": self.user_id,
            "state": "enabled",
        })
    }
}

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/current_api_keys", post(create_key))
        .route("/v2/api_keys", get(list_keys))
        .route("/v2/api_keys/{uuid}", delete(delete_key))
}

impl Inner {
    /// Returns the resource id of the account of the API key that a request has.
    pub(super) fn account_of_api_key(&self, headers: &HeaderMap) -> Option<&str> {
        let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let key = authorization.strip_prefix("Token ")?;
        let now_ms = self.accounts.now_ms();
        let mut valid = self.api_keys.iter().filter(|key| key.expires_ms > now_ms);
        valid
            .find(|known| known.key.expose_secret() == key)
            .map(|known| known.account_id.as_str())
    }
}

#[derive(Deserialize)]
struct NewKey {
    name: String,
    expires_at: Option<String>,
}

/// Creates a key of the user of the session.
async fn create_key(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Body(new): Body<NewKey>,
) -> Response {
    let mut inner = simulator.lock();
    let Some(account) = inner.account_of_request(&headers) else {
        return unauthorized();
    };
    let user = inner.user_of_session(&headers, account);
    let user_id = user.map(|user| user.id.clone());
    let account_id = account.id.clone();
    let expires_at = new.expires_at.unwrap_or_default();
    let end = expires_at.parse::<jiff::Timestamp>();
    let expires_ms = match end.map(jiff::Timestamp::as_millisecond) {
        Ok(end) if end > inner.accounts.now_ms() => end,
        _ => {
            let message = "HTTP interceptor error: invalid datetime or duration";
            return error(StatusCode::BAD_REQUEST, message);
        }
    };
    let is_same = |known: &ApiKey| {
        (&known.user_id, &known.account_id, &known.name) == (&user_id, &account_id, &new.name)
    };
    if inner.api_keys.iter().any(is_same) {
        let message = format!("an API key with the name '{}' exists", new.name);
        return error(StatusCode::CONFLICT, &message);
    }
    let key = ApiKey {
        id: format!("{ID_PREFIX}{}", Uuid::new_v4()),
        name: new.name,
        expires_ms,
        expires_at,
        user_id,
        account_id,
        key: Uuid::new_v4().simple().to_string().into(),
    };
    let mut shown = key.shown();
    shown["key"] = json!(key.key.expose_secret());
    inner.api_keys.push(key);
    (inner.success(), Json(json!({ "result": shown }))).into_response()
}

async fn list_keys(State(simulator): State<Simulator>, request: Request) -> Response {
    let inner = simulator.lock();
    let Some(account) = inner.account_of_request(request.headers()) else {
        return unauthorized();
    };
    let keys = inner.api_keys.iter();
    let entries = keys
        .filter(|key| key.account_id == account.id)
        .map(ApiKey::shown)
        .collect();
    list(entries, &request, inner.settings.lists)
}

async fn delete_key(
    State(simulator): State<Simulator>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut inner = simulator.lock();
    let Some(account) = inner.account_of_request(&headers) else {
        return unauthorized();
    };
    let id = format!("{ID_PREFIX}{uuid}");
    let is_wanted = |key: &ApiKey| key.id == id && key.account_id == account.id;
    let Some(position) = inner.api_keys.iter().position(is_wanted) else {
        return error(StatusCode::NOT_FOUND, "no such API key");
    };
    inner.api_keys.remove(position);
    StatusCode::NO_CONTENT.into_response()
}
