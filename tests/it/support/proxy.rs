//! An HTTP proxy between the broker and the engine, that counts calls and can be switched off.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Shared {
    target: String,
    http: reqwest::Client,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    gate: Arc<Gate>,
    /// Operations whose next call is refused, each with the error.
    refusals: Arc<Mutex<BTreeMap<&'static str, &'static str>>>,
}

/// Holds calls back until it is opened.
#[derive(Default)]
pub struct Gate {
    /// The operation that is held back.
    shut_for: Mutex<Option<&'static str>>,
    arrived: Notify,
    opened: Notify,
}

impl Gate {
    async fn pass(&self, operation: &str) {
        let opened = self.opened.notified();
        let is_shut = *self.shut_for.lock().unwrap() == Some(operation);
        if is_shut {
            self.arrived.notify_one();
            opened.await;
        }
    }

    /// Waits until a call is held back.
    pub async fn wait_for_one(&self) {
        self.arrived.notified().await;
    }

    pub fn let_go(&self) {
        *self.shut_for.lock().unwrap() = None;
        self.opened.notify_waiters();
    }
}

pub struct Proxy {
    address: SocketAddr,
    shared: Shared,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    /// Bound but not listening while switched off: connections are refused, and nobody else gets the port.
    reserved: Option<TcpSocket>,
}

impl Proxy {
    pub async fn to(target: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let shared = Shared {
            target: target.to_owned(),
            http,
            calls: Arc::default(),
            gate: Arc::default(),
            refusals: Arc::default(),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy = Self {
            address,
            shared,
            running: None,
            reserved: None,
        };
        proxy.serve(listener);
        proxy
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(&mut self, listener: TcpListener) {
        let stop = CancellationToken::new();
        let router = Router::new()
            .fallback(forward)
            .with_state(self.shared.clone());
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
                .unwrap();
        });
        self.running = Some((stop, task));
    }

    /// From now on connections are refused.
    pub async fn switch_off(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.cancel();
        task.await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.reserved = Some(socket);
    }

    pub fn switch_on(&mut self) {
        let listener = self.reserved.take().unwrap().listen(1024).unwrap();
        self.serve(listener);
    }

    /// From now on calls of this operation are held back.
    pub fn hold(&self, operation: &'static str) -> Arc<Gate> {
        *self.shared.gate.shut_for.lock().unwrap() = Some(operation);
        Arc::clone(&self.shared.gate)
    }

    /// The next call of this operation is answered with an error of DynamoDB's.
    pub fn refuse_once(&self, operation: &'static str, error: &'static str) {
        self.shared
            .refusals
            .lock()
            .unwrap()
            .insert(operation, error);
    }

    /// The calls since the last time, by operation.
    pub fn take_calls(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.shared.calls.lock().unwrap())
    }
}

async fn forward(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(body, usize::MAX).await.unwrap();
    let target = parts
        .headers
        .get("x-amz-target")
        .map_or("", |target| target.to_str().unwrap());
    let operation = target.rsplit('.').next().unwrap().to_owned();
    *shared
        .calls
        .lock()
        .unwrap()
        .entry(operation.clone())
        .or_default() += 1;
    shared.gate.pass(&operation).await;
    let refusal = shared.refusals.lock().unwrap().remove(operation.as_str());
    if let Some(error) = refusal {
        let body = format!(
            "{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{error}\",\"message\":\"test\"}}"
        );
        return (StatusCode::BAD_REQUEST, body).into_response();
    }
    let mut headers = parts.headers;
    headers.remove("host");
    let sent = shared
        .http
        .request(parts.method, &shared.target)
        .headers(headers)
        .body(body)
        .send()
        .await;
    let Ok(answer) = sent else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove("transfer-encoding");
    headers.remove("connection");
    match answer.bytes().await {
        Ok(body) => (status, headers, body).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
