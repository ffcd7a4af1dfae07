//! The HTTP server of the simulator.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{delete, get, post},
};
use futures_util::stream;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Call, FaultKind, Inner, Simulator, account_api, answer::error, api_keys, control,
    faults::Target, filter, generated::ID_PREFIX, join_tokens, services, sessions, users,
};

/// The path below which the simulator serves the CSP API, as the real one does.
const API_PATH: &str = "/v2";

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 1 << 20;

/// The delay of a call that hangs, longer than the time-out of any client.
const HANG: Duration = Duration::from_hours(1);

/// A port of the simulator, and the key with which the path of every request has to begin.
///
/// The key keeps out other users of the machine and web pages, which reach loopback ports too. It is part of the URL
/// because the clients of CSP and of NIOSXaaS then need to know nothing of it.
#[derive(Debug)]
pub struct SimulatorPort {
    listener: TcpListener,
    url: String,
    key: String,
}

impl SimulatorPort {
    /// Listens on `address`. Without a key, a random one is generated.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: SocketAddr, key: Option<&str>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let key = key.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned);
        Ok(Self {
            url: format!("http://{}/{key}", listener.local_addr()?),
            listener,
            key,
        })
    }

    /// Returns the URL with the key: `NIOSXAAS_BASE_URL`, and the start of `CSP_BASE_URL`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL for `CSP_BASE_URL`.
    #[must_use]
    pub fn csp_base_url(&self) -> String {
        format!("{}{API_PATH}", self.url)
    }
}

impl Simulator {
    /// Serves on `port` until `stop` is cancelled, below the port's key: the CSP API below `API_PATH`, the NIOSXaaS
    /// API, and the control below `/simulator`. A request without the key is answered with 404.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(self, port: SimulatorPort, stop: CancellationToken) -> io::Result<()> {
        let router = Router::new()
            .nest(&format!("/{}", port.key), self.routes())
            .with_state(self);
        // No graceful shutdown, which would wait for calls that hang.
        let serve = axum::serve(port.listener, router);
        tokio::select! {
            result = serve => result,
            () = stop.cancelled() => Ok(()),
        }
    }

    fn routes(&self) -> Router<Self> {
        let find_or_create = get(account_api::find_accounts).post(account_api::create_account);
        Router::new()
            .route("/v2/current_user/accounts", get(account_api::list_accounts))
            .route("/v2/sandbox/accounts", find_or_create)
            .route(
                "/v2/sandbox/accounts/{uuid}",
                delete(account_api::delete_account),
            )
            .route("/v2/session/users/sign_in", post(sessions::sign_in))
            .route("/v2/session/account_switch", post(sessions::switch))
            .merge(users::routes())
            .merge(api_keys::routes())
            .merge(join_tokens::routes())
            .merge(services::routes())
            .layer(middleware::from_fn_with_state(self.clone(), serve_call))
            .nest("/simulator", control::routes())
    }
}

impl Inner {
    /// Counts and records a call. Returns the fault that applies to it, if any.
    fn receive(&mut self, call: Call, request: &Request, body: &Value) -> Option<FaultKind> {
        self.calls.count(call);
        match call {
            Call::Create => self.creation_requests.record(text(body, "name")),
            Call::Delete => self.deletion_requests.record(resource_id(request)),
            _ => {}
        }
        let target = self.target(call, request, body);
        let fault = self.faults.next(call, &target);
        self.calls.faulty += u64::from(fault.is_some());
        fault
    }

    /// Returns the account that a call concerns.
    fn target(&self, call: Call, request: &Request, body: &Value) -> Target {
        let account = match call {
            Call::Create | Call::Find => {
                let name = match call {
                    Call::Create => Some(text(body, "name")),
                    _ => filter::wanted(request.uri(), "name").ok().flatten(),
                };
                return Target { csp_id: None, name };
            }
            Call::Delete => self.accounts.find(&resource_id(request)),
            Call::Switch => self.accounts.find(&text(body, "id")),
            Call::Groups | Call::Users | Call::ApiKeys | Call::JoinTokens | Call::Niosxaas => {
                self.account_of_request(request.headers())
            }
            Call::Any | Call::List | Call::SignIn => None,
        };
        account.map(Target::from).unwrap_or_default()
    }
}

fn text(body: &Value, attribute: &str) -> String {
    body[attribute].as_str().unwrap_or_default().to_owned()
}

/// Returns the resource id of the account that the path of a request names.
fn resource_id(request: &Request) -> String {
    let uuid = request.uri().path().rsplit('/').next();
    format!("{ID_PREFIX}{}", uuid.unwrap_or_default())
}

fn has_api_token(headers: &HeaderMap) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Token "))
        .is_some_and(|token| !token.trim().is_empty())
}

/// Authorizes a call of the API and serves it with the fault that applies to it, if any.
async fn serve_call(State(simulator): State<Simulator>, request: Request, next: Next) -> Response {
    let Some(call) = Call::of(request.method(), request.uri().path()) else {
        return next.run(request).await;
    };
    if call.needs_api_token() && !has_api_token(request.headers()) {
        return error(
            StatusCode::UNAUTHORIZED,
            "the Authorization header must be 'Token <API token>'",
        );
    }
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(fault) => return error(StatusCode::BAD_REQUEST, &fault.to_string()),
    };
    let json = serde_json::from_slice(&body).unwrap_or_default();
    let request = Request::from_parts(parts, Body::from(body));
    let fault = simulator.lock().receive(call, &request, &json);
    serve_with(fault, request, next).await
}

async fn serve_with(fault: Option<FaultKind>, mut request: Request, next: Next) -> Response {
    let failure = |code, message: &str| {
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        error(code, message)
    };
    match fault {
        None => next.run(request).await,
        Some(FaultKind::Status { code }) => failure(code, "simulated"),
        Some(FaultKind::Refuse { code, message }) => failure(code, &message),
        Some(FaultKind::LostAnswer { code }) => {
            next.run(request).await;
            failure(code, "simulated")
        }
        Some(FaultKind::RateLimit { retry_after_sec }) => {
            let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "simulated");
            if let Some(seconds) = retry_after_sec {
                answer
                    .headers_mut()
                    .insert(header::RETRY_AFTER, seconds.into());
            }
            answer
        }
        Some(FaultKind::Html) => {
            Html("<!doctype html><title>Sign in</title><p>Please sign in.").into_response()
        }
        Some(FaultKind::Answer { body }) => Json(body).into_response(),
        Some(FaultKind::Forget) => StatusCode::NO_CONTENT.into_response(),
        Some(FaultKind::Slow { delay_ms }) => {
            serve_later(Duration::from_millis(delay_ms), request, next)
                .await
                .unwrap_or_else(|fault| failure(500, &fault.to_string()))
        }
        Some(FaultKind::Hang) => {
            let answer = next.run(request).await;
            tokio::time::sleep(HANG).await;
            answer
        }
        Some(FaultKind::Reset) => {
            next.run(request).await;
            let broken_body: [Result<Bytes, io::Error>; 2] = [
                Ok(Bytes::from_static(b"{")),
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "simulated")),
            ];
            Response::new(Body::from_stream(stream::iter(broken_body)))
        }
        Some(
            list_fault @ (FaultKind::Duplicates
            | FaultKind::Broken
            | FaultKind::Empty
            | FaultKind::Halved
            | FaultKind::Garbled
            | FaultKind::Paged { .. }
            | FaultKind::FirstPage { .. }),
        ) => {
            request.extensions_mut().insert(list_fault);
            next.run(request).await
        }
    }
}

/// Serves a call after a delay. A client that disconnects does not cancel it.
#[expect(
    clippy::disallowed_methods,
    reason = "no shutdown waits for the calls of a simulator"
)]
fn serve_later(delay: Duration, request: Request, next: Next) -> JoinHandle<Response> {
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        next.run(request).await
    })
}
