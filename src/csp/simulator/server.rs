//! The HTTP server of the simulator.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path as UrlPath, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{delete, get},
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Call, Calls, Fault, FaultKind, SimulatedAccount, Simulator,
    accounts::ID_PREFIX,
    answer::{error, paged},
    services,
};

/// The path below which the simulator serves the CSP API, as the real one does.
const API_PATH: &str = "/v2";

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
    /// API, and for control `GET` and `POST` `/simulator/accounts`, `GET` and `PUT` `/simulator/faults`, and `GET`
    /// `/simulator/calls`. A request without the key is answered with 404.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(self, port: SimulatorPort, stop: CancellationToken) -> io::Result<()> {
        let api = Router::new()
            .route("/current_user/accounts", get(list_accounts))
            .route("/sandbox/accounts/{uuid}", delete(delete_account))
            .layer(middleware::from_fn_with_state(self.clone(), authorize));
        let control = Router::new()
            .route("/accounts", get(show_accounts).post(create_accounts))
            .route("/faults", get(show_faults).put(set_faults))
            .route("/calls", get(show_calls));
        let all = Router::new()
            .nest(API_PATH, api)
            .merge(services::routes(&self))
            .nest("/simulator", control);
        let router = Router::new()
            .nest(&format!("/{}", port.key), all)
            .with_state(self);
        // No graceful shutdown, which would wait for calls that hang.
        let serve = axum::serve(port.listener, router);
        tokio::select! {
            result = serve => result,
            () = stop.cancelled() => Ok(()),
        }
    }

    /// Counts a call, and serves it with the fault that applies to it, if any.
    pub(super) async fn serve_call(
        &self,
        call: Call,
        mut request: Request,
        next: Next,
    ) -> Response {
        let fault = {
            let mut inner = self.lock();
            let deleted = (call == Call::Delete)
                .then(|| inner.accounts.find(last_segment(&request)))
                .flatten();
            match call {
                Call::Delete => inner.calls.delete += 1,
                Call::Niosxaas => inner.calls.niosxaas += 1,
                Call::List | Call::Any => inner.calls.list += 1,
            }
            let fault = inner.faults.next(call, deleted);
            inner.calls.faulty += u64::from(fault.is_some());
            fault
        };
        match fault {
            None => next.run(request).await,
            Some(FaultKind::Status { code }) => error(
                StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                "simulated",
            ),
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
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                next.run(request).await
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
}

/// Requires an API token, then serves the call.
async fn authorize(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if token
        .and_then(|value| value.strip_prefix("Token "))
        .is_none_or(|token| token.trim().is_empty())
    {
        return error(
            StatusCode::UNAUTHORIZED,
            "the Authorization header must be 'Token <API token>'",
        );
    }
    let call = if request.method() == Method::DELETE {
        let uuid = last_segment(&request);
        if let Some(requests) = &mut simulator.lock().deletion_requests {
            requests.push((Instant::now(), format!("{ID_PREFIX}{uuid}")));
        }
        Call::Delete
    } else {
        Call::List
    };
    simulator.serve_call(call, request, next).await
}

fn last_segment(request: &Request) -> &str {
    let path = request.uri().path();
    path.rsplit('/').next().unwrap_or_default()
}

async fn list_accounts(State(simulator): State<Simulator>, request: Request) -> Response {
    let accounts: Vec<Value> = simulator
        .lock()
        .accounts
        .visible()
        .map(|account| json!(account))
        .collect();
    let fault = request.extensions().get();
    let results: Vec<Value> = match fault {
        Some(FaultKind::Duplicates) => accounts
            .iter()
            .flat_map(|account| [account.clone(), account.clone()])
            .collect(),
        Some(FaultKind::Broken) => {
            let mut mixed = vec![
                json!(null),
                json!("nonsense"),
                json!({"csp_id": {}}),
                json!({"name": "no id"}),
            ];
            mixed.extend(accounts);
            if let Some(last) = mixed.last_mut() {
                last["name"] = json!(null);
            }
            mixed
        }
        Some(FaultKind::Empty) => Vec::new(),
        Some(FaultKind::Halved) => accounts.into_iter().step_by(2).collect(),
        _ => accounts,
    };
    match fault {
        Some(FaultKind::Garbled) => garbled(results),
        _ => paged(results, &request),
    }
}

/// Answers a list whose first two names are not valid text.
fn garbled(mut accounts: Vec<Value>) -> Response {
    const MARKS: [&str; 2] = ["<half a surrogate pair>", "<not UTF-8>"];
    for (account, mark) in accounts.iter_mut().zip(MARKS) {
        account["name"] = json!(format!("lab {mark}"));
    }
    let list = json!({ "results": accounts }).to_string();
    let (before, after) = list.split_once(MARKS[1]).unwrap_or((&list, ""));
    let before = before.replace(MARKS[0], r"\ud83d");
    let body = [before.as_bytes(), b"\xff", after.as_bytes()].concat();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn delete_account(
    State(simulator): State<Simulator>,
    UrlPath(uuid): UrlPath<String>,
) -> Response {
    let mut inner = simulator.lock();
    let found = inner.accounts.find(&uuid);
    match found.map(|csp_id| inner.accounts.delete(csp_id)) {
        None => error(StatusCode::NOT_FOUND, "no such account"),
        Some(Ok(_)) => StatusCode::NO_CONTENT.into_response(),
        Some(Err(fault)) => error(StatusCode::INTERNAL_SERVER_ERROR, &fault.to_string()),
    }
}

async fn show_accounts(State(simulator): State<Simulator>) -> Json<Vec<SimulatedAccount>> {
    Json(simulator.accounts())
}

#[derive(Deserialize)]
struct CreateAccounts {
    count: u64,
}

async fn create_accounts(
    State(simulator): State<Simulator>,
    Json(body): Json<CreateAccounts>,
) -> Response {
    match simulator.add_accounts(body.count.min(1_000_000)) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(fault) => error(StatusCode::INTERNAL_SERVER_ERROR, &fault.to_string()),
    }
}

async fn show_faults(State(simulator): State<Simulator>) -> Json<Vec<Fault>> {
    Json(simulator.lock().faults.list())
}

async fn set_faults(
    State(simulator): State<Simulator>,
    Json(faults): Json<Vec<Fault>>,
) -> StatusCode {
    simulator.inject(faults);
    StatusCode::NO_CONTENT
}

async fn show_calls(State(simulator): State<Simulator>) -> Json<Calls> {
    Json(simulator.calls())
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn hidden_account_is_neither_listed_nor_deleted_until_it_is_shown() {
        let simulator = Simulator::new(2, 7);
        let account = simulator.accounts()[0].clone();
        let uuid = account.id.rsplit('/').next().unwrap().to_owned();
        let listed = async || {
            let list = list_accounts(State(simulator.clone()), Request::default()).await;
            let list = to_bytes(list.into_body(), usize::MAX).await.unwrap();
            serde_json::from_slice::<Value>(&list).unwrap()["results"].clone()
        };
        let delete = async || delete_account(State(simulator.clone()), UrlPath(uuid.clone())).await;
        assert!(simulator.rename(account.csp_id, "renamed"));
        assert_eq!(listed().await[0]["name"], "renamed");
        simulator.hide(account.csp_id, true);
        assert_eq!(listed().await.as_array().unwrap().len(), 1);
        assert_eq!(delete().await.status(), StatusCode::NOT_FOUND);
        simulator.hide(account.csp_id, false);
        assert_eq!(listed().await.as_array().unwrap().len(), 2);
        assert_eq!(delete().await.status(), StatusCode::NO_CONTENT);
        assert!(!simulator.rename(account.csp_id, "gone"));
    }
}
