//! The simulated API for join tokens, with which hosts become part of an account.
//!
//! Attributes, unique names and revocation are taken from Infoblox's published client (`infraprovision` of
//! bloxone-go-client), which uses paths below `/host-activation`; labs use `/atlas-host-activation`.

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Simulator,
    answer::{Body, error, list},
    sessions::unauthorized,
};

/// The paths of labs and of Infoblox's client, which have the same effect.
const PATHS: [&str; 2] = [
    "/atlas-host-activation/v1/jointoken",
    "/host-activation/v1/jointoken",
];

/// A join token. Its record outlives its revocation. Tokens are not saved.
#[derive(Debug)]
pub(super) struct JoinToken {
    uuid: String,
    name: String,
    account_id: String,
    is_revoked: bool,
}

impl JoinToken {
    /// Returns the attributes without the token itself, which CSP shows only once.
    fn shown(&self) -> Value {
        json!({
            "id": format!("host_activation/jointoken/{}", self.uuid),
            "name": self.name,
            "status": if self.is_revoked { "REVOKED" } else { "ACTIVE" },
        })
    }
}

pub(super) fn routes() -> Router<Simulator> {
    PATHS.into_iter().fold(Router::new(), |router, path| {
        router
            .route(path, get(list_tokens).post(create_token))
            .route(&format!("{path}/{{uuid}}"), delete(revoke_token))
    })
}

#[derive(Deserialize)]
struct NewToken {
    name: String,
}

async fn create_token(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Body(new): Body<NewToken>,
) -> Response {
    let mut inner = simulator.lock();
    let Some(account) = inner.account_of_request(&headers) else {
        return unauthorized();
    };
    let account_id = account.id.clone();
    let mut of_account = inner
        .join_tokens
        .iter()
        .filter(|token| token.account_id == account_id);
    if of_account.any(|token| token.name == new.name) {
        let message = format!("a join token with the name '{}' exists", new.name);
        return error(StatusCode::CONFLICT, &message);
    }
    let token = JoinToken {
        uuid: Uuid::new_v4().to_string(),
        name: new.name,
        account_id,
        is_revoked: false,
    };
    let secret = Uuid::new_v4().simple().to_string();
    let answer = json!({ "join_token": secret, "result": token.shown() });
    inner.join_tokens.push(token);
    (inner.success(), Json(answer)).into_response()
}

async fn list_tokens(State(simulator): State<Simulator>, request: Request) -> Response {
    let inner = simulator.lock();
    let Some(account) = inner.account_of_request(request.headers()) else {
        return unauthorized();
    };
    let tokens = inner.join_tokens.iter();
    let entries = tokens
        .filter(|token| token.account_id == account.id)
        .map(JoinToken::shown)
        .collect();
    list(entries, &request, inner.settings.lists)
}

async fn revoke_token(
    State(simulator): State<Simulator>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut inner = simulator.lock();
    let Some(account) = inner.account_of_request(&headers) else {
        return unauthorized();
    };
    let account_id = account.id.clone();
    let mut tokens = inner.join_tokens.iter_mut();
    let is_wanted = |token: &&mut JoinToken| token.uuid == uuid && token.account_id == account_id;
    let Some(token) = tokens.find(is_wanted) else {
        return error(StatusCode::NOT_FOUND, "no such join token");
    };
    token.is_revoked = true;
    StatusCode::NO_CONTENT.into_response()
}
