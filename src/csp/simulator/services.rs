//! The simulated NIOSXaaS API: sign in, switch to an account, list and delete its services.
//!
//! Every second account has a service that a lab creates, and every fifth has one of another name.

use std::collections::{HashMap, HashSet};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Call, Simulator,
    answer::{error, paged},
};

const SERVICES: &str = "/api/universalinfra/v1/universalservices";

/// The state of a session.
#[derive(Clone, Debug)]
enum Session {
    SignedIn,
    SwitchedTo(String),
}

/// The open sessions and the deleted services.
#[derive(Debug, Default)]
pub(super) struct Services {
    sessions: HashMap<String, Session>,
    deleted: HashSet<String>,
}

pub(super) fn routes(simulator: &Simulator) -> Router<Simulator> {
    Router::new()
        .route("/v2/session/users/sign_in", post(sign_in))
        .route("/v2/session/account_switch", post(switch))
        .route(SERVICES, get(list))
        .route(&format!("{SERVICES}/{{uuid}}"), delete(delete_one))
        .layer(middleware::from_fn_with_state(
            simulator.clone(),
            serve_call,
        ))
}

async fn serve_call(State(simulator): State<Simulator>, request: Request, next: Next) -> Response {
    simulator.serve_call(Call::Niosxaas, request, next).await
}

impl Simulator {
    /// Ends every session, as if all tokens had expired.
    pub fn end_sessions(&self) {
        self.lock().services.sessions.clear();
    }

    /// Returns the remaining services, each with the `csp_id` of its account and its name.
    #[must_use]
    pub fn services(&self) -> Vec<(u64, &'static str)> {
        let inner = self.lock();
        let all = inner
            .accounts
            .all()
            .iter()
            .flat_map(|account| of_account(&account.id, account.csp_id));
        all.filter(|service| !inner.services.deleted.contains(&service.id))
            .map(|service| (service.csp_id, service.name))
            .collect()
    }

    /// Opens a session. Returns its token.
    fn open_session(&self, session: Session) -> String {
        let token = Uuid::new_v4().to_string();
        self.lock().services.sessions.insert(token.clone(), session);
        token
    }

    fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let token = headers
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?
            .strip_prefix("Bearer ")?;
        self.lock().services.sessions.get(token).cloned()
    }

    /// Returns the services of the account to which the session has switched.
    fn services_of_session(&self, headers: &HeaderMap) -> Option<Vec<Service>> {
        let Session::SwitchedTo(account) = self.session(headers)? else {
            return None;
        };
        let inner = self.lock();
        let csp_id = inner
            .accounts
            .all()
            .iter()
            .find(|known| known.id == account)?
            .csp_id;
        let left = of_account(&account, csp_id)
            .into_iter()
            .filter(|one| !inner.services.deleted.contains(&one.id));
        Some(left.collect())
    }
}

struct Service {
    id: String,
    name: &'static str,
    csp_id: u64,
}

fn of_account(account: &str, csp_id: u64) -> Vec<Service> {
    let uuid = account.rsplit('/').next().unwrap_or_default();
    let service = |name, number| Service {
        id: format!("infra/universal_service/{number}-{uuid}"),
        name,
        csp_id,
    };
    let of_lab = csp_id.is_multiple_of(2).then(|| service("Instrqt-SaaS", 1));
    let other = csp_id
        .is_multiple_of(5)
        .then(|| service("another-service", 2));
    of_lab.into_iter().chain(other).collect()
}

fn unauthorized() -> Response {
    error(StatusCode::UNAUTHORIZED, "sign in first")
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

async fn sign_in(
    State(simulator): State<Simulator>,
    Json(credentials): Json<Credentials>,
) -> Response {
    simulator.lock().calls.sign_ins += 1;
    if credentials.email.is_empty() || ["", "wrong"].contains(&credentials.password.as_str()) {
        return unauthorized();
    }
    Json(json!({ "jwt": simulator.open_session(Session::SignedIn) })).into_response()
}

#[derive(Deserialize)]
struct Switch {
    id: String,
}

async fn switch(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Json(switch): Json<Switch>,
) -> Response {
    if simulator.session(&headers).is_none() {
        return unauthorized();
    }
    if !simulator
        .accounts()
        .iter()
        .any(|account| account.id == switch.id)
    {
        return error(StatusCode::NOT_FOUND, "no such account");
    }
    Json(json!({ "jwt": simulator.open_session(Session::SwitchedTo(switch.id)) })).into_response()
}

async fn list(State(simulator): State<Simulator>, request: Request) -> Response {
    let Some(services) = simulator.services_of_session(request.headers()) else {
        return unauthorized();
    };
    let results: Vec<Value> = services
        .iter()
        .map(|service| json!({ "id": service.id, "name": service.name }))
        .collect();
    if results.is_empty() {
        // As CSP answers an empty list.
        return Json(json!({ "results": null })).into_response();
    }
    paged(results, &request)
}

async fn delete_one(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Path(uuid): Path<String>,
) -> Response {
    let Some(services) = simulator.services_of_session(&headers) else {
        return unauthorized();
    };
    match services
        .into_iter()
        .find(|service| service.id.rsplit('/').next() == Some(&uuid))
    {
        None => error(StatusCode::NOT_FOUND, "no such service"),
        Some(service) => {
            simulator.lock().services.deleted.insert(service.id);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}
